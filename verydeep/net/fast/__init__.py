"""Convolutions with a faster way for small maps in training on a CPU (docs/decisions/0003)."""

from verydeep.net.fast.convolution import Convolution, faster

__all__ = ["Convolution", "faster"]
