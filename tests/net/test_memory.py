"""Frozen blocks remembered or made anew say the same bits, levelled convolutions the same maps but for a factor."""

import pytest
import torch

from verydeep.data.reading import Room
from verydeep.net.initialise import level
from verydeep.net.inside import Memory
from verydeep.net.vgg import VGG


@pytest.fixture
def net():
    torch.manual_seed(0)
    made = VGG("B", classes=3, crop=32, fc_width=8, base_width=8)
    made.freeze("pool4")
    return made


@pytest.mark.parametrize("bytes", [0, 5 * 64 * 2 * 2 * 4, 1 << 30])
def test_remembered_or_made_anew_the_same_bits(net, bytes):
    x, seen = torch.randn(21, 3, 32, 32), []
    blocks = net.blocks[: net.still]

    def work(x):
        seen.append(len(x))
        return net.through(blocks, x)

    honest, memory = Memory(Room(0))(work, x), Memory(Room(bytes))
    assert torch.allclose(honest, net.through(blocks, x), atol=1e-6)
    seen.clear()
    for rows in (torch.arange(21), torch.tensor([20, 3, 3, 0]), torch.randperm(21)):
        assert torch.equal(memory(work, x[rows]), honest[rows])
    assert len(memory.kept) == min(21, bytes // (64 * 2 * 2 * 4))
    assert set(seen) == {8}  # in groups of one size
    assert len(seen) == {0: 3 + 1 + 3, 1 << 30: 3}.get(bytes, 3 + 1 + 2)


def test_what_is_remembered_gets_no_gradient_and_the_rest_does(net):
    net.memory = Memory(Room(1 << 20))
    for _ in range(2):
        net.zero_grad()
        net(torch.ones(2, 3, 32, 32)).sum().backward()
        assert net.conv4_2.weight.grad is None
        assert net.conv5_1.weight.grad.abs().sum() > 0


def test_levelled_convolutions_are_of_size_one_and_say_the_same():
    torch.manual_seed(1)
    net, x = VGG("D", classes=3, crop=64, fc_width=8, base_width=8).double(), 80 * torch.randn(4, 3, 64, 64).double()
    for layer in net.convolutions():
        torch.nn.init.normal_(layer.bias, 0, 30)
        layer.weight.data.mul_(3)
    names = [name for name in net.tap_names() if name.startswith("conv")]
    with torch.no_grad():
        before = net.taps(x, names)
        level(net, x)
        after = net.taps(x, names)
    for name, found in after.items():
        assert float(found.square().mean().sqrt()) == pytest.approx(1)
        factor = float(before[name].flatten()[7] / found.flatten()[7])
        assert torch.allclose(before[name], factor * found, rtol=1e-9, atol=1e-9 * factor)
