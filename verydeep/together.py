"""Which values of a configuration cannot be trained together."""

from typing import Any

from verydeep.errors import ConfigError
from verydeep.paper import STRIDE


def check_together(c: Any) -> None:
    """Raises ConfigError where values of a Config contradict each other, naming the fields."""
    low, high = c.scales
    gaussian = " and ".join(n for n in ("init_variance", "init_sigma") if getattr(c, n) is not None)
    near = max(STRIDE, round(c.crop / STRIDE) * STRIDE)
    rules = [
        (c.crop > 0 and c.crop % STRIDE == 0,
         f"crop: {c.crop} is not a multiple of {STRIDE}; the nets halve it five times, try {near}"),
        (low <= high, f"scale: [{low}, {high}] runs backwards; give [Smin, Smax]"),
        (low >= c.crop,
         f"scale and crop: S = {low} is below the crop of {c.crop}; no crop fits, try --scale {c.crop * 8 // 7}"),
        (c.val_share + c.test_share < 1, "val_share and test_share: together they leave no photo to train on"),
        (c.accumulate <= c.batch, f"accumulate and batch: {c.batch} photos cannot be cut into {c.accumulate} parts"),
        ("and" not in gaussian, "init_variance and init_sigma: they say the same thing; give one of them"),
        (not gaussian or c.init == "gaussian",
         f"init and {gaussian}: {c.init} sets its own spread; add --init gaussian"),
        (not c.freeze or bool(c.init_from),
         f"freeze and init_from: random {c.freeze} would never learn; 'verydeep train --from MODEL' names a start"),
        (not (c.level and c.batch_norm),
         "level and batch_norm: normalised layers fit whatever follows them; leave level out"),
        (list(c.drop_at) == sorted({e for e in c.drop_at if 0 < e < c.epochs}),
         f"drop_at and epochs: {list(c.drop_at)} {drops_fitting(c.epochs)}"),
    ]  # fmt: skip
    for holds, message in rules:
        if not holds:
            raise ConfigError(message)


def drops_fitting(epochs: int) -> str:
    """What drop_at must be, and what to try."""
    none = "--drop_at '[]', for drops by the validation error"
    if epochs == 1:
        return f"must be empty, as a drop after the only epoch changes nothing; give {none}"
    return f"must rise and lie between 1 and {epochs - 1}; give --drop_at {3 * epochs // 4} too, or {none}"
