"""What a run remembers of itself: its data, its split, what it was made with, and whether it has ended."""

import os
from functools import partial
from itertools import chain
from pathlib import Path

import torch

from verydeep.config import Config
from verydeep.data.manifest import write_split
from verydeep.data.record import DataSet
from verydeep.data.source import location, open_data
from verydeep.data.split import fewer
from verydeep.data.tree import listed
from verydeep.errors import RunError
from verydeep.evaluate.sample import paths_of
from verydeep.files.disk import read_sealed, write_atomically, write_sealed
from verydeep.hardware import machine
from verydeep.ranks import ALONE, Ranks
from verydeep.run import Run, corrections_of, has_state, read_config
from verydeep.train.schedule import LAST
from verydeep.train.state import read_state

ARITHMETIC = ("torch", "pillow", "threads", "gpu", "bf16", "ranks")  # what the bits of a result depend on


def kept_split(out: Path, data: str) -> Path | None:
    """The split that a run drew from DATA, if it did. Raises RunError if the run has other data."""
    if not has_state(out) or not (out / "run.json").exists():
        return None
    about, where, split = read_sealed(out / "run.json"), location(data), out / "split.csv"
    kept = split if split.exists() else None
    if (old := str(about.get("location"))) != where:
        c = read_config(out)
        now = open_data(data, split=kept, classes=c.classes, remembered=corrections_of(out))
        now = fewer(now, c.most_photos)
        if now.fingerprint() != about.get("fingerprint") or not moved(old, where, now):
            raise RunError(f"{out} was begun on {old}, not on {where}; give another --out")
    return kept


def kept_corrections(out: Path, asked: str | None) -> tuple[str | None, Path | None]:
    """The corrections that a run begins with, or goes on with. Raises RunError if others are asked for then."""
    if not has_state(out) or not (out / "run.json").exists():
        return asked, None
    kept, given = corrections_of(out), Path(asked).expanduser() if asked else None
    if given and given.is_file() and (not kept or given.read_bytes() != kept.read_bytes()):
        how = "with other corrections" if kept else "without corrections"
        raise RunError(f"{out} was begun {how}, not with {given}; give another --out")
    return None, kept


def moved(old: str, where: str, data: DataSet) -> bool:
    """Whether the photos of a run lie elsewhere now: all of them there, of the same sizes as where they were, if any
    are left there."""
    if not (os.path.isabs(old) and os.path.isabs(where)):
        return False
    left, size = os.path.exists(old), os.path.getsize
    pairs = (zip(paths_of(old, p), paths_of(where, p), strict=True) for p in data.splits.values())
    try:
        return all(size(b) == size(a if left else b) for a, b in chain.from_iterable(pairs))
    except OSError:
        return False


def remember(run: Run, data: DataSet, where: str, ranks: Ranks = ALONE, targets: str = "") -> None:
    """Writes what the run was trained on and with, or checks that it is still the same."""
    if not run.writes:
        return
    file, made_with = run.path / "run.json", machine() | {"ranks": ranks.size}
    found = {
        "data": data.name, "location": where, "fingerprint": data.fingerprint(),
        "photos": {s: len(p) for s, p in data.splits.items()}, "classes": list(data.classes), "made_with": made_with,
        **({"targets": targets} if targets else {}),
    }  # fmt: skip
    if not has_state(run.path):
        mended = [(m._asdict(), Path(m.file).read_bytes()) for m in data.corrections]
        for earlier in ("split.csv", "statistics.json", "skipped.csv", "metrics.jsonl", "corrections.csv"):
            (run.path / earlier).unlink(missing_ok=True)
        if data.held_out:
            write_atomically(run.path / "split.csv", partial(write_split, data))
        for said, content in mended:
            write_atomically(run.path / "corrections.csv", partial(Path.write_bytes, data=content))
            found["corrections"] = said
        write_sealed(file, found)
        corrections_of(run.path)
        return
    old = read_sealed(file)
    warn_of_other_machine(run, old.get("made_with", {}), made_with)
    if old.get("fingerprint") != found["fingerprint"]:
        photos = f"{old.get('photos')} then, {found['photos']} now"
        if new := [c for c in data.classes if c not in old.get("classes", ())]:
            photos += f", and new classes, {listed(new)}"
        again = f"restore them, or train anew on all that is there now: 'verydeep train {where} --out ANOTHER'"
        raise RunError(f"{run.path} was begun with other photos ({photos}); {again}")
    if old.get("targets", targets) != targets:
        raise RunError(f"{run.path} was begun with other boxes of the same photos; restore them, or give another --out")
    if (began := old.get("location")) != where:
        run.say(f"the photos of this run lie in {where} now, under the same names; it was begun on {began}")
        write_sealed(file, old | {"location": where, "data": data.name})


def threads_of(folder: Path) -> int | None:
    """With how many threads a run was begun, on which its bits depend, if this machine has them."""
    if not has_state(folder) or not (folder / "run.json").exists():
        return None
    begun = read_sealed(folder / "run.json").get("made_with", {}).get("threads")
    return begun if isinstance(begun, int) and 1 <= begun <= torch.get_num_threads() else None


def warn_of_other_machine(run: Run, then: dict[str, object], now: dict[str, object]) -> None:
    """Going on with other arithmetic works, but not to the same bits."""
    changes = [f"{k} ({then[k]} then, {now[k]} now)" for k in ARITHMETIC if k in then and then[k] != now[k]]
    if changes:
        at = read_state(run.path / "last").counters
        run.forget_after(at.step, at.epoch)  # and half a line of a killed process
        words = f"this run was begun with another {', '.join(changes)}; the result will not be the same bit for bit"
        run.note("warning", words, at.step, at.epoch)


def finished_at(folder: Path) -> str:
    """Why the training in a run folder ended, or '' where it has not."""
    return read_state(folder / "last").counters.finished if has_state(folder) else ""


def ended_early(folder: Path, config: Config) -> bool:
    """Whether a finished run had its last epoch, and more are asked for now."""
    counters = read_state(folder / "last").counters
    return counters.finished.endswith(LAST) and config.steps is None and counters.epoch < config.epochs


def judge(folder: Path, verdict: dict[str, object]) -> None:
    """Writes into a run what its test said of it, for whoever verifies its net."""
    write_sealed(folder / "run.json", read_sealed(folder / "run.json") | {"verdict": verdict})
