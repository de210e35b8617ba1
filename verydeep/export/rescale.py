"""Rescaling as products of matrices, so that every format rescales as Pillow does, to the bit, whatever its own way is.

Each direction has a matrix: for each pixel of the result a triangle over those of the photo, as wide as two of the
larger pixels (Pillow's bilinear filter), in whole 2^-22 as Pillow has them. Float32 holds whole numbers below 2^24, so
the matrix is taken apart into three, of a byte each, and of their products the carries are added up. In graphs it is
itself made of whole numbers, by long division, as OpenVINO takes float64 for float32.
"""

from typing import Any

import torch
from torch import Tensor, sym_max, sym_min

from verydeep.engines import Node

FLOAT, DOUBLE = 1, 11  # of ONNX
UNIT, BYTE = 1 << 22, 256
DIGITS = 16, 16, 16, 16, 16, 4  # of a unit
HIGH = UNIT // BYTE**2  # a unit, two bytes less


def rescaling(scale: int) -> list[Node]:
    """Nodes from pixels N x 3 x H x W of 0-255, by the name of `colours_first`, to such of smallest side Q."""
    made = list[Node]()

    def add(kind: str, *inputs: str, **attributes: Any) -> str:
        made.append(Node(f"rescale_{len(made)}", kind, {}, attributes, inputs))
        return made[-1].name

    def number(value: float, kind: int) -> str:
        return add("Cast", add("Constant", value_float=float(value)), to=kind)

    def apart(x: str, unit: str) -> tuple[str, str]:
        """How often a unit is in whole numbers, and what is left."""
        whole = add("Floor", add("Div", x, unit))
        return whole, add("Sub", x, add("Mul", whole, unit))

    def digit(left: str, times: float, divisor: str) -> tuple[str, str]:
        """What is left of whole numbers times so many by a divisor: how often it goes into them, and the rest."""
        left = add("Mul", left, number(times, DOUBLE))
        times_in = add("Floor", add("Div", add("Add", left, half), divisor))  # half: far from where rounding decides
        return times_in, add("Sub", left, add("Mul", times_in, divisor))

    zero, half, one, two, q, wide, byte = (number(x, DOUBLE) for x in (0, 0.5, 1, 2, scale, BYTE**2, BYTE))
    small, high, low = (number(x, FLOAT) for x in (BYTE, HIGH, HIGH // 2))
    second = add("Constant", value_ints=[1])
    sides = add("Cast", add("Shape", "colours_first", start=2, end=4), to=DOUBLE)
    short = add("ReduceMin", sides, keepdims=0)
    results, rest = digit(add("Add", add("Mul", sides, add("Mul", q, two)), short), 1, add("Mul", short, two))
    odd = add("Sub", one, add("Min", rest, one))
    results = add("Sub", results, add("Mul", odd, digit(results, 1, two)[1]))  # of two the even one
    x = "colours_first"
    for axis in (1, 0):
        at = add("Constant", value_int=axis)
        given, wanted = add("Gather", sides, at), add("Gather", results, at)
        # distances in parts, of which a pixel of the photo has 2 x wanted, and one of the result 2 x given
        pixels, centres = (
            add("Mul", add("Add", add("Mul", add("Range", zero, n, one), two), one), other)
            for n, other in ((given, wanted), (wanted, given))
        )
        far = add("Abs", add("Sub", pixels, add("Unsqueeze", centres, second)))
        left = add("Max", add("Sub", add("Mul", add("Max", given, wanted), two), far), zero)
        divisor, share = add("ReduceSum", left, second, keepdims=1), zero
        for times in DIGITS:
            found, left = digit(left, times, divisor)
            share = add("Add", add("Mul", share, number(times, DOUBLE)), found)
        share = add("Add", share, digit(left, 2, divisor)[0])
        most, rest = apart(share, wide)
        parts = [add("Cast", part, to=FLOAT) for part in (most, *apart(rest, byte))]
        a, b, c = (
            add("MatMul", x, add("Transpose", part, perm=[1, 0])) if axis else add("MatMul", part, x) for part in parts
        )
        b = add("Add", b, apart(c, small)[0])
        a = add("Add", a, apart(b, small)[0])
        x = add("Floor", add("Div", add("Add", a, low), high))
    return made


def rescaled(x: Tensor, scale: int) -> Tensor:
    """The same in torch, of sides that torch.export does not know."""
    height, width = x.shape[2:]
    short = sym_min(height, width)  # type: ignore[no-untyped-call]
    for axis, side in ((1, width), (0, height)):
        parts = matrices(side, rounded(side * scale, short))
        a, b, c = (x @ part.T if axis else part @ x for part in parts)
        a = a + ((b + (c / BYTE).floor()) / BYTE).floor()
        x = ((a + HIGH // 2) / HIGH).floor()
    return x


def rounded(product: Any, divisor: Any) -> Any:
    """The whole number rounded to a fraction, the even one of two, as Python rounds."""
    found, left = (2 * product + divisor) // (2 * divisor), (2 * product + divisor) % (2 * divisor)
    return found - (1 - sym_min(left, 1)) * (found % 2)  # type: ignore[no-untyped-call]


def matrices(given: Any, wanted: Any) -> list[Tensor]:
    """How much of each pixel of a line goes into each of the result, wanted x given, the highest of three bytes first.

    In the order of Pillow's operations, whose rounding decides where a share is half of 2^-22.
    """
    step = given / wanted
    centres = (torch.arange(wanted, dtype=torch.float64) + 0.5) * step
    far = torch.arange(given, dtype=torch.float64) - centres[:, None] + 0.5
    share = (1 - (far * (1 / sym_max(step, 1.0))).abs()).clamp(min=0)  # type: ignore[no-untyped-call]
    share = (share / share.sum(1, keepdim=True) * UNIT + 0.5).floor()
    bytes_of = [share // BYTE**2, share % BYTE**2 // BYTE, share % BYTE]
    return [part.float() for part in bytes_of]
