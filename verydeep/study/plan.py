"""Staged training: A first, deeper nets from A, larger S from smaller, jitter last (section 3.1)."""

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

from verydeep.config import Config, in_proportion
from verydeep.data.batches import bounds
from verydeep.errors import ConfigError, RunError
from verydeep.evaluate.views import Protocol, Scales
from verydeep.files.disk import read_sealed
from verydeep.net.saved import read_contract
from verydeep.paper import TABLE_1, TABLE_3
from verydeep.progress import Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.run import check_folder, has_state, read_config
from verydeep.study.claims import JITTER, WAYS
from verydeep.train.prepare import run_training
from verydeep.train.remember import finished_at, kept_split

FROM_A = ("B", "C", "D", "E")
FINE_TUNING = 10  # divides the rate of a stage that starts from the same net at another S


class Asked(NamedTuple):
    """What a study is to hold. which: the S that Table 3 has for each net, the `first` alone, or `all` for every net.

    Only so many of the first photos of the split are tested: by all tests, and in crops. None is all.
    """

    nets: Sequence[str]
    seeds: Sequence[int] = (0,)
    which: Literal["table3", "first", "all"] = "table3"
    tuning_epochs: int | None = None
    crops_photos: int | None = None
    test_photos: int | None = None


class Stage(NamedTuple):
    """One net trained at one S from one seed: a run folder."""

    name: str  # of the folder, such as D-54-seed0
    way: str  # what the paper's S was: 256, 384 or [256;512]
    config: Config  # without init_from, which names a folder
    parent: str | None  # the stage whose best net it starts from; None: random weights

    @property
    def net(self) -> str:
        return self.config.net

    @property
    def test_scale(self) -> int:
        """Q of the tests at one scale: S, or the middle of a jittered one (section 4.1)."""
        return sum(self.config.scales) // 2


def stages(asked: Asked, base: Config) -> list[Stage]:
    """The stages that are asked for, one seed after the other, each after its parent.

    base: everything but net, S, rate, seed and start; its `scale` is S = 256 of the paper, 384 becomes 1.5 S,
    [256;512] [S; 2S]. A joins where a deeper net needs it. Stages that start from the same net have a tenth of the
    rate and the same epochs, or `tuning_epochs` with drops and steps in the same proportion (open). Raises ConfigError.
    """
    if not asked.nets or not asked.seeds or len(set(asked.seeds)) < len(asked.seeds):
        raise ConfigError("nets and seeds: give at least one of each, no seed twice")
    if not isinstance(base.scale, int):
        raise ConfigError(f"scale: {base.scale_text} is jittered; give one number S, for S, 1.5 S and [S; 2S]")
    if base.init_from:
        raise ConfigError("init_from: the stages say themselves where each net starts; leave it out")
    epochs = base.epochs if asked.tuning_epochs is None else asked.tuning_epochs
    drop_at = in_proportion(base.drop_at, base.epochs, epochs)
    steps = base.steps and max(1, round(base.steps * epochs / base.epochs))
    tuned = replace(base, lr=base.lr / FINE_TUNING, epochs=epochs, drop_at=drop_at, steps=steps)
    needed = {*asked.nets, *(["A"] if set(asked.nets) & set(FROM_A) else [])}
    s = base.scale
    scales: dict[str, int | tuple[int, int]] = dict(zip(WAYS, (s, s * 3 // 2, (s, 2 * s)), strict=True))
    found = []
    for seed, net in product(asked.seeds, [net for net in TABLE_1 if net in needed]):
        in_table = [way for n, way, *_ in TABLE_3 if n == net] or WAYS[:1]
        ways = {"first": WAYS[:1], "table3": in_table, "all": WAYS}[asked.which if net in asked.nets else "first"]
        recipe, parent = base, f"A-{s}-seed{seed}" if net in FROM_A else None
        for way in ways:
            config = replace(recipe, net=net, scale=scales[way], seed=seed)
            name = f"{net}-{config.scale_text.strip('[]').replace(';', '-')}-seed{seed}"
            found.append(Stage(name, way, config, parent))
            recipe, parent = tuned, name  # the next S starts from this net
    return found


def lasting(plan: Sequence[Stage], photos: int) -> list[Stage]:
    """The stages with `steps` spelled as epochs of so many training photos."""
    return [s._replace(config=s.config.lasting(len(bounds(photos, s.config.batch)))) for s in plan]


def run_stages(
    data: str, plan: Sequence[Stage], out: Path, download: bool = False, progress: Progress | None = None,
    ranks: Ranks = ALONE, split: Path | None = None,
) -> dict[str, str]:  # fmt: skip
    """Trains DATA stage by stage into folders under `out`, or goes on where it stopped; why each ended, by its name.

    `split` is the manifest of a split that was drawn for all stages; without it each seed draws its own. Raises what
    `run_training` raises; after a signal the same call goes on.
    """
    progress, ends = progress or Progress(), dict[str, str]()
    for stage in plan:  # a folder that does not fit is told before hours are spent on another
        check_stage(stage, data, out)
    for i, stage in enumerate(plan, 1):
        c, folder = stage.config, out / stage.name
        if not (ended := finished_at(folder)):
            if ranks.first:
                what = f"net {stage.net} at S = {c.scale_text}, lr {c.lr:g}, from {stage.parent or 'random weights'}"
                print(f"stage {i} of {len(plan)}: {stage.name}, {what}", file=sys.stderr, flush=True)
            ended = run_training(data, at_work(stage, out), folder, download, progress, ranks, split)
        ends[stage.name] = ended
    return ends


def at_work(stage: Stage, out: Path) -> Config:
    """The configuration with the folder it starts from; a begun run keeps that name when the folder moves."""
    if stage.parent is None:
        return stage.config
    begun = read_config(out / stage.name).init_from if has_state(out / stage.name) else None
    return replace(stage.config, init_from=begun or str(out / stage.parent))


def check_stage(stage: Stage, data: str, out: Path) -> None:
    """Raises RunError for a folder of another configuration or data, or from other weights than its parent has now."""
    folder = out / stage.name
    check_folder(folder, at_work(stage, out))
    kept_split(folder, data)
    if stage.parent is None or not has_state(folder):
        return
    then = read_sealed(folder / "run.json").get("started_from", {}).get("sha256")
    if then != (now := read_contract(out / stage.parent / "best.safetensors").sha256):
        raise RunError(
            f"{folder} was started from weights {str(then)[:12]}, but {out / stage.parent} now has {now[:12]}; "
            f"remove {folder} to train it anew, or give another --out"
        )


def finished_before(plan: Sequence[Stage], config: Config, asked: Asked, out: Path, photos: int) -> list[Stage]:
    """Finished stages of earlier calls that this one does not ask for."""
    seeds = {int(m[1]) for f in out.iterdir() if (m := re.fullmatch(r".+-seed(\d+)", f.name))}
    every = stages(asked._replace(nets=list(TABLE_1), seeds=sorted(seeds), which="all"), config) if seeds else []
    asked_for = {s.name for s in plan}
    return [s for s in lasting(every, photos) if s.name not in asked_for and finished_at(out / s.name)]


class Trial(NamedTuple):
    """What `evaluate` is asked for a study: models that see the photos together, and are fused where they are two."""

    stages: tuple[Stage, ...]
    protocols: tuple[Protocol, ...]
    scales: Scales
    limit: int | None = None


def trials(trained: Sequence[Stage], photos: int | None = None, crops: int | None = None) -> list[Trial]:
    """The tests of Tables 3 to 6, and of the three ways to train over the test scale.

    Every net by a centre crop and densely at one and at several Q; jittered D and E also in crops and fused; nets
    trained at all three S densely at each of S, 1.5 S and 2 S. On the first `photos` alone, and in crops on `crops`.
    """
    jittered = [s for s in trained if s.way == JITTER and s.net in ("D", "E")]
    found = [Trial((s,), ("centre", "dense"), "several", photos) for s in trained if s not in jittered]
    for seed in dict.fromkeys(s.config.seed for s in jittered):
        together = tuple(s for s in jittered if s.config.seed == seed)
        if crops is not None:  # the other tests see more photos
            found.append(Trial(together, ("centre", "dense"), "several", photos))
        found.append(
            Trial(together, ("centre", "dense", "crops", "both"), "several", photos if crops is None else crops)
        )
    for s in trained:
        family = [other for other in trained if (other.net, other.config.seed) == (s.net, s.config.seed)]
        if {other.way for other in family} == set(WAYS):
            q = min(other.config.scales[0] for other in family)
            found += [Trial((s,), ("dense",), (n,), photos) for n in (q, q * 3 // 2, 2 * q) if n != s.test_scale]
    return found
