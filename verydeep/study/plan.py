"""Staged training: A first, deeper nets from A, larger S from smaller, jitter last (section 3.1)."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

from verydeep.config import Config
from verydeep.errors import ConfigError, RunError
from verydeep.evaluate.views import PROTOCOLS, Protocol, Scales
from verydeep.files.disk import read_sealed
from verydeep.net.classifier import read_contract
from verydeep.paper import TABLE_1, TABLE_3
from verydeep.progress import Progress
from verydeep.ranks import ALONE, Ranks
from verydeep.run import check_folder, has_state, read_config
from verydeep.study.claims import JITTER, WAYS
from verydeep.train.prepare import run_training
from verydeep.train.remember import finished_at, kept_split

FROM_A = ("B", "C", "D", "E")
FINE_TUNING = 10  # divides the rate of a stage that starts from the same net at another S
Which = Literal["table3", "first", "all"]


class Stage(NamedTuple):
    """One net trained at one S from one seed: a run folder."""

    name: str  # of the folder, such as D-54-seed0
    way: str  # what the paper's S was: 256, 384 or [256;512]
    config: Config  # without init_from, which names a folder
    parent: str | None  # the stage whose best net it starts from; None: random weights

    @property
    def net(self) -> str:
        return self.config.net


def stages(
    nets: Iterable[str], base: Config, seeds: Sequence[int] = (0,), which: Which = "table3",
    tuning_epochs: int | None = None,
) -> list[Stage]:  # fmt: skip
    """The stages for nets of Table 1, one seed after the other, each after its parent.

    base: everything but net, S, rate, seed and start; its `scale` is S = 256 of the paper, 384 becomes 1.5 S,
    [256;512] [S; 2S]. which: the S that Table 3 has for each net, the `first` alone, or `all` for every net. A joins
    where a deeper net needs it. Stages that start from the same net have a tenth of the rate and the same epochs, or
    `tuning_epochs` with drops in the same proportion (open). Raises ConfigError.
    """
    asked = list(dict.fromkeys(nets))
    if unknown := [net for net in asked if net not in TABLE_1]:
        raise ConfigError(f"nets: {unknown[0]!r} is not one of the paper's; give some of {','.join(TABLE_1)}")
    if not asked or not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError("nets and seeds: give at least one of each, no seed twice")
    if not isinstance(base.scale, int):
        raise ConfigError(f"scale: {base.scale_text} is jittered; give one number S, for S, 1.5 S and [S; 2S]")
    if base.init_from:
        raise ConfigError("init_from: the stages say themselves where each net starts; leave it out")
    needed = {*asked, *(["A"] if set(asked) & set(FROM_A) else [])}
    tuned = tuning(base, base.epochs if tuning_epochs is None else tuning_epochs)
    return [
        stage for seed in seeds for net in TABLE_1 if net in needed
        for stage in stages_of(net, base, tuned, seed, which if net in asked else "first")
    ]  # fmt: skip


def tuning(base: Config, epochs: int) -> Config:
    """The recipe of a stage that starts from the same net at another S."""
    drop_at = sorted({round(e * epochs / base.epochs) for e in base.drop_at})
    return replace(base, lr=base.lr / FINE_TUNING, epochs=epochs, drop_at=tuple(e for e in drop_at if 0 < e < epochs))


def stages_of(net: str, base: Config, tuned: Config, seed: int, which: Which) -> list[Stage]:
    """A net's stages at rising S."""
    in_table = {s for n, s, *_ in TABLE_3 if n == net} or {WAYS[0]}
    found: list[Stage] = []
    for way in {"first": WAYS[:1], "table3": [w for w in WAYS if w in in_table], "all": WAYS}[which]:
        scale = scale_here(base, way)
        parent = found[-1].name if found else stage_name("A", base.scale, seed) if net in FROM_A else None
        config = replace(tuned if found else base, net=net, scale=scale, seed=seed)  # type: ignore[arg-type]
        found.append(Stage(stage_name(net, scale, seed), way, config, parent))
    return found


def scale_here(base: Config, way: str) -> int | tuple[int, int]:
    """S of the paper in the proportion that the recipe's smallest S has to 256."""
    s = base.scales[0]
    return (s, 2 * s) if way == JITTER else s * int(way) // 256


def stage_name(net: str, scale: int | tuple[int, int], seed: int) -> str:
    spelled = f"{scale[0]}-{scale[1]}" if isinstance(scale, tuple) else str(scale)
    return f"{net}-{spelled}-seed{seed}"


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


class Limits(NamedTuple):
    """Only so many of the first photos of the split are tested: by all tests, and in crops. None is all."""

    photos: int | None = None
    crops: int | None = None


ALL = Limits()


class Trial(NamedTuple):
    """What `evaluate` is asked for a study: models that see the photos together, and are fused where they are two."""

    stages: tuple[Stage, ...]
    protocols: tuple[Protocol, ...]
    scales: Scales
    limit: int | None = None


def trials(trained: Sequence[Stage], limits: Limits = ALL) -> list[Trial]:
    """The tests of Tables 3 to 6, and of the three ways to train over the test scale.

    Every net by a centre crop and densely at one and at several Q; jittered D and E also in crops and fused, which may
    be limited to fewer photos; nets trained at all three S densely at each of S, 1.5 S and 2 S.
    """
    jittered = [s for s in trained if s.way == JITTER and s.net in ("D", "E")]
    found = [Trial((s,), ("centre", "dense"), "several", limits.photos) for s in trained if s not in jittered]
    for seed in dict.fromkeys(s.config.seed for s in jittered):
        together = tuple(s for s in jittered if s.config.seed == seed)
        if limits.crops is not None:  # the other tests see more photos
            found.append(Trial(together, ("centre", "dense"), "several", limits.photos))
        found.append(Trial(together, PROTOCOLS, "several", limits.photos if limits.crops is None else limits.crops))
    for s in trained:
        family = [other for other in trained if (other.net, other.config.seed) == (s.net, s.config.seed)]
        if {other.way for other in family} == set(WAYS):
            q, own = min(other.config.scales[0] for other in family), sum(s.config.scales) // 2
            found += [Trial((s,), ("dense",), (n,), limits.photos) for n in (q, q * 3 // 2, 2 * q) if n != own]
    return found
