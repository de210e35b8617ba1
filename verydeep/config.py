"""One frozen configuration. Every default is the paper's; (open) marks what the paper does not say."""

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from verydeep.colours import Reading
from verydeep.errors import ConfigError
from verydeep.fields import known
from verydeep.files.records import Count, Natural, NotNegative, Positive, Share, Some, Within, Workers
from verydeep.paper import BATCH, LEARNING_RATE
from verydeep.shape import Net, Shape
from verydeep.together import check_together

Level = Literal["top", "leaf", "names"]
MOST_PASSES = 300  # over a few photos, where a training has its length in steps


@dataclass(frozen=True, kw_only=True)
class Config(Reading):
    net: Net = "D"
    """Column of Table 1; shallow-B is the net of five 5x5 layers (sections 2.2, 4.1)."""
    crop: int = 224
    """Side of the square the net is trained on, a multiple of 32 (section 2.1)."""
    fc_width: Count = 4096
    """Channels of the first two fully connected layers (section 2.1)."""
    base_width: Count = 64
    """Channels of block 1; the others are 2, 4, 8 and 8 times as wide (section 2.1)."""
    batch_norm: bool = False
    """Batch normalisation after every convolution; the paper has none (2014)."""
    dropout: Share = 0.5
    """Probability of zeroing a value after the first two FC layers (section 3.1)."""
    pooling: Literal["up", "down"] = "up"
    """How max-pooling rounds odd sides: up as in Caffe, down as in PyTorch; equal at crop size (open)."""

    init: Literal["glorot", "gaussian", "he"] = "glorot"
    """Random weights: Glorot & Bengio, a fixed Gaussian, or He (section 3.1)."""
    init_variance: Positive | None = None
    """Variance of the Gaussian; the paper prints 1e-2, which is sigma 0.1 (section 3.1)."""
    init_sigma: Positive | None = None
    """Standard deviation of the Gaussian, instead of its variance; Caffe's AlexNet used 0.01."""
    init_from: str | None = None
    """Model to start from: a shallower net gives four convolutions and its FC layers, the same net all, both
    their mean (section 3.1)."""
    level: bool = False
    """Scale a start's convolutions so that each says values of size one, as new layers fit (open)."""
    freeze: str | None = None
    """Last layer that keeps the start's weights, with all before it: conv1_1 ... conv5_4, pool1 ... pool5, fc6 or
    fc7 (appendix A)."""

    scale: int | tuple[int, int] = 256
    """S, the smallest side after rescaling: one number, or [Smin, Smax] drawn per photo (section 3.1)."""
    flip: bool = True
    """Mirror each crop with probability one half (section 3.1)."""
    colour: Literal["root", "literal", "off"] = "root"
    """RGB shift along the principal components by the root of the eigenvalue, or by all of it (section 3.1)."""
    colour_sigma: NotNegative = 0.1
    """Standard deviation of the RGB shift's random factor (Krizhevsky 2012)."""
    draws: Count | None = None
    """Different crops of a photo in the whole training, for which frozen layers are computed once; null: another in
    every epoch (section 3.1)."""
    input_std: Positive | Literal["measured"] = 1.0
    """Divisor of the pixels less the mean: a number, or the spread of the photos; the paper has none, and at 1 a start
    keeps its own (section 2.1)."""

    val_share: Some = 0.1
    """Share of each class held out for validation where DATA has none (open)."""
    test_share: Share = 0.1
    """Share of each class held out for the test where DATA has no splits (open)."""
    groups: str | None = None
    """Photos kept in one split, by a column or pattern of paths; null: group, patient ... (open)."""
    classes: Level | None = None
    """Classes are folders at the top, those photos lie in, or words of file names; null: what is plain (open)."""
    corrections: str | None = None
    """A list of labels to mend and photos to leave out, as pages of runs and of check save it; null: none (open)."""
    most_photos: Count | None = None
    """Train on at most so many photos, of each class its share, the same for every seed (open)."""
    bad_photos: Literal["stop", "skip"] = "stop"
    """An unreadable photo stops the work, or is skipped and listed."""

    balance: Literal["none", "loss", "sampling"] = "none"
    """Rare classes count as much as frequent ones: by weights in the loss, or by more frequent photos (open)."""

    batch: Count = BATCH
    """Photos per step of gradient descent (section 3.1)."""
    accumulate: Annotated[int, Within(1, 1024)] = 1
    """Parts the batch is worked through in, to save memory; the step stays one (section 3.1)."""
    lr: Positive = LEARNING_RATE
    """Learning rate at the start (section 3.1)."""
    lr_features: Positive = 1.0
    """Factor of the rate for the convolutions (open; copied layers keep the full rate, section 3.1)."""
    lr_fc: Positive = 1.0
    """Factor of the rate for fc6 and fc7."""
    lr_last: Positive = 1.0
    """Factor of the rate for fc8, which is new where the classes are; fine-tuning often gives it 10."""
    momentum: Share = 0.9
    """Momentum of gradient descent (section 3.1)."""
    nesterov: bool = False
    """Nesterov's form of momentum (2013)."""
    weight_decay: NotNegative = 5e-4
    """L2 penalty on all weights and biases (section 3.1)."""
    label_smoothing: Share = 0.0
    """Share of each target that is spread over all classes (Szegedy 2016)."""
    epochs: Count = 74
    """Passes over the training photos at the most (section 3.1)."""
    repeats: Count = 1
    """Times an epoch shows each photo, in new crops (open)."""
    steps: Count | None = None
    """About so many steps in all: of few photos `repeats` becomes more, of many `epochs` less; null: no (open)."""
    schedule: Literal["drops", "one-cycle"] = "drops"
    """How the rate goes: in drops, or up over a fifth of the steps and then down to nothing, whose last epoch is kept
    (Smith 2018)."""
    patience: Count = 5
    """Epochs without improvement of the validation error before the rate drops (open)."""
    patience_steps: Natural = 0
    """Steps without improvement that must have passed as well (open)."""
    least_gain: NotNegative = 0.1
    """Improvement of the validation top-1 error that counts, in points (open)."""
    drops: Natural = 3
    """Times the rate drops; when the last rate stalls as well, training ends (section 3.1)."""
    drop_factor: Annotated[float, Within(1, above=True)] = 10.0
    """Divisor of the rate at each drop (section 3.1)."""
    drop_at: tuple[int, ...] = ()
    """Drop after these epochs instead of on the validation error."""

    seed: Natural = 0
    """Start of everything random: weights, order, crops, dropout, the split."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes a CUDA GPU when there is one; mps is Apple's."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of training; auto takes bf16 where that is faster."""
    threads: Count | None = None
    """Threads that compute on the CPU; null: as many as the machine has free when a run begins."""
    workers: Workers = -1
    """Threads that decode photos; -1 chooses, 0 decodes in the training thread."""
    reduced: bool = True
    """Decode JPEGs much larger than S at a fraction of their size: faster, pixels differ a little; in training only."""
    keep: Share = 0.25
    """Share of the free memory for decoded photos from epoch to epoch; 0 decodes them anew."""
    save_every: Count = 500
    """Steps between two saved states; the end of an epoch saves as well."""
    track: Literal["none", "tensorboard"] = "none"
    """Where metrics go besides metrics.jsonl; tensorboard needs the extra 'track'."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_together(self)

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

    def lasting(self, batches: int) -> "Config":
        """With `steps` spelled as repeats and epochs of so many batches: of two ways the one right to a tenth."""
        if self.steps is None:
            return self
        steps = min(self.steps, MOST_PASSES * batches)
        near = max(1, round(steps / (self.epochs * batches)))
        ways = [(r, min(self.epochs, max(1, round(steps / (r * batches))))) for r in (near, near + 1)]
        repeats, epochs = min(ways, key=lambda way: max(0.1, abs(way[0] * way[1] * batches / steps - 1)))
        return dataclasses.replace(
            self, steps=None, repeats=repeats, epochs=epochs, drop_at=in_proportion(self.drop_at, self.epochs, epochs)
        )

    @property
    def steps_down(self) -> int:
        """Number of drops that the schedule may make."""
        return len(self.drop_at) or self.drops


def in_proportion(drop_at: tuple[int, ...], epochs: int, others: int) -> tuple[int, ...]:
    """The epochs after which the rate drops in a training of another length."""
    return tuple(e for e in sorted({round(e * others / epochs) for e in drop_at}) if 0 < e < others)


def plain(config: Config) -> dict[str, Any]:
    """The configuration as YAML and JSON spell it: pairs are lists."""
    return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}


def from_plain(values: dict[str, Any], where: str, kind: type[Config] = Config) -> Config:
    """A Config from parsed YAML or JSON; `where` names the file in the error."""
    try:
        return kind(**known(values, kind))
    except ConfigError as e:
        raise ConfigError(f"{where}: {e}") from e
