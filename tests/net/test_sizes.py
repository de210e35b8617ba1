"""Shapes, totals and receptive fields of the paper (sections 2.1 to 2.3)."""

import pytest

from verydeep.net.sizes import as_text, sizes, stack_weights
from verydeep.net.vgg import VGG


def rows(net, side=None, **options):
    return {row.name: row for row in sizes(VGG(net, device="meta", **options), side)}


def test_three_3x3_layers_see_7_as_one_of_7x7_does_that_costs_81_percent_more():
    assert stack_weights(3, 2, 1)[1] == rows("B")["conv1_2"].sees == 5
    assert stack_weights(3, 3, 64) == (27 * 64**2, 7)
    assert stack_weights(7, 1, 64) == (49 * 64**2, 7)
    assert round(100 * (49 / 27 - 1)) == 81


def test_shapes_of_net_d_at_224():
    found = rows("D")
    expected = {
        "conv1_2": (64, 224, 224), "pool1": (64, 112, 112), "conv2_2": (128, 112, 112), "pool2": (128, 56, 56),
        "conv3_3": (256, 56, 56), "pool3": (256, 28, 28), "conv4_3": (512, 28, 28), "pool4": (512, 14, 14),
        "conv5_3": (512, 14, 14), "pool5": (512, 7, 7), "fc6": (4096, 1, 1), "fc7": (4096, 1, 1), "fc8": (1000, 1, 1),
    }  # fmt: skip
    assert {name: found[name].output for name in expected} == expected
    assert len(found) == 13 + 5 + 3


def field(layers):
    """Receptive field by going backwards from one output pixel."""
    sees = 1
    for kernel, stride in reversed(layers):
        sees = (sees - 1) * stride + kernel
    return sees


def test_receptive_fields_of_net_d():
    layers = [layer for n in (2, 2, 3, 3, 3) for layer in [(3, 1)] * n + [(2, 2)]]
    found = rows("D")
    assert found["conv3_3"].sees == field(layers[:9])
    assert found["pool5"].sees == field(layers) == 212
    assert found["fc6"].sees == found["fc8"].sees == field([*layers, (7, 1)])


def test_shallow_b_sees_what_b_sees():
    assert rows("shallow-B")["pool5"].sees == rows("B")["pool5"].sees


def test_the_three_fc_layers_hold_124_million_weights_in_every_net():
    for net in ("A", "E", "shallow-B"):
        assert round(sum(rows(net)[fc].parameters for fc in ("fc6", "fc7", "fc8")) / 1e6, 2) == 123.64


@pytest.mark.parametrize(("pooling", "sides"), [("up", [128, 64, 32, 16, 8]), ("down", [127, 63, 31, 15, 7])])
def test_pools_round_as_they_are_told(pooling, sides):
    found = rows("A", side=255, pooling=pooling)
    assert [found[f"pool{i}"].output[1] for i in range(1, 6)] == sides
    assert found["fc8"].output[1:] == (sides[-1] - 6,) * 2


def test_batch_norm_adds_two_parameters_a_channel():
    net = VGG("A", batch_norm=True, device="meta")
    assert sum(r.parameters for r in sizes(net)) == sum(p.numel() for p in net.parameters()) == 132_863_336 + 2 * 2752


def test_the_table_for_people_ends_with_the_totals():
    last = as_text(VGG("D", device="meta")).splitlines()[-1].split()
    assert last == ["total", "138,357,544", "15,470,264,320"]
