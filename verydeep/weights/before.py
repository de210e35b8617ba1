"""What a graph does to pixels before its first convolution, found by doing it to a few pixels.

Whatever chain of operations it is, photos of one colour each tell its mean and standard deviation, and a photo of
chance that there is no more to it. Keras' and ONNX' operations are one table.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verydeep.weights.inputs import Input
from verydeep.weights.shapes import Unlike

Values = NDArray[Any]
LARGEST = 10_000  # numbers of a value: those of the probe are 150
NAMES = {
    "truedivide": "divide", "truediv": "divide", "div": "divide", "mul": "multiply", "sub": "subtract",
    "neg": "negative", "addv2": "add", "biasadd": "add", "reverse": "flip", "concat": "concatenate", "gather": "take",
}  # fmt: skip
TWO: dict[str, Callable[[Any, Any], Any]] = {
    "divide": np.divide, "multiply": np.multiply, "subtract": np.subtract, "add": np.add, "maximum": np.maximum,
    "minimum": np.minimum,
}  # fmt: skip
SAME = {"cast", "identity", "converttotensor", "inputlayer", "dropout"}


def probe() -> Values:
    """5 x 2 x 5 x 3 pixels, channels last: black, red, green, blue, and values of chance."""
    photos = np.zeros((5, 2, 5, 3))
    for colour in range(3):
        photos[colour + 1, ..., colour] = 255
    photos[4] = np.random.default_rng(0).integers(0, 256, photos.shape[1:])
    return photos


def done(name: str, given: Sequence[Any], axis: int | None = None) -> Any:
    """The value of an operation, by any of its names. Raises Unlike for one that is not known."""
    name = name.lower().replace("_", "")
    name = NAMES.get(name, name)
    with np.errstate(all="ignore"):
        if name in TWO:
            found = TWO[name](given[0], given[1])
        elif name == "negative":
            found = -given[0]
        elif name == "getitem":
            found = given[0][given[1]]
        elif name == "flip" and axis is not None:
            found = np.flip(given[0], axis)
        elif name in ("stack", "concatenate") and axis is not None:
            found = (np.stack if name == "stack" else np.concatenate)(given[0], axis)
        elif name == "take" and axis is not None:
            found = np.take(given[0], np.asarray(given[1], dtype=int), axis)
        elif name == "transpose" and len(given) > 1:
            found = np.transpose(given[0], given[1])
        elif name in SAME:
            found = given[0]
        else:
            raise Unlike(f"what {name} does to pixels is not known")
    if np.size(found) > LARGEST:
        raise Unlike(f"{name} makes too much of them")
    return found


def input_after(found: Any) -> Input | None:
    """The input of which the probe became this, channels last; None where nothing was done to it. Raises Unlike.

    A negative std stands for a colour turned upside down.
    """
    values, first = np.asarray(found, dtype=np.float64), probe()
    if values.shape != first.shape or not np.isfinite(values).all():
        raise Unlike("the layers before its first convolution make something else than three colours of a photo")
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
    raise Unlike("the layers before its first convolution are no mean and standard deviation of colours")
