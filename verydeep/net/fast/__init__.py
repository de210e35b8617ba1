"""Faster ways in training on a CPU: convolutions of small maps (docs/decisions/0003), response normalisation."""

from verydeep.net.fast.convolution import Convolution, faster
from verydeep.net.fast.response_norm import ResponseNorm

__all__ = ["Convolution", "ResponseNorm", "faster"]
