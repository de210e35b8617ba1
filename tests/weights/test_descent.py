"""Files that descend from published nets are known by their first layer, in any layout, order or precision."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import toy
from torch import Tensor

from verydeep.data.naming import imagenet_classes
from verydeep.errors import ModelError
from verydeep.net.vgg import VGG
from verydeep.weights import descent
from verydeep.weights import verify_model as verified
from verydeep.weights.catalogue import catalogue, data
from verydeep.weights.convert import convert
from verydeep.weights.descent import descent_of, fingerprint, first_layers, input_told
from verydeep.weights.inputs import INPUTS, ContractWarning
from verydeep.weights.read import Features, open_foreign, read_features, read_foreign
from verydeep.weights.recognise import Layout
from verydeep.weights.shapes import Found

# what each is fed by those who published it: order, mean and std of 0-255
OXFORD = ("BGR", (103.939, 116.779, 123.68), (1, 1, 1))
TORCHVISION = ("RGB", (255 * 0.485, 255 * 0.456, 255 * 0.406), (255 * 0.229, 255 * 0.224, 255 * 0.225))
PUBLISHED = {"oxford-d": OXFORD, "oxford-e": OXFORD, "torchvision-d": TORCHVISION, "torchvision-e": TORCHVISION}


def descendant(name: str, classes: int = 3, base_width: int = 16) -> VGG:
    """A net with as much of a published first layer as is known, in the published order; all else is random."""
    torch.manual_seed(0)
    made = VGG(catalogue()[name].net, classes=classes, crop=32, fc_width=8, base_width=base_width).eval()
    known, layer = data()["first_layers"][name], made.conv1_1
    with torch.no_grad():
        layer.weight[0] = torch.tensor([known[c] for c in PUBLISHED[name][0]]).view(3, 3, 3)
        if "biases" in known:
            layer.bias[: len(known["biases"])] = torch.tensor(known["biases"])
    return made


def saved(made: VGG, path: Path) -> Path:
    torch.save({n: t.detach() for n, t in toy.torchvision_state(made).items()}, path)
    return path


def descent_tensors(made: VGG) -> dict[str, Tensor]:
    return {n: t.detach() for n, t in toy.tensors(made).items()}


@contextmanager
def said(*words: str) -> Iterator[None]:
    """Each warning inside has these words, and there is no other."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        yield
    assert [w.category for w in found] == [ContractWarning] * len(words)
    assert all(word in str(w.message) for w, word in zip(found, words, strict=True))


def responses(made: VGG, name: str, photo: Tensor, turned: bool) -> Tensor:
    """conv1_1's of a photo in RGB, in float64, fed as the publishers say."""
    order, mean, std = PUBLISHED[name]
    pixels = photo.double().flip(1) if order == "BGR" else photo.double()
    fed = (pixels - torch.tensor(mean).double().view(3, 1, 1)) / torch.tensor(std).double().view(3, 1, 1)
    kernel = made.conv1_1.weight.detach().double()
    return F.conv2d(fed, kernel.flip(1) if turned else kernel, made.conv1_1.bias.detach().double(), padding=1)


def test_every_first_layer_is_of_the_catalogue_and_has_a_source():
    assert set(data()["first_layers"]) == set(PUBLISHED) == {known.name for known in first_layers()}
    for name, known in data()["first_layers"].items():
        assert known["source"]
        assert [len(known[c]) for c in "RGB"] == [9, 9, 9]
        assert (known.get("biases") is None) == (name == "torchvision-e")
        assert catalogue()[name].expects in INPUTS


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", PUBLISHED)
def test_a_net_that_was_trained_on_is_fed_like_its_start(tmp_path, name, turned):
    """torchvision's layout is usually fed otherwise than Oxford's nets, and turned kernels otherwise than others."""
    made = descendant(name)
    expected = responses(made, name, photo := toy.photo(32), False)
    if turned:
        made.conv1_1.weight.data = made.conv1_1.weight.data.flip(1)
    path = saved(made, tmp_path / "x.pth")
    with said(f"its first layer is {name}'s, and it is assumed to expect"):
        classifier = read_foreign(path)
    found = classifier.net.taps(classifier.normalise(photo), ["conv1_1"])["conv1_1"]
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-3)
    assert f"its first layer is {name}'s" in classifier.contract.origin
    assert classifier.contract.licence == catalogue()[name].licence


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["oxford-d", "torchvision-e"])
def test_sixteen_bits_are_enough(tmp_path, name, dtype):
    found = descent_of(descent_tensors(descendant(name).to(dtype).float()))
    assert found
    assert (found.name, found.expects.order, found.whole) == (name, PUBLISHED[name][0], False)
    assert found.expects.mean == pytest.approx(PUBLISHED[name][1])


@pytest.mark.parametrize(("percent", "known"), [(0.4, True), (0.7, False)])
@pytest.mark.parametrize("name", PUBLISHED)
def test_training_may_have_changed_it_a_little(name, percent, known):
    tensors = descent_tensors(made := descendant(name))
    with torch.no_grad():
        tensors["conv1_1.weight"][0].view(-1)[made.conv1_1.weight[0].abs().argmax()] *= 1 + percent / 100
    assert (descent_of(tensors) is not None) == known


@pytest.mark.parametrize("change", ["biases", "narrow", "green"])
@pytest.mark.parametrize("name", PUBLISHED)
def test_another_first_layer_is_not_known(name, change):
    tensors = descent_tensors(descendant(name))
    with torch.no_grad():
        if change == "biases" and name != "torchvision-e":  # whose biases were never printed
            tensors["conv1_1.bias"][:10] *= 1.02
        elif change == "green":
            tensors["conv1_1.weight"] = tensors["conv1_1.weight"][:, [1, 0, 2]]
        else:
            tensors["conv1_1.weight"], tensors["conv1_1.bias"] = torch.zeros(4, 3, 3, 3), torch.zeros(4)
    assert descent_of(tensors) is None
    assert descent_of({}) is None


@pytest.mark.parametrize("divisors", [(255, 255, 255), (255 * 0.229, 255 * 0.224, 255 * 0.225)])
@pytest.mark.parametrize("name", ["oxford-d", "torchvision-d"])
def test_a_range_that_was_folded_into_conv1_1_is_found(tmp_path, name, divisors):
    made, photo = descendant(name), toy.photo(32)
    expected = responses(made, name, photo, False)
    order, _, std = PUBLISHED[name]
    taken = divisors[::-1] if order == "BGR" else divisors
    with torch.no_grad():
        made.conv1_1.weight *= torch.tensor(taken).view(3, 1, 1) / torch.tensor(std).view(3, 1, 1)
    with said(f"its first layer is {name}'s, and it is assumed to expect"):
        classifier = read_foreign(saved(made, tmp_path / "x.pth"))
    assert classifier.contract.std == pytest.approx(divisors)
    found = classifier.net.taps(classifier.normalise(photo), ["conv1_1"])["conv1_1"]
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=2e-3)


def test_without_biases_nothing_folded_is_found():
    """For then a mean may have been folded in too."""
    tensors = descent_tensors(descendant("torchvision-e"))
    assert descent_of(tensors)
    folded = tensors["conv1_1.weight"] / torch.tensor((0.229, 0.224, 0.225)).view(3, 1, 1)
    assert descent_of(tensors | {"conv1_1.weight": folded}) is None


def test_what_we_folded_for_another_layout_expects_what_is_usual_there(tmp_path):
    """Means that differ by rounding hardly change the biases, so that the first layer may be known or not."""
    path, out, photo = saved(descendant("torchvision-d"), tmp_path / "x.pth"), tmp_path / "x.caffemodel", toy.photo(32)
    convert(before := read_foreign(path, "rgb-01-std"), "caffe", out, fold_mean=True)
    with said("it is assumed to expect bgr-255: BGR"):
        after = read_foreign(out)
    assert after.contract.mean == (123.68, 116.779, 103.939)
    torch.testing.assert_close(after(photo), before(photo), rtol=1e-3, atol=1e-2)
    out = tmp_path / "y.pth"
    convert(read_foreign(saved(descendant("oxford-d"), path), "bgr-255"), "torchvision", out, fold_mean=True)
    with said("as is usual for torchvision"):
        read_foreign(out)


def test_a_word_against_the_first_layer_is_taken_with_a_warning(tmp_path):
    path = saved(descendant("oxford-d"), tmp_path / "x.pth")
    with said("as was said, but its first layer is oxford-d's, which expects bgr-255: BGR"):
        assert read_foreign(path, "rgb-01").contract.std == (255.0, 255.0, 255.0)
    with said("is assumed to expect rgb-255: RGB"):
        read_foreign(path, "rgb-255")
    with said("is assumed to expect BGR, mean 0 0 0"):
        read_foreign(path, "BGR:0,0,0")
    with said():
        read_foreign(path, "BGR:104,117,124")  # the same mean, rounded


@pytest.mark.parametrize("expects", [None, "rgb-01-std"])
def test_a_thousand_outputs_without_names_are_imagenets(tmp_path, expects):
    path = saved(descendant("torchvision-e", classes=1000), tmp_path / "x.pth")
    guesses = ["x.pth names none of its 1,000 outputs; they were taken for ImageNet's classes"]
    with said(*guesses) if expects else said("its first layer is torchvision-e's", *guesses):
        contract = read_foreign(path, expects).contract
    assert contract.classes == tuple(f"{synset} {name}" for synset, name in imagenet_classes().items())
    with said():
        assert read_foreign(path, "rgb-01-std", [f"mine {i}" for i in range(1000)]).contract.classes[0] == "mine 0"
    with said():
        read_features(path, "rgb-01-std")  # whose outputs are nobody's
    with said("it is assumed to expect rgb-01-std"):
        assert read_foreign(saved(descendant("torchvision-e", classes=999), path)).contract.classes[0] == "class 0"


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("features.0.weight", (0, 3, 3, 3)), ("features.0.weight", ()), ("features.0.bias", ()),
        ("features.0.bias", (3,)),
        ("classifier.6.bias", ()), ("classifier.6.bias", (0,)), ("classifier.0.weight", ()),
        ("classifier.0.weight", (8, 0)),
    ],
)  # fmt: skip
def test_odd_tensors_are_errors_of_one_line(tmp_path, name, shape):
    state = toy.torchvision_state(descendant("oxford-d")) | {name: torch.zeros(shape)}
    torch.save(state, path := tmp_path / "x.pth")
    with (
        pytest.raises(ModelError, match=r"damaged|none that can be used"),
        warnings.catch_warnings(action="ignore", category=ContractWarning),
    ):
        read_foreign(path)


def test_torchs_defaults_play_no_part():
    first_layers.cache_clear()
    tensors = descent_tensors(descendant("oxford-d"))
    torch.set_default_dtype(torch.float16)
    try:
        with torch.device("meta"):
            assert descent_of(tensors)
    finally:
        torch.set_default_dtype(torch.float32)
    assert descent_of(tensors)


def test_a_mean_in_the_file_is_no_word_on_the_order_or_the_range(tmp_path):
    tensors = descent_tensors(descendant("torchvision-d"))
    found = Found(tensors, mean=(128.0, 128.0, 128.0))
    mat = Layout("matconvnet", "mat")
    with said("it is assumed to expect RGB, mean 128 128 128, std 58.395 57.12 57.375"):
        input_told(tmp_path / "x.mat", found, mat, descent_of(tensors))
    with said():
        assert input_told(tmp_path / "x.mat", found, mat, None).std == (1, 1, 1)


@pytest.fixture
def all_known(monkeypatch):
    """A net of a thousand outputs whose convolutions are taken for all of oxford-d's."""
    made = descendant("oxford-d", classes=1000)
    sum_ = fingerprint(descent_tensors(made), "BGR")
    known = tuple(one._replace(convolutions=sum_ if one.name == "oxford-d" else None) for one in first_layers())
    monkeypatch.setattr(descent, "first_layers", lambda: known)
    return made


def test_all_convolutions_below_a_thousand_outputs_are_a_published_net(tmp_path, all_known):
    """Batch norm behind them makes another net."""
    with said("names none of its 1,000 outputs"):
        assert read_foreign(saved(all_known, tmp_path / "x.pth")).contract.mean == (123.68, 116.779, 103.939)
    tensors = descent_tensors(all_known)
    assert descent_of(tensors) == ("oxford-d", INPUTS["bgr-255"], True)
    assert descent_of(tensors | {"bn1_1.weight": torch.ones(16)}) == ("oxford-d", INPUTS["bgr-255"], False)


def test_all_convolutions_of_a_published_net_need_no_warning(tmp_path, all_known):
    made = VGG("D", classes=3, crop=32, fc_width=8, base_width=16).eval()
    made.load_state_dict(made.state_dict() | {n: t for n, t in all_known.state_dict().items() if n.startswith("conv")})
    with said("its convolutions are oxford-d's, and it is assumed to expect"):  # a new head may not
        read_foreign(path := saved(made, tmp_path / "x.pth"))
    state = {n: t for n, t in toy.torchvision_state(made).items() if n.startswith("features")}
    torch.save(state, path)
    with said():
        found = open_foreign(path)
    assert isinstance(found, Features)
    assert (found.mean, found.std) == ((123.68, 116.779, 103.939), (1, 1, 1))
    assert verified(str(path))["checks"][3]["words"] == "its convolutions are oxford-d's"
    state["features.28.bias"] = state["features.28.bias"] + 1e-6
    torch.save(state, path)
    with said("its first layer is oxford-d's"):
        read_features(path)
    assert verified(str(path))["checks"][3]["words"] == "its first layer is oxford-d's"


def test_the_fingerprint_is_of_values_names_and_shapes():
    tensors = descent_tensors(descendant("oxford-d"))
    mine = fingerprint(tensors, "BGR")
    turned = tensors | {"conv1_1.weight": tensors["conv1_1.weight"].flip(1)}
    assert fingerprint(turned, "RGB") == mine != fingerprint(turned, "BGR")
    assert fingerprint(tensors | {"fc6.bias": torch.zeros(1)}, "BGR") == mine
    assert fingerprint(tensors | {"conv3_1.bias": tensors["conv3_1.bias"][None]}, "BGR") != mine
