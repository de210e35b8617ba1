"""The catalogue: facts with their sources, names as models, and files that are not what they are called."""

import hashlib
import re
from dataclasses import replace

import pytest
import torch
import toy

import verydeep
import verydeep.weights  # before a test changes the catalogue
from verydeep import paper
from verydeep.cli import main
from verydeep.contract import Contract, class_key
from verydeep.errors import ConfigError, ModelError
from verydeep.weights import catalogue, torchvision
from verydeep.weights.catalogue import Stated, digests, whose
from verydeep.weights.inputs import INPUTS, Input, input_of, input_word
from verydeep.weights.model import load_or_features
from verydeep.weights.read import Features

ENTRIES = catalogue.catalogue()
PACKAGED = "oxford-d-convolutions"  # the one whose file is in a package


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("VERYDEEP_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_says_what_it_is_and_who_says_so(name):
    """Called checked is what was fetched, from the package index alone, and torchvision's names carry the first digits
    of their SHA-256."""
    e = ENTRIES[name]
    assert (e.net in paper.TABLE_1, e.expects in INPUTS, bool(e.origin), bool(e.licences)) == (True, True, True, True)
    assert all(one.says and one.source for one in e.licences)
    stated = (*e.checksums.values(), *e.urls)
    assert all(one.source and one.checked == (e.builtin or name == PACKAGED) for one in stated)
    assert all(u.value.startswith(("http://", "https://", "pip:")) and u.value.endswith(e.file) for u in e.urls)
    assert e.builtin or e.urls
    lengths = {"sha256": 64, "sha256_prefix": 8, "sha1": 40, "md5": 32, "tensors_sha256": 64}
    assert all(re.fullmatch(f"[0-9a-f]{{{lengths[kind]}}}", one.value) for kind, one in e.checksums.items())
    assert all(0 < one.top5 < one.top1 < 100 and one.data and one.protocol for one in e.errors)
    if name.startswith("torchvision"):
        digits = (e.checksums.get("sha256") or e.checksums["sha256_prefix"]).value[:8]
        assert e.file.removesuffix(".pth").endswith(f"-{digits}")
        assert e.batch_norm == ("_bn-" in e.file)


@pytest.mark.parametrize("name", [name for name, e in ENTRIES.items() if not e.builtin])
def test_sizes_are_those_of_the_nets_in_float32(name):
    """Beside the weights a file has names: a thousandth at most."""
    e = ENTRIES[name]
    with torch.device("meta"):
        state = verydeep.VGG(e.net, batch_norm=e.batch_norm).state_dict()
    lacks = "fc" if name.startswith("keras") and not e.head else "nothing"
    least = 4 * sum(t.numel() for n, t in state.items() if t.ndim and not n.startswith(lacks))
    if name == PACKAGED:  # its convolutions and another net's small head
        least = 4 * sum(t.numel() for n, t in state.items() if n.startswith("conv"))
        assert least < e.size < 1.2 * least
        return
    assert 0.9985 * least < e.size < 1.0015 * least


@pytest.mark.parametrize(
    ("name", "expected"),
    [("oxford-d", "25.6/8.1 24.8/7.5 24.6/7.5 24.4/7.2"), ("oxford-e", "25.5/8.0 24.8/7.5 24.6/7.4 24.4/7.1")],
)
def test_the_errors_of_the_papers_nets_are_those_of_its_tables(name, expected):
    """The jittered nets: Table 3 at Q = 384, then Tables 4 and 5 at three scales, dense, crops, both."""
    steps = [("dense", (384,)), *((p, (256, 384, 512)) for p in ("dense", "crops", "both"))]
    found = {(e.protocol, e.Q): f"{e.top1}/{e.top5}" for e in ENTRIES[name].errors}
    assert " ".join(found[step] for step in steps) == expected


def test_the_net_in_the_box_is_the_one_listed():
    e = ENTRIES["builtin:fashion-a"]
    assert e.path.stat().st_size == e.size
    assert verydeep.load(e.name).contract.sha256 == e.checksums["tensors_sha256"].value


def test_checksums_are_those_of_hashlib(tmp_path):
    path, data = tmp_path / "file", bytes(range(256)) * 9999
    path.write_bytes(data)
    sums = {kind: hashlib.new(kind, data).hexdigest() for kind in ("sha256", "sha1", "md5")}
    assert digests(path) == sums | {"sha256_prefix": sums["sha256"][:8]}
    assert digests(path, ["sha256_prefix"]) == {"sha256_prefix": sums["sha256"][:8]}
    assert whose(digests(path)) is None


def entry_of(monkeypatch, name, path, kind, **facts):
    """The entry of this name, if its file were this one; it is the whole catalogue now."""
    e = replace(ENTRIES[name], file=path.name, checksums={kind: Stated(digests(path)[kind], "a test", True)}, **facts)
    for where in ("catalogue", "model", "published", "verify"):
        monkeypatch.setattr(f"verydeep.weights.{where}.catalogue", lambda: {name: e})
    return e


@pytest.fixture
def listed(cache, monkeypatch):
    """torchvision-a, if its file were a toy that is in the cache: the toy, and the entry."""
    cache.mkdir()
    mean, std = INPUTS["rgb-01-std"].rgb()
    contract = Contract("A", tuple(map(str, range(1000))), 32, 8, 2, False, "down", mean, std, (36, 36))
    made = toy.drawn(contract)
    torchvision.write(made.net.state_dict(), path := cache / "toy.safetensors")
    return made, entry_of(monkeypatch, "torchvision-a", path, "sha256", bytes=path.stat().st_size, scales=(40, 80))


def test_a_name_is_a_model_with_its_contract(listed):
    made, e = listed
    found = verydeep.load("torchvision-a")
    x = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    assert torch.allclose(found(x), made(x), atol=1e-5)
    c = found.contract
    assert (c.net, c.scales, c.licence) == ("A", (40, 80), e.licence)
    assert c.origin.startswith("torchvision-a: ")
    assert c.classes[0] == "n01440764 tench, Tinca tinca"
    assert class_key(c.classes[999]) == "n15075141"


def test_a_published_file_is_known_by_its_content_whatever_its_name(listed, tmp_path, recwarn):
    _, e = listed
    renamed = tmp_path / "downloaded.bin"
    renamed.write_bytes(e.path.read_bytes())
    for found in (verydeep.load(renamed), load_or_features(str(renamed))):
        assert found.contract == verydeep.load("torchvision-a").contract
    assert not recwarn.list  # nothing is guessed
    renamed.write_bytes(e.path.read_bytes() + b" ")
    with pytest.raises(ModelError):
        verydeep.load(renamed)


def test_what_the_user_says_a_published_file_expects_leaves_the_rest_of_its_contract(listed):
    _, e = listed
    known, said = verydeep.load(e.path).contract, verydeep.load(f"{e.path}@BGR:1,2,3").contract
    assert said == replace(known, mean=(3.0, 2.0, 1.0), std=(1.0, 1.0, 1.0))


def test_published_convolutions_are_a_start_with_their_contract(listed, cache, monkeypatch, recwarn):
    """A file of the size and checksum of the catalogue's features-only entry, whose FC layers are no numbers."""
    state = torchvision.theirs(listed[0].net.state_dict())
    torch.save({n: t if n.startswith("features") else t * torch.nan for n, t in state.items()}, path := cache / "x.pth")
    mib = (path.stat().st_size - 99) / 2**20
    features = entry_of(monkeypatch, "torchvision-d-features", path, "sha256_prefix", net="A", bytes=None, mib=mib)
    for model in ("torchvision-d-features", path):
        found = load_or_features(model)
        assert isinstance(found, Features)
        assert found.mean == pytest.approx((122.99925, 116.9991, 103.9992))
        assert (found.std, found.licence) == ((1.0, 1.0, 1.0), features.licence)
        assert not recwarn.list
        with pytest.raises(ModelError, match="no fc6, fc7 and fc8"):
            verydeep.load(model)


def test_only_files_of_a_published_size_are_hashed(tmp_path, monkeypatch):
    (path := tmp_path / "x").write_bytes(b"123")
    monkeypatch.setattr(catalogue, "digests", None)
    assert catalogue.published_as(path) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("BGR:103.939,116.779,123.68", Input("BGR", (103.939, 116.779, 123.68))),
        ("RGB:1,2,3:4,5,6", Input("RGB", (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))),
        ("rgb:0,0,0:255,255,255", INPUTS["rgb-01"]),
        ("Rgb:0,0,0:255,255,255", INPUTS["rgb-01"]),
        (odd := Input("RGB", (0.5, -1.0, 300.0), (1.0, 1.0, 400.0)), odd),  # Python may say anything
    ],
)
def test_what_a_net_expects_can_be_written_out(given, expected):
    assert input_of(given) == expected


NOT_KNOWN = r"'{}' is not known; try one of bgr-255, .* or ORDER:mean:std of 0-255"
NOT_UNDERSTOOD = "'{}' is not understood; write ORDER:mean:std of 0-255, such as"
OF_0_TO_1 = "looks like 0-1; multiply by 255: {}$"
NO_WORDS = ("bgr", "RGB", "", "rgb-1")
NOT_EXPECTED = (
    "GBR:1,2,3", "RGB:1,2", "RGB:1,2,nan", "RGB:nan,2,3", "RGB:1,2,256", "RGB:-1,2,3", "RGB:1,2,3:0,1,1",
    "RGB:1,2,3:1,1,255.5", "RGB:1,2,3:inf,1,1", "RGB:1,2,3:", "RGB:1,2,3:1,1,1:1",
)  # fmt: skip
RECKONED = {
    "RGB:0.485,0.456,0.406:0.229,0.224,0.225": "RGB:123.675,116.28,103.53:58.395,57.12,57.375",
    "bgr:0.5,0,1": "BGR:127.5,0,255:255,255,255", "RGB:0.5,0.5,0.5:58,57,56": "RGB:127.5,127.5,127.5:58,57,56",
}  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        *((word, NOT_KNOWN.format(word)) for word in NO_WORDS),
        *((word, NOT_UNDERSTOOD.format(word)) for word in NOT_EXPECTED),
        *((word, OF_0_TO_1.format(of_255)) for word, of_255 in RECKONED.items()),
    ],
)
def test_what_a_net_cannot_expect_is_told_how_to_write_it(given, message):
    with pytest.raises(ConfigError, match=message):
        input_of(given)


def test_what_a_net_expects_is_spelled_to_the_last_digit():
    for expects in (*INPUTS.values(), Input("BGR", (1 / 3, 255.0, 1e-9), (1e-20, 0.1, 1 / 7))):
        assert input_of(input_word(expects)) == expects
    assert input_word(Input("RGB", (73.04, 73.04, 1.0))) == "RGB:73.04,73.04,1:1,1,1"


def test_a_damaged_file_is_no_model(listed):
    _, e = listed
    e.path.write_bytes(e.path.read_bytes()[:-1] + b"?")
    with pytest.raises(ModelError, match=r"is not the published file .its SHA-256 is .* delete it and fetch it again"):
        verydeep.load("torchvision-a")


def test_a_net_that_is_not_at_hand_names_the_command(capsys):
    assert main(["predict", "oxford-d", "x.png"]) == 1
    words = "oxford-d is not at hand; 'verydeep weights fetch oxford-d' brings it (528 MiB), or put VGG_"
    assert words in capsys.readouterr().err


def test_a_run_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    verydeep.load("builtin:fashion-a").save(tmp_path / "oxford-d")
    assert verydeep.load("oxford-d").contract.crop == 32
