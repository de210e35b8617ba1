"""What the tests of both fast convolutions share: each against the direct one in fp64, whole and with frozen parts."""

import pytest
import torch
import torch.nn.functional as F


def noise(*shape, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


def both_ways(convolve, x, weight, bias, upstream):
    """(value, gradients) of a fast and of the direct convolution."""
    found = []
    for way in (convolve, lambda *given: F.conv2d(*given, padding=1)):
        given = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in (x, weight, bias)]
        y = way(*given)
        (y * upstream).sum().backward()
        found.append([y.detach(), *(t.grad for t in given)])
    return found


def check_frozen(module, side, learns, unneeded):
    """Frozen parts get no gradient, cost no call of what `unneeded` names by the parts it is for, and change no other gradient."""
    shapes = (3, 5, side, side), (6, 5, 3, 3), (6,)
    whole = [noise(*shape).requires_grad_() for shape in shapes]
    partly = [t.detach().clone().requires_grad_(needed) for t, needed in zip(whole, learns, strict=True)]
    upstream = noise(3, 6, side, side)
    module.convolve(*whole).backward(upstream)
    with pytest.MonkeyPatch.context() as patch:
        for needed, name in unneeded:
            if not any(learns[i] for i in needed):
                patch.setattr(module, name, None)  # a call would fail
        y = module.convolve(*partly)
        if any(learns):
            y.backward(upstream)
    for found, expected, needed in zip(partly, whole, learns, strict=True):
        assert torch.equal(found.grad, expected.grad) if needed else found.grad is None
