"""`evaluate`: several models on the same photos by several protocols, each alone and fused (sections 3.2 and 4.4)."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from verydeep.config import Level
from verydeep.data.said import class_by_class, data_lines
from verydeep.errors import DataError, ModelError
from verydeep.evaluate import results
from verydeep.evaluate.classify import Entrant, entrant, tally
from verydeep.evaluate.judge import main_test
from verydeep.evaluate.lists import write_lists
from verydeep.evaluate.passes import Settings, settled
from verydeep.evaluate.posteriors import SavedModel, is_posteriors, read_posteriors
from verydeep.evaluate.sample import (
    Sample,
    check_fusible,
    class_numbers,
    folder_of,
    is_main,
    photos_for,
    seen_in_training,
)
from verydeep.evaluate.saving import Saving
from verydeep.evaluate.views import Protocol, Scales, Step, components, ladder
from verydeep.net.classifier import Classifier
from verydeep.progress import Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.weights import load

PLAINLY = Settings()


def evaluate_models(
    models: Sequence[str], data: str, protocols: Sequence[Protocol] = ("centre", "dense"), scales: Scales = "single",
    split: str | None = None, settings: Settings = PLAINLY, *,
    limit: int | None = None, save: Path | None = None, download: bool = False, again: bool = True,
    ranks: Ranks = ALONE, progress: Progress | None = None, classes: Level | None = None,
    corrections: str | Path | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """The records of a test: for each model the steps of the ladder, then those of their fusion.

    models: run folders, model files, built-in names, and files that `save` wrote. limit: only the first photos of the
    split. The records of runs are kept in their results folders and, without `again`, taken from there if all of them
    are there and weights, photos and settings are the same. Raises ConfigError, DataError, ModelError, RunError.
    """
    steps = ladder(protocols, scales)
    entrants = [e for name in models for e in entrants_of(name, steps, scales, settings)]
    check_fusible(entrants)
    settings = settled(settings, [e.source for e in entrants if isinstance(e.source, Classifier)])
    with ranks.first_alone():
        opened, sample = photos_for(entrants, data, split, limit, download, classes, corrections)
    numbers = [class_numbers(opened.classes, data, e.contract.classes, e.name) for e in entrants]
    before = None if again or save is not None else results.kept(entrants, sample, settings)
    if all(ranks.gather(before is not None)) and before is not None:  # nobody writes before all have looked
        return before
    for line in data_lines(opened) if again and ranks.first else ():  # who comes from a training has heard it
        print(line, file=sys.stderr)
    if sample.split == "all" and ranks.first:
        names = ", ".join(dict.fromkeys(e.name for e in entrants))
        note = f"{data} has no splits, so all its photos are tested; {names} may have been trained on some of them"
        print(f"note: {note}", file=sys.stderr)
    whole = opened.splits.get(sample.split)  # of saved posteriors a run knows the split
    if ranks.first and whole and (said := class_by_class(whole, sample.limit)):
        print(f"note: {said}; leave --limit out for figures to quote", file=sys.stderr)
    for name in dict.fromkeys(e.name for e in entrants if ranks.first):
        if seen := seen_in_training(name, sample):
            note = f"warning: {name} was trained on {seen:,} of these {len(sample.photos):,} photos, so its errors"
            print(f"{note} and those of a fusion with it are too few", file=sys.stderr)
    progress = progress or Progress("auto" if ranks.first else "none")
    found = run_through(entrants, sample, numbers, settings, save, ranks, progress)
    if ranks.first:
        results.keep(entrants, sample, settings, found)
    return found


def run_through(
    entrants: Sequence[Entrant], sample: Sample, numbers: Sequence[npt.NDArray[np.int64]], settings: Settings,
    save: Path | None, ranks: Ranks, progress: Progress,
) -> list[dict[str, Any]]:  # fmt: skip
    """The pass itself, and the saved file."""
    photos, labels, steps = sample.photos, sample.photos.targets(), list(entrants[0].steps)
    targets = [torch.from_numpy(n[labels]) for n in numbers]
    label = ", ".join(dict.fromkeys(s.protocol for s in steps))
    with progress.bar(len(photos), label + (f" of {len(entrants)} models" if len(entrants) > 1 else "")) as advance:
        tell = lambda n: advance(n * ranks.size, "")  # noqa: E731
        if save is None:
            found = tally(entrants, photos, targets, settings, tell, ranks)
        else:
            with Saving(save, [e.contract for e in entrants], steps, ranks) as saving:
                found = tally(entrants, photos, targets, settings, tell, ranks, saving.add)
                made_of = [(m, e, s) for m, e in enumerate(entrants) for s in steps]
                how = {(m, s): results.how_made(e, m, s, settings, found) for m, e, s in made_of}
                saving.finish(photos.keys, targets[0].numpy(), sample.about(), [e.name for e in entrants], how)
    for m, e in enumerate(entrants if ranks.first else ()):
        if isinstance(e.source, Classifier) and (run := folder_of(e.name)) and is_main(sample, run):
            names = [e.contract.classes[n] for n in numbers[m]]
            main = main_test([(s.protocol, [v.scale for v in e.steps[s]], e.contract.crop) for s in steps])
            write_lists(run, photos, found.scores[m, steps[main]], e.contract.classes, names)
    if len(found.skipped) == len(photos):
        raise DataError(f"{sample.data}: none of the {len(photos)} photos of {sample.split} could be read")
    return results.records(entrants, sample, settings, found)


def entrants_of(name: str, steps: Sequence[Step], scales: Scales, settings: Settings) -> list[Entrant]:
    """The models of MODEL: one, or those whose posteriors a file holds."""
    if name.startswith("builtin:") or not is_posteriors(Path(name)):
        return [entrant(name, load(name), steps, scales)]
    return [saved_entrant(name, m, steps, scales, settings) for m in read_posteriors(Path(name))]


def saved_entrant(name: str, saved: SavedModel, steps: Sequence[Step], scales: Scales, settings: Settings) -> Entrant:
    """A model whose posteriors were saved, if they are of the test that is asked for. Raises ModelError."""
    for step in steps:
        if step not in saved.how:
            there = ", ".join(map(str, saved.how))
            raise ModelError(f"{name} has no posteriors of {saved.name} for {step}; it has {there}")
        views, how = components(step, saved.contract, scales), saved.how[step]._asdict()
        asked = {
            "scales": tuple(sorted({v.scale for v in views})), "mirror": settings.mirrored(step.protocol),
            "average": settings.average, "pooling": settings.pooling or saved.contract.pooling,
        }  # fmt: skip
        if other := next((f for f in asked if how[f] != asked[f]), None):
            raise ModelError(
                f"{name}: its posteriors of {saved.name} for {step} were made with {other} {how[other]}, "
                f"not {asked[other]}; ask for what it has, or give the model itself"
            )
    return Entrant(saved.name, saved.contract, saved, dict.fromkeys(steps, ()))
