"""`evaluate`: several models on the same photos by several protocols, each alone and fused (sections 3.2 and 4.4)."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from verydeep.contract import class_key
from verydeep.data.record import DataSet
from verydeep.data.source import location, open_data, read_places
from verydeep.errors import ConfigError, DataError, ModelError
from verydeep.evaluate import results
from verydeep.evaluate.evaluation import DEFAULTS, Entrant, Settings, entrant, tally
from verydeep.evaluate.posteriors import SavedModel, is_posteriors, read_posteriors
from verydeep.evaluate.protocol import Protocol, Scales, Step, components, steps
from verydeep.evaluate.results import Sample
from verydeep.evaluate.saving import Saving
from verydeep.files.disk import read_json
from verydeep.progress import Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.weights import load
from verydeep.words import several

Numbers = npt.NDArray[np.int64]


def evaluate_models(
    models: Sequence[str], data: str, protocols: Sequence[Protocol] = ("centre", "dense"), scales: Scales = "single",
    split: str | None = None, settings: Settings = DEFAULTS, *,
    limit: int | None = None, save: Path | None = None, download: bool = False, again: bool = True,
    ranks: Ranks = ALONE, progress: Progress | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """The records of a test: for each model the steps of the ladder, then those of their fusion.

    models: run folders, model files, built-in names, and files that `save` wrote. limit: only the first photos of the split.
    The records of runs are kept in their results folders and, without `again`, taken from there if all of them are there
    and weights, photos and settings are the same. Raises ConfigError, DataError, ModelError, RunError.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit: {limit} is too small; it must be 1 or more")
    if settings.batch < 1:
        raise ConfigError(f"batch: {settings.batch} is too small; it must be 1 or more")
    ladder = steps(protocols, scales)
    entrants = [e for name in models for e in entrants_of(name, ladder, scales, settings)]
    check_classes(entrants)
    with ranks.first_alone():
        opened, sample = photos_for(entrants, data, split, limit, download)
    numbers = [class_numbers(opened.classes, data, e.contract.classes, e.name) for e in entrants]
    before = None if again or save is not None else results.kept(entrants, sample, settings)
    if all(ranks.gather(before is not None)) and before is not None:  # nobody writes before all have looked
        return before
    if sample.split == "all" and ranks.first:
        names = ", ".join(dict.fromkeys(e.name for e in entrants))
        print(
            f"note: {data} has no splits, so all its photos are tested; {names} may have been trained on some of them",
            file=sys.stderr,
        )
    found = run_through(
        entrants, sample, numbers, settings, save, ranks, progress or Progress("auto" if ranks.first else "none")
    )
    if ranks.first:
        results.keep(entrants, sample, settings, found)
    return found


def run_through(
    entrants: Sequence[Entrant], sample: Sample, numbers: Sequence[Numbers], settings: Settings,
    save: Path | None, ranks: Ranks, progress: Progress,
) -> list[dict[str, Any]]:  # fmt: skip
    """The pass itself, and the saved file."""
    photos, labels = sample.photos, sample.photos.targets()
    targets, label = (
        [torch.from_numpy(n[labels]) for n in numbers],
        ", ".join(dict.fromkeys(s.protocol for s in entrants[0].steps)),
    )
    if len(entrants) > 1:
        label += f" of {len(entrants)} models"
    with progress.bar(len(photos), label) as advance:
        tell = lambda n: advance(n * ranks.size, "")  # noqa: E731
        if save is None:
            found = tally(entrants, photos, targets, settings, tell, ranks)
        else:
            with Saving(save, entrants, ranks) as saving:
                found = tally(entrants, photos, targets, settings, tell, ranks, saving.add)
                facts = {
                    (m, s): results.facts(e, m, s, settings, found) for m, e in enumerate(entrants) for s in e.steps
                }
                saving.finish(photos.keys, targets[0].numpy(), sample.about(), facts)
    if len(found.skipped) == len(photos):
        raise DataError(f"{sample.data}: none of the {len(photos)} photos of {sample.split} could be read")
    return results.records(entrants, sample, settings, found)


def entrants_of(name: str, ladder: Sequence[Step], scales: Scales, settings: Settings) -> list[Entrant]:
    """The models of MODEL: one, or those whose posteriors a file holds."""
    if name.startswith("builtin:") or not is_posteriors(Path(name)):
        return [entrant(name, load(name), ladder, scales)]
    return [saved_entrant(name, m, ladder, scales, settings) for m in read_posteriors(Path(name))]


def saved_entrant(name: str, saved: SavedModel, ladder: Sequence[Step], scales: Scales, settings: Settings) -> Entrant:
    """A model whose posteriors were saved, if they are of the test that is asked for. Raises ModelError."""
    for step in ladder:
        if step not in saved.facts:
            raise ModelError(
                f"{name} has no posteriors of {saved.name} for {step}; it has {', '.join(map(str, saved.facts))}"
            )
        views, facts = components(step, saved.contract, scales), saved.facts[step]
        asked = {
            "scales": sorted({v.scale for v in views}), "mirror": settings.mirrors(step.protocol), "average": settings.average,
            "pooling": settings.pooling or saved.contract.pooling,
        }  # fmt: skip
        if other := next((f for f in asked if facts[f] != asked[f]), None):
            raise ModelError(
                f"{name}: its posteriors of {saved.name} for {step} were made with {other} {facts[other]}, not {asked[other]}; "
                f"ask for what it has, or give the model itself"
            )
    return Entrant(saved.name, saved.contract, saved, dict.fromkeys(ladder, ()))


def check_classes(entrants: Sequence[Entrant]) -> None:
    """Models that are fused know the same classes, in whatever order; of ImageNet's the synsets count. Raises DataError."""
    first, *others = ([(class_key(c), c) for c in e.contract.classes] for e in entrants)
    for e, own in zip(entrants[1:], others, strict=True):
        for one, mine, other, theirs in ((entrants[0], first, e, own), (e, own, entrants[0], first)):
            known = {key for key, _ in theirs}
            if strange := sorted(c for key, c in mine if key not in known):
                raise DataError(
                    f"{one.name} knows the class {strange[0]!r:.60} and {other.name} does not, so their posteriors cannot be averaged; "
                    "test them one at a time"
                )
        if len({key for key, _ in own}) < len(own) and [key for key, _ in own] != [key for key, _ in first]:
            raise DataError(
                f"{e.name} has two classes of one name, so its posteriors cannot be averaged with others; test it alone"
            )


def class_numbers(classes: Sequence[str], data: str, known: Sequence[str], model: str) -> Numbers:
    """The model's number of each class of the data, int64. Raises DataError if the model lacks one, or has two that are called so."""
    keys = [class_key(c) for c in known]
    number = {key: i for i, key in enumerate(keys)}
    if strange := [c for c in classes if class_key(c) not in number]:
        unnamed = keys == [f"class {i}" for i in range(len(keys))]
        advice = (
            "; its file does not name them, and verydeep.weights.read.read_foreign(FILE, classes=NAMES).save('named.safetensors') "
            "makes a model that does, NAMES in the order of its outputs"
        )
        raise DataError(
            f"{model}: {data} has the class {strange[0]!r:.60}, which the model does not know; it knows "
            f"{', '.join(repr(c)[1:-1][:40] for c in known[:6])}{', ...' if len(known) > 6 else ''}{advice if unnamed else ''}"
        )
    often = Counter(keys)
    if twice := next((c for c in classes if often[class_key(c)] > 1), None):
        raise DataError(
            f"{model} has {often[class_key(twice)]} classes called {twice!r:.60}, so photos of {data} cannot be told to be of one"
        )
    return np.array([number[class_key(c)] for c in classes], np.int64)


def photos_for(
    entrants: Sequence[Entrant], data: str, split: str | None, limit: int | None, download: bool
) -> tuple[DataSet, Sample]:
    """The photos that all models are tested on: those that their runs held out, where DATA itself has no splits.

    Raises DataError where runs held out different photos, or a file holds the posteriors of others.
    """
    found: dict[str, tuple[DataSet, Sample]] = {}
    saved = [e for e in entrants if isinstance(e.source, SavedModel)]
    for e in entrants:
        if e not in saved and e.name not in found and (run := run_of(e.name, data)) is not None:
            found[e.name] = chosen(open_data(data, split=run / "split.csv"), data, split, limit)
    if not found:
        opened = open_data(data, download=download)
        alone = len(saved) == len(entrants) and split is None
        found[data] = (
            (opened, cut(those_of(saved[0], opened, data), limit)) if alone else chosen(opened, data, split, limit)
        )
    (first, (opened, sample)), *others = found.items()
    for name, (_, other) in others:
        if other.fingerprint() != sample.fingerprint():
            raise DataError(
                f"{first} and {name} held out different photos of {data}, so their results cannot be compared or fused; "
                "train them on data with splits of its own, or with the same seed and shares"
            )
    for e in saved:
        same_photos(e, opened, sample)
    return opened, sample


def chosen(opened: DataSet, data: str, split: str | None, limit: int | None) -> tuple[DataSet, Sample]:
    name = split or default_split(opened)
    return opened, cut(Sample(data, name, opened.split(name), None), limit)


def cut(sample: Sample, limit: int | None) -> Sample:
    """Its first photos, if there is a limit below their number."""
    if limit is None:
        return sample
    return sample._replace(
        photos=sample.photos.take(np.arange(min(limit, len(sample.photos))), sample.split), limit=limit
    )


def those_of(entrant: Entrant, opened: DataSet, data: str) -> Sample:
    """The photos of DATA that a file holds posteriors of, in its order. Raises DataError for one that is not there."""
    assert isinstance(entrant.source, SavedModel)
    file = entrant.source.file
    for name in [n for n in (file.about["split"], "all") if n in opened.splits]:
        photos = opened.split(name)
        places = {key: i for i, key in enumerate(photos.keys)}
        ids = [places.get(key, -1) for key in file.keys]
        if min(ids) >= 0:
            return Sample(
                data,
                file.about["split"],
                photos.take(np.array(ids, np.int64), file.about["split"]),
                file.about["limit"],
            )
    raise DataError(
        f"{file.path} holds posteriors of {file.keys[0]!r:.200} and others that {data} does not have; give the data it was made with"
    )


def same_photos(entrant: Entrant, opened: DataSet, sample: Sample) -> None:
    """Raises DataError unless a saved file is of just these photos in this order, with these classes."""
    assert isinstance(entrant.source, SavedModel)
    file, photos = entrant.source.file, sample.photos
    if not (np.array_equal(file.keys.block, photos.keys.block) and np.array_equal(file.keys.ends, photos.keys.ends)):
        raise DataError(
            f"{file.path} holds the posteriors of {several(len(file.keys), 'photos')} of {file.about['split']}, and the test is of "
            f"{several(len(photos), 'photos')} of {sample.split}, not the same ones; the same split and --limit are needed"
        )
    if not np.array_equal(
        class_numbers(opened.classes, opened.name, file.classes, entrant.name)[photos.targets()], file.targets
    ):
        raise DataError(f"{file.path} was made when photos of {sample.data} had other classes; make it again")


def run_of(model: str, data: str) -> Path | None:
    """The run that a model is of, a folder or its best.safetensors, if DATA is what it was trained on."""
    path = Path(model).expanduser()
    run = path if path.is_dir() else path.parent
    return run if (run / "split.csv").exists() and (run / "run.json").exists() and holds(data, run) else None


def holds(data: str, run: Path) -> bool:
    """Whether DATA is what a run was trained on: there, moved elsewhere, or packed into shards, wherever all its photos are by name."""
    if read_json(run / "run.json").get("location") == location(data):
        return True
    if data.startswith("builtin:"):
        return False
    root, names = Path(data).expanduser(), read_places(run / "split.csv")
    if root.is_dir():
        return all((root / name).is_file() for name in names)
    return set(names) <= {key for photos in open_data(data).splits.values() for key in photos.keys}


def default_split(data: DataSet) -> str:
    """test, else val, else whatever there is."""
    return next((s for s in ("test", "val") if s in data.splits), next(iter(data.splits)))
