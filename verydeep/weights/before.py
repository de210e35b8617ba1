"""What a graph does to pixels before its first convolution, found by doing it to a few.

Photos of one colour each tell its mean and standard deviation, one of chance that there is no more to it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verydeep.files.tensors import cut
from verydeep.weights.inputs import Input
from verydeep.weights.shapes import Unlike

MOST = 1_000  # numbers of a value: those of the probe are 150


def sliced(x: Any, begins: Any, ends: Any, axes: Any, steps: Any) -> Any:
    cuts = [slice(None)] * np.ndim(x)
    for axis, *bounds in np.broadcast(axes, begins, ends, steps):
        cuts[axis] = slice(*bounds)
    return x[tuple(cuts)]


# By all names, in small letters without _: what takes its operands alone, and what takes an axis behind them
PLAIN: dict[str, Callable[..., Any]] = {
    "divide truedivide truediv div": np.divide, "multiply mul": np.multiply, "subtract sub": np.subtract,
    "add addv2 biasadd": np.add, "maximum": np.maximum, "minimum": np.minimum, "negative neg": np.negative,
    "getitem": lambda x, where: x[where], "slice": sliced, "transpose": lambda x, order: np.transpose(x, order),
    "unsqueeze": lambda x, axes: np.expand_dims(x, tuple(np.atleast_1d(axes).tolist())),
    "cast identity converttotensor": lambda x, *_: x,
}  # fmt: skip
ALONG: dict[str, Callable[..., Any]] = {
    "flip reverse": np.flip, "stack": np.stack, "concat concatenate": np.concatenate,
    "take gather": lambda x, which, axis: np.take(x, np.asarray(which, dtype=int), axis),
}  # fmt: skip


def done(name: str, given: Sequence[Any], axis: int | None = None) -> Any:
    """The value of an operation, by any of its names. Raises Unlike for one that is not known, and why not."""
    if why := next((one for one in given if isinstance(one, Exception)), None):
        raise why
    name = name.lower().replace("_", "")
    if any(np.size(one) > MOST for one in given):
        raise Unlike(f"{name} takes more than a mean")
    for table, more in ((PLAIN, []), (ALONG, [axis])):
        if function := next((table[names] for names in table if name in names.split()), None):
            with np.errstate(all="ignore"):
                return function(*given, *more)
    raise Unlike(f"what {name} does to pixels is not known")


def probe() -> NDArray[Any]:
    """5 x 2 x 5 x 3 pixels, channels last: black, red, green, blue, and values of chance."""
    photos = np.zeros((5, 2, 5, 3))
    for colour in range(3):
        photos[colour + 1, ..., colour] = 255
    photos[4] = np.random.default_rng(0).integers(0, 256, photos.shape[1:])
    return photos


def told(value_of: Callable[[], Any]) -> tuple[Input | None, str]:
    """What became of the probe says of the input, or why that is not understood."""
    try:
        return input_after(value_of()), ""
    except (LookupError, TypeError, ValueError, AttributeError) as e:
        return None, cut(e)


def input_after(found: Any) -> Input | None:
    """The input of which the probe became this, channels last; None where nothing was done to it. Raises Unlike.

    A negative std stands for a colour turned upside down.
    """
    values, first = np.asarray(found, dtype=np.float64), probe()
    if values.shape != first.shape or not np.isfinite(values).all():
        raise Unlike("its first layers make something else than three colours of a photo")
    if np.array_equal(values, first):
        return None
    offset = values[0, 0, 0]
    slopes = (values[1:4, 0, 0] - offset) / 255  # of what becomes of red, green and blue
    for order, turned in (("RGB", slopes), ("BGR", slopes[::-1])):
        factors = np.diagonal(turned)
        if np.count_nonzero(turned) == 3 and factors.all():
            again = (first if order == "RGB" else first[..., ::-1]) * factors + offset
            mean, std = (tuple(map(float, colours)) for colours in (-offset / factors, 1 / factors))
            if np.allclose(again, values, rtol=1e-5, atol=1e-5 * np.abs(values).max()) and max(map(abs, mean)) <= 255:
                return Input(order, mean, std)  # type: ignore[arg-type]  # three of each
    raise Unlike("its first layers are no mean and standard deviation of colours")
