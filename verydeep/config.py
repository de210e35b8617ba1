"""One frozen configuration. Every default is the paper's; (open) marks what the paper does not say."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from verydeep.errors import ConfigError
from verydeep.paper import BATCH, LEARNING_RATE, STRIDE, TABLE_1
from verydeep.shape import Shape

MOST_PARTS = 1024  # each part of a step has a dropout seed of its own

# What may differ when a run goes on: nothing that was computed so far would have been computed otherwise.
FREE_FIELDS = frozenset({"workers", "save_every", "track", "bad_photos", "keep"})


@dataclass(frozen=True)
class Config:
    net: Literal["A", "A-LRN", "B", "C", "D", "E", "shallow-B"] = "D"
    """Column of Table 1; shallow-B is the net of five 5x5 layers (sections 2.2, 4.1)."""
    crop: int = 224
    """Side of the square the net is trained on, a multiple of 32 (section 2.1)."""
    fc_width: int = 4096
    """Channels of the first two fully connected layers (section 2.1)."""
    base_width: int = 64
    """Channels of block 1; the others are 2, 4, 8 and 8 times as wide (section 2.1)."""
    batch_norm: bool = False
    """Batch normalisation after every convolution; the paper has none (2014)."""
    dropout: float = 0.5
    """Probability of zeroing a value after the first two FC layers (section 3.1)."""
    pooling: Literal["up", "down"] = "up"
    """How max-pooling rounds odd sides: up as in Caffe, down as in PyTorch; equal at crop size (open)."""

    init: Literal["glorot", "gaussian", "he"] = "glorot"
    """Random weights: Glorot & Bengio, a fixed Gaussian, or He (section 3.1)."""
    init_variance: float | None = None
    """Variance of the Gaussian; the paper prints 1e-2, which is sigma 0.1 (section 3.1)."""
    init_sigma: float | None = None
    """Standard deviation of the Gaussian, instead of its variance; Caffe's AlexNet used 0.01."""
    init_from: str | None = None
    """Model to start from: a shallower net gives four convolutions and its FC layers, the same net all, both their mean (section 3.1)."""
    freeze: str | None = None
    """Last layer that keeps the start's weights, with all before it: conv1_1 ... conv5_4, pool1 ... pool5, fc6 or fc7 (appendix A)."""

    scale: int | tuple[int, int] = 256
    """S, the smallest side after rescaling: one number, or [Smin, Smax] drawn per photo (section 3.1)."""
    flip: bool = True
    """Mirror each crop with probability one half (section 3.1)."""
    colour: Literal["root", "literal", "off"] = "root"
    """RGB shift along the principal components by the root of the eigenvalue, or by the eigenvalue itself (section 3.1)."""
    colour_sigma: float = 0.1
    """Standard deviation of the RGB shift's random factor (Krizhevsky 2012)."""
    input_std: float = 1.0
    """Divisor of the pixels after the mean is subtracted; the paper does not divide, and at 1 a start keeps its own (section 2.1)."""

    val_share: float = 0.1
    """Share of each class held out for validation where DATA has no validation split (open)."""
    test_share: float = 0.1
    """Share of each class held out for the test where DATA has no splits at all (open)."""
    most_photos: int | None = None
    """Train on at most so many photos, of each class its share, the same for every seed; for short studies (open)."""
    bad_photos: Literal["stop", "skip"] = "stop"
    """An unreadable photo stops the work and is named, or is skipped, counted and listed."""

    balance: Literal["none", "loss", "sampling"] = "none"
    """Rare classes count as much as frequent ones: by weights in the loss, or by showing their photos more often (open)."""

    batch: int = BATCH
    """Photos per step of gradient descent (section 3.1)."""
    accumulate: int = 1
    """Parts the batch is worked through in, to save memory; the step stays one (section 3.1)."""
    lr: float = LEARNING_RATE
    """Learning rate at the start (section 3.1)."""
    lr_features: float = 1.0
    """Factor of the rate for the convolutions (open; copied layers keep the full rate, section 3.1)."""
    lr_fc: float = 1.0
    """Factor of the rate for fc6 and fc7."""
    lr_last: float = 1.0
    """Factor of the rate for fc8, which is new where the classes are; fine-tuning often gives it 10."""
    momentum: float = 0.9
    """Momentum of gradient descent (section 3.1)."""
    weight_decay: float = 5e-4
    """L2 penalty on all weights and biases (section 3.1)."""
    epochs: int = 74
    """Passes over the training photos at the most (section 3.1)."""
    patience: int = 5
    """Epochs without improvement of the validation error before the rate drops (open)."""
    least_gain: float = 0.1
    """Improvement of the validation top-1 error that counts, in percentage points (open)."""
    drops: int = 3
    """Times the rate drops; when the last rate stalls as well, training ends (section 3.1)."""
    drop_factor: float = 10.0
    """Divisor of the rate at each drop (section 3.1)."""
    drop_at: tuple[int, ...] = ()
    """Drop after these epochs instead of on the validation error, for short runs of known length."""

    seed: int = 0
    """Start of everything random: weights, order, crops, dropout, the split."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a CUDA GPU when there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto takes bf16 where the hardware multiplies it faster."""
    workers: int = -1
    """Threads that decode photos; -1 chooses, 0 decodes in the training thread."""
    reduced: bool = True
    """Decode JPEGs much larger than S at a fraction of their size: faster, pixels differ a little; in training only."""
    keep: float = 0.25
    """Share of the free memory in which decoded photos may stay from epoch to epoch; 0 decodes them anew."""
    save_every: int = 500
    """Steps between two saved states; the end of an epoch saves as well."""
    track: Literal["none", "tensorboard"] = "none"
    """Where metrics go besides metrics.jsonl; tensorboard needs the extra 'track'."""

    def __post_init__(self) -> None:
        if isinstance(self.scale, list):  # how YAML spells a pair
            object.__setattr__(self, "scale", tuple(self.scale))
        if isinstance(self.drop_at, list):
            object.__setattr__(self, "drop_at", tuple(self.drop_at))
        check(self)

    def shape(self, classes: int) -> Shape:
        return Shape(self.net, classes, self.crop, self.fc_width, self.base_width, self.batch_norm, self.pooling)

    @property
    def scales(self) -> tuple[int, int]:
        """(Smin, Smax), equal where S is fixed."""
        return self.scale if isinstance(self.scale, tuple) else (self.scale, self.scale)

    @property
    def scale_text(self) -> str:
        """S as the paper writes it: 256 or [256;512]."""
        return str(self.scale) if isinstance(self.scale, int) else f"[{self.scale[0]};{self.scale[1]}]"

    @property
    def steps_down(self) -> int:
        """Number of drops that the schedule may make."""
        return len(self.drop_at) or self.drops


def check(c: Config) -> None:
    """Raises ConfigError for a value or a combination that cannot be trained, naming the fields."""
    require(c.net in tuple(TABLE_1), f"net: {c.net!r} is not one of the paper's; try one of {', '.join(TABLE_1)}")
    for name, kind in get_type_hints(Config).items():
        expected = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
        require(fits(getattr(c, name), kind), f"{name}: {getattr(c, name)!r} is of another kind; expected {expected}")
    require(
        c.crop > 0 and c.crop % STRIDE == 0,
        f"crop: {c.crop} is not a multiple of {STRIDE}; the nets halve it five times, try {near_multiple(c.crop)}",
    )
    for name in ("fc_width", "base_width", "batch", "accumulate", "epochs", "patience", "save_every"):
        require(getattr(c, name) >= 1, f"{name}: {getattr(c, name)} is too small; it must be 1 or more")
    for name in ("weight_decay", "least_gain", "colour_sigma", "drops", "seed"):
        require(getattr(c, name) >= 0, f"{name}: {getattr(c, name)} is negative; it must be 0 or more")
    for name in ("lr", "input_std", "lr_features", "lr_fc", "lr_last"):
        require(getattr(c, name) > 0, f"{name}: {getattr(c, name)} is not above 0")
    for name in ("dropout", "momentum", "val_share", "test_share", "keep"):
        require(0 <= getattr(c, name) < 1, f"{name}: {getattr(c, name)} is outside [0, 1)")
    require(
        c.most_photos is None or c.most_photos >= 1, f"most_photos: {c.most_photos} is too small; it must be 1 or more"
    )
    require(c.seed < 1 << 63, f"seed: {c.seed} is too large; it must be below 2**63")
    require(c.val_share > 0, "val_share: 0 leaves nothing to steer the learning rate by; try 0.1")
    require(c.val_share + c.test_share < 1, "val_share and test_share: together they leave no photo to train on")
    require(c.drop_factor > 1, f"drop_factor: {c.drop_factor} would not lower the rate; the paper divides by 10")
    require(c.workers >= -1, f"workers: {c.workers} is not a number of threads; -1 chooses")
    require(
        c.freeze is None or bool(c.init_from),
        f"freeze and init_from: random weights up to {c.freeze} would never learn; add --from MODEL",
    )
    low, high = c.scales
    require(low <= high, f"scale: [{low}, {high}] runs backwards; give [Smin, Smax]")
    require(
        low >= c.crop,
        f"scale and crop: S = {low} is smaller than the crop of {c.crop}; no crop would fit, try --scale {c.crop * 8 // 7}",
    )
    require(c.accumulate <= c.batch, f"accumulate and batch: {c.batch} photos cannot be cut into {c.accumulate} parts")
    require(c.accumulate <= MOST_PARTS, f"accumulate: {c.accumulate} is too large; it must be {MOST_PARTS} or less")
    gaussian = [n for n in ("init_variance", "init_sigma") if getattr(c, n) is not None]
    require(len(gaussian) < 2, "init_variance and init_sigma: they say the same thing; give one of them")
    require(
        not gaussian or c.init == "gaussian",
        f"init and {gaussian[0] if gaussian else ''}: {c.init} sets its own spread; add --init gaussian",
    )
    require(all(getattr(c, n) > 0 for n in gaussian), f"{' '.join(gaussian)}: must be above 0")
    require(
        list(c.drop_at) == sorted(set(c.drop_at)) and all(0 < e < c.epochs for e in c.drop_at),
        f"drop_at and epochs: {list(c.drop_at)}, which a recipe may have set, {drops_fitting(c.epochs)}",
    )


def drops_fitting(epochs: int) -> str:
    """What drop_at must be, and what to try."""
    none = "--drop_at '[]', for drops by the validation error"
    if epochs == 1:
        return f"must be empty, as a drop after the only epoch changes nothing; give {none}"
    return f"must rise and lie between 1 and {epochs - 1}; give --drop_at {3 * epochs // 4} too, or {none}"


def fits(value: object, kind: Any) -> bool:
    """Whether a value is of a field's kind; YAML and callers from Python can give anything."""
    inner = get_args(kind)
    if get_origin(kind) is Literal:
        return value in inner
    if get_origin(kind) is UnionType:
        return any(fits(value, k) for k in inner)
    if get_origin(kind) is tuple:
        kinds = inner[:1] * len(value) if isinstance(value, tuple) and inner[-1] is ... else inner
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(fits, value, kinds))
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def require(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


def near_multiple(side: int) -> int:
    return max(STRIDE, round(side / STRIDE) * STRIDE)


def plain(config: Config) -> dict[str, Any]:
    """The configuration as YAML and JSON spell it: pairs are lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}


def different_fields(a: Config, b: Config) -> list[str]:
    """Names of the fields that make two runs two different runs."""
    return [
        f.name
        for f in dataclasses.fields(Config)
        if f.name not in FREE_FIELDS and getattr(a, f.name) != getattr(b, f.name)
    ]


def from_plain(values: dict[str, Any], where: str) -> Config:
    """A Config from parsed YAML or JSON; `where` names the file in the error."""
    known = {f.name for f in dataclasses.fields(Config)}
    unknown = sorted(str(name) for name in set(values) - known)
    require(not unknown, f"{where}: unknown fields {', '.join(unknown)}; 'verydeep train --help' lists the known ones")
    try:
        return Config(**values)
    except ConfigError as e:
        raise ConfigError(f"{where}: {e}") from e


class WithoutAliases(yaml.SafeLoader):
    """A few lines of aliases of aliases would say a thousand million values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("a configuration has no aliases")
        return super().compose_node(parent, index)
