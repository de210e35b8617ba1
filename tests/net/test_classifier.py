"""Raw pixels in, posteriors out, one file: what a Classifier eats, answers and writes, and what it refuses."""

import hashlib
import json
import os
import pickle
import random
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import verydeep
from verydeep.contract import Contract
from verydeep.errors import ConfigError, ModelError, PhotoError
from verydeep.files.tensors import LONGEST_HEADER, checksum, write_tensors
from verydeep.net.classifier import METADATA, SEAL, build, read_classifier
from verydeep.net.initialise import initialise

CLASSES = ("cat", "dog", "Käse")


def classifier(net="A", **changes):
    values = {
        "net": net, "classes": CLASSES, "crop": 32, "fc_width": 8, "base_width": 4, "batch_norm": False, "pooling": "up",
        "mean": (100.0, 110.5, 120.25), "std": (1.0, 2.0, 4.0), "scales": (36, 44), "origin": "a test", "licence": "MIT",
    }  # fmt: skip
    made = build(Contract(**(values | changes)))
    initialise(made.net, "he")
    return made.eval()


def pixels(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def normal(x):
    """Mean and std by hand, in fp64."""
    mean, std = np.array([100.0, 110.5, 120.25]), np.array([1.0, 2.0, 4.0])
    return torch.from_numpy((x.numpy() - mean[:, None, None]) / std[:, None, None]).float()


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        (torch.rand(1, 3, 32, 32), "values from .* to .* look like pixels of 0-1: .photos \\* 255"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.int64), "int64"),
        (pixels(3, 32, 32), "add a batch dimension"),
        (pixels(1, 32, 32, 3), "its colours stand last"),
        (pixels(1, 1, 32, 32), "expected raw pixels"),
    ],
)
def test_anything_but_raw_pixels_is_refused_with_a_hint(given, hint):
    for way in (classifier(), classifier().score_map, classifier().predict):
        with pytest.raises(ModelError, match=hint):
            way(given)


def test_the_mean_is_subtracted_and_the_rest_divided():
    x = pixels(2, 3, 32, 32)
    assert torch.allclose(classifier().normalise(x), normal(x), atol=1e-5)


def test_crop_size_takes_the_fc_form():
    model, x = classifier(), pixels(2, 3, 32, 32)
    assert torch.equal(model(x), model.net(model.normalise(x)))
    assert torch.equal(model.score_map(x)[:, :, 0, 0], model(x))


def test_other_sizes_are_dense_and_averaged_over_space():
    model, x = classifier(), pixels(2, 3, 70, 100)
    scores = model.net.dense(normal(x)).double()
    assert scores.shape == (2, 3, 3, 4)
    assert torch.allclose(model(x).double(), scores.sum((2, 3)) / 12, rtol=1e-4, atol=1e-4)
    assert torch.equal(model.score_map(x), model.net.dense(model.normalise(x)))


def test_photos_below_the_crop_are_refused():
    with pytest.raises(ConfigError, match="at least 32 pixels"):
        classifier()(pixels(1, 3, 31, 40))


def test_posteriors_are_a_distribution():
    found = classifier().predict(pixels(4, 3, 32, 32))
    assert found.shape == (4, 3)
    assert torch.allclose(found.sum(1), torch.ones(4))


def test_paths_pillow_images_arrays_and_tensors_get_the_same_answer(tmp_path):
    model = classifier(scales=(32, 32))  # Q is the crop: nothing is rescaled
    array = pixels(32, 32, 3).numpy()
    Image.fromarray(array).save(tmp_path / "x.png")
    found = model.predict([tmp_path / "x.png", str(tmp_path / "x.png"), Image.fromarray(array), array])
    expected = model.predict(torch.from_numpy(array).permute(2, 0, 1)[None])
    assert torch.allclose(found, expected.expand(4, 3), atol=1e-6)
    assert torch.allclose(model.predict(array[None]), expected, atol=1e-6)


def test_listed_photos_are_rescaled_to_the_middle_scale_and_cropped():
    array = pixels(80, 120, 3).numpy()
    rescaled = np.asarray(Image.fromarray(array).resize((60, 40), Image.Resampling.BILINEAR))  # Q = (36 + 44) / 2
    crop = torch.tensor(rescaled[4:36, 14:46]).permute(2, 0, 1)[None]
    assert torch.allclose(classifier().predict([array]), classifier().predict(crop), atol=1e-2)


def test_no_photos_have_no_posteriors():
    assert classifier().predict([]).shape == (0, 3)


def test_a_bad_photo_is_named(tmp_path):
    with pytest.raises(PhotoError, match=r"missing\.png"):
        classifier().predict([tmp_path / "missing.png"])
    with pytest.raises(PhotoError, match="photo 1"):
        classifier().predict([np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40, 3))])


def test_predict_gives_the_mode_back():
    model = classifier().train()
    model.predict(pixels(1, 3, 32, 32))
    assert model.training


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    classifier().save(path)
    return path


@pytest.mark.parametrize(
    "change", [{}, {"net": "A-LRN", "pooling": "down"}, {"batch_norm": True}, {"crop": 64, "net": "shallow-B"}]
)
def test_save_and_read_is_exact(tmp_path, change):
    model = classifier(**change)
    model.save(tmp_path / "m.safetensors")
    found, x = read_classifier(tmp_path / "m.safetensors"), pixels(2, 3, 70, 70)
    assert not found.training
    assert {k: v for k, v in vars(found.contract).items() if k != "sha256"} == {
        k: v for k, v in vars(model.contract).items() if k != "sha256"
    }
    assert all(torch.equal(v, found.state_dict()[k]) for k, v in model.state_dict().items())
    assert torch.equal(model(x), found(x))


def test_float16_halves_the_file_and_moves_the_answer_by_less_than_a_hundredth(tmp_path):
    model, x = classifier(base_width=16, fc_width=64), pixels(8, 3, 32, 32)
    model.save(tmp_path / "full.safetensors")
    model.save(tmp_path / "half.safetensors", torch.float16)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.52 * (tmp_path / "full.safetensors").stat().st_size
    found = read_classifier(tmp_path / "half.safetensors")
    assert found.net.fc8.weight.dtype == torch.float32
    assert (found(x) - model(x)).abs().max() < 1e-2 * model(x).abs().max()
    assert torch.equal(found.mean, model.mean)


def test_saving_leaves_nothing_else_and_replaces_the_old_file(file):
    other = classifier(classes=("one", "two"))
    other.save(file)
    assert [p.name for p in file.parent.iterdir()] == [file.name]
    assert read_classifier(file).contract.classes == ("one", "two")


def with_byte(file, position, mask):
    data = bytearray(file.read_bytes())
    data[position] ^= mask
    broken = file.with_name("broken.safetensors")
    broken.write_bytes(data)
    return broken


def test_a_flipped_bit_anywhere_is_found(file):
    """One random bit in every byte of the header and in three hundred of the tensors'."""
    data, rng = file.read_bytes(), random.Random(0)
    header = 8 + struct.unpack("<Q", data[:8])[0]
    places = [*range(header), *rng.sample(range(header, len(data)), 300), len(data) - 1]
    accepted = []
    for place in places:
        broken = with_byte(file, place, 1 << rng.randrange(8))
        with suppress(ModelError):
            read_classifier(broken)
            accepted.append((place, data[place - 20 : place + 20]))
    assert not accepted


WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
import test_classifier
test_classifier.classifier().save({path!r})
"""


def test_two_processes_write_the_same_bytes(file, tmp_path):
    """Dictionaries of other languages are shuffled anew in every process."""
    for i in range(2):
        path = tmp_path / f"{i}.safetensors"
        subprocess.run(
            [sys.executable, "-c", WRITE.format(here=str(Path(__file__).parent), path=str(path))], check=True
        )
        assert path.read_bytes() == file.read_bytes()


def test_the_library_reads_what_is_written_here(tmp_path):
    """safetensors itself as the oracle, for every type, for a scalar and for no values at all."""
    tensors = {
        "b": torch.randn(3, 4), "a": torch.randn(5).half(), "f": torch.randn(2, 2, 2).bfloat16(), "d": torch.tensor(7),
        "e": torch.randn(0, 3), "turned": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        "Käse \"\n": torch.randn(1).double(),
    }  # fmt: skip
    metadata = {"z": 'Käse "\n\u2028', "a": "\x7f\x01"}
    checksum = write_tensors(tensors, tmp_path / "x.safetensors", metadata)
    assert checksum == hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()
    found = safetensors.torch.load_file(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(t, found[name]) and t.dtype == found[name].dtype for name, t in tensors.items())
    with safetensors.safe_open(tmp_path / "x.safetensors", framework="pt") as f:
        assert f.metadata() == metadata


def test_a_file_that_is_written_over_does_not_change_a_model_in_use(file):
    model, data = read_classifier(file), file.read_bytes()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with file.open("r+b") as f:
        f.write(bytes(len(data)))
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_class_names_too_long_for_a_header_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ModelError, match="too long for a model file"):
        classifier(classes=tuple(f"{i:0100}" for i in range(20_000))).save(tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.int8, torch.float64, torch.complex64])
def test_types_that_could_not_be_read_are_not_written(tmp_path, dtype):
    with pytest.raises(ModelError, match=r"expected torch\.float32"):
        classifier().save(tmp_path / "x.safetensors", dtype)


def test_a_file_cut_short_is_refused(file):
    data, cut = file.read_bytes(), file.with_name("cut.safetensors")
    for twentieth in range(20):
        cut.write_bytes(data[: len(data) * twentieth // 20])
        with pytest.raises(ModelError, match=r"cut\.safetensors"):
            read_classifier(cut)


def test_a_file_with_a_tail_is_refused(file):
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ModelError):
        read_classifier(file)


def test_random_bytes_are_refused(tmp_path):
    rng, path = np.random.default_rng(0), tmp_path / "noise.safetensors"
    for size in [*range(20), *rng.integers(20, 10_000, 50)]:
        path.write_bytes(rng.bytes(int(size)))
        with pytest.raises(ModelError):
            read_classifier(path)


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pt", "model.pth"])
def test_a_pickle_is_refused_and_not_executed(tmp_path, name):
    canary, path = tmp_path / "canary", tmp_path / name
    path.write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(ModelError):
        verydeep.load(path)
    torch.save({"weights": Canary(canary)}, path)
    with pytest.raises(ModelError):
        verydeep.load(path)
    assert not canary.exists()


def header_file(path, header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


@pytest.mark.parametrize(
    "header",
    [
        b"[" * 50_000,
        b"{}",
        b"null",
        {"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2**63]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
        {
            "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
            "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
        },
        {"../../a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}},
        {"__metadata__": {METADATA: 5}},
    ],
    ids=["nesting", "empty", "null", "huge", "beyond", "backwards", "overlap", "dots", "type", "number"],
)
def test_absurd_headers_are_refused(tmp_path, header):
    with pytest.raises(ModelError):
        read_classifier(header_file(tmp_path / "x.safetensors", header, bytes(4)))


def test_a_header_longer_than_the_file_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    for length in (9, 2**32, 2**63, 2**64 - 1):
        path.write_bytes(struct.pack("<Q", length) + b"{}")
        with pytest.raises(ModelError, match="shorter than its header"):
            read_classifier(path)


def test_a_header_longer_than_any_of_ours_is_not_parsed(file):
    data = file.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    longer = data[8:end].ljust(LONGEST_HEADER + 8)  # the spaces are allowed
    file.write_bytes(struct.pack("<Q", len(longer)) + longer + data[end:])
    with pytest.raises(ModelError, match="has a header of 3,000,008 bytes, expected at most 3,000,000"):
        read_classifier(file)


def test_a_model_larger_than_the_memory_is_not_read(file, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: 100)
    with pytest.raises(ModelError, match="is larger than the 0 GB of memory"):
        read_classifier(file)


def forged(file, text):
    """The file with another contract text, its checksums made to fit."""
    tensors = safetensors.torch.load_file(file)
    metadata = {METADATA: text, SEAL: hashlib.sha256(text.encode()).hexdigest(), "format": "pt"}
    safetensors.torch.save_file(tensors, file, metadata)
    return file


def contract_of(file):
    with safetensors.safe_open(file, framework="pt") as f:
        return json.loads(f.metadata()[METADATA])


@pytest.mark.parametrize(
    "change",
    [
        {"net": "Z"}, {"net": ["A"]}, {"net": None}, {"net": {}}, {"net": "D"}, {"crop": 33}, {"crop": 64}, {"crop": True}, {"crop": 2**16},
        {"fc_width": 2**16, "base_width": 2**16}, {"fc_width": 10**30}, {"fc_width": "8"}, {"pooling": "sideways"}, {"pooling": []},
        {"batch_norm": True}, {"classes": []}, {"classes": "ab"}, {"classes": [1, 2, 3]}, {"classes": None}, {"classes": ["a"] * 1000},
        {"mean": [1.0, 2.0, 3.0]}, {"mean": [1.0]}, {"mean": ["a", "b", "c"]}, {"mean": [float("nan")] * 3}, {"std": [1.0, 1.0, 1.0]},
        {"scales": [36]}, {"order": "BGR"}, {"range": [0, 1]}, {"task": "boxes"}, {"format": 99}, {"sha256": "0" * 64}, {"sha256": None},
        {"more": 1}, {"classes": ["a", "b", "\ud800"]}, {"origin": "\ud800"}, {"scales": [1, 10**400]}, {"mean": [1e300, 0, 0]},
        {"std": [1e-300, 1, 1]},
    ],
    ids=str,
)  # fmt: skip
def test_a_contract_that_does_not_fit_its_tensors_is_refused(file, change):
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        read_classifier(forged(file, json.dumps(contract_of(file) | change)))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "5", "null", "[" * 100_000, '{"a":' * 100_000, "1" * 100_000, "\ud7ff"]
)
def test_a_contract_that_is_no_object_is_refused(file, text):
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        read_classifier(forged(file, text))


def test_a_contract_that_says_a_thing_twice_is_refused(file):
    text = json.dumps(contract_of(file))
    with pytest.raises(ModelError, match="twice"):
        read_classifier(forged(file, '{"net": "D", ' + text[1:]))


@pytest.mark.parametrize(
    ("name", "dtype"), [("net.fc8.bias", torch.int64), ("net.fc8.bias", torch.float64), ("mean", torch.float16)]
)
def test_tensors_of_another_type_are_refused(file, name, dtype):
    """Weights of whole numbers would be read, and fail with the first photo."""
    tensors = safetensors.torch.load_file(file)
    tensors[name] = tensors[name].to(dtype)
    text = json.dumps(contract_of(file) | {"sha256": checksum(tensors)})
    safetensors.torch.save_file(
        tensors, file, {METADATA: text, SEAL: hashlib.sha256(text.encode()).hexdigest(), "format": "pt"}
    )
    with pytest.raises(ModelError, match="another shape or type"):
        read_classifier(file)


def test_a_forged_file_is_read_where_nothing_was_changed(file):
    """So the refusals above are for their changes."""
    assert read_classifier(forged(file, json.dumps(contract_of(file)))).contract.classes == CLASSES


@pytest.mark.parametrize("change", ["missing", "more", "shape"])
def test_other_tensors_than_the_contracts_are_refused(file, change):
    tensors = safetensors.torch.load_file(file)
    if change == "missing":
        del tensors["net.fc8.bias"]
    elif change == "more":
        tensors["net.fc9.bias"] = torch.zeros(1)
    else:
        tensors["net.fc8.bias"] = torch.zeros(4)
    with safetensors.safe_open(file, framework="pt") as f:
        metadata = f.metadata()
    safetensors.torch.save_file(tensors, file, metadata)
    with pytest.raises(ModelError, match="fc"):
        read_classifier(file)


def test_safetensors_of_others_are_refused_as_of_unknown_diet(tmp_path):
    safetensors.torch.save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="what it eats is unknown"):
        read_classifier(tmp_path / "x.safetensors")


def test_the_checksum_tells_names_types_shapes_and_bytes_apart():
    a = {"a": torch.zeros(2, 3)}
    others = [{"b": a["a"]}, {"a": a["a"].half()}, {"a": a["a"].T}, {"a": a["a"] - 0.0}, {"a": -a["a"]}]
    assert [checksum(o) == checksum(a) for o in others] == [False, False, False, True, False]


def test_load_takes_a_file_or_a_run_folder(file, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    classifier().save(run / "best.safetensors")
    assert verydeep.load(file).contract == verydeep.load(run).contract == verydeep.load(str(run)).contract


def test_load_says_what_is_wrong_with_a_path(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        verydeep.load(tmp_path / "nothing.safetensors")
    with pytest.raises(ModelError, match="is not a run folder"):
        verydeep.load(tmp_path)
    (tmp_path / "config.yaml").write_text("net: A\n")
    with pytest.raises(ModelError, match="first epoch is not done"):
        verydeep.load(tmp_path)
    with pytest.raises(ModelError, match="try builtin:fashion-a"):
        verydeep.load("builtin:vgg")
    for name in ("/dev/null", "x" * 5000, "a\0b", "~nobody-of-this-name/x", str(tmp_path / "x" / ("y" * 300) / "z")):
        with pytest.raises(ModelError) as e:
            verydeep.load(name)
        assert len(str(e.value).splitlines()) == 1


def test_a_best_that_is_a_folder_or_empty_is_refused(tmp_path):
    (tmp_path / "best.safetensors").mkdir()
    with pytest.raises(ModelError):
        verydeep.load(tmp_path)
    (tmp_path / "best.safetensors").rmdir()
    (tmp_path / "best.safetensors").touch()
    with pytest.raises(ModelError):
        verydeep.load(tmp_path)


RAW = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
TORCHVISION = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
MISTAKES = {
    "0-1": (RAW / 255, r"values from 0 to 1 look like pixels of 0-1: \(photos \* 255\).round\(\).to\(torch.uint8\)"),
    "0-1 that overshoots": (
        RAW / 255 * 1.06 - 0.03,
        r"look like pixels of 0-1 that were rescaled: \(photos \* 255\)\.round\(\)\.clamp",
    ),
    "bright and normalised": (
        torch.full((1, 3, 8, 8), 2.2),
        "very dark pixels of 0-255, or pixels with a mean subtracted",
    ),
    "0-1 of half precision": ((RAW / 255).half(), "float16 .* look like pixels of 0-1"),
    "a dark photo of 0-1": (RAW / 2550, "pixels of 0-1"),
    "0-255": (RAW.float(), r"values from 0 to 255 look like pixels of 0-255: photos.round\(\).to\(torch.uint8\)"),
    "whole numbers": (RAW.long(), "int64 .* pixels of 0-255"),
    "as torchvision": (
        (RAW / 255 - TORCHVISION[0]) / TORCHVISION[1],
        "normalised pixels, a mean subtracted and divided by a standard deviation",
    ),
    "as Caffe": (
        RAW.float() - torch.tensor([103.939, 116.779, 123.68]).view(3, 1, 1),
        "normalised pixels, a mean subtracted and in 0-255",
    ),
    "-1 to 1": (RAW / 127.5 - 1, "normalised pixels"),
    "16 bits": (RAW.int() * 257, "pixels of more than 8 bits"),
    "not finite": (RAW / 0.0, "no finite numbers"),
    "one photo": (RAW[0], r"add a batch dimension with photo\[None\]$"),
    "one photo, colours last": (RAW[0].permute(1, 2, 0), r"photo\[None\], colours first"),
    "colours last": (RAW.permute(0, 2, 3, 1), r"photos.permute\(0, 3, 1, 2\) puts them first"),
    "grey": (RAW[:, :1], "grey photos need three equal colours"),
    "none": (RAW[:0].float(), "convert the photos as they were decoded"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_what_is_no_raw_pixels_is_recognised(name):
    photos, said = MISTAKES[name]
    classifier = verydeep.load("builtin:fashion-a")
    with pytest.raises(ModelError, match=said):
        classifier(photos)
    with pytest.raises(ModelError, match="expected raw pixels, uint8 of shape N x 3 x H x W in RGB"):
        classifier.predict(photos if len(photos) else RAW.float())


@pytest.mark.parametrize("photos", [np.zeros((8, 8, 3), np.uint8), Image.new("RGB", (8, 8))])
def test_a_single_photo_is_no_list_of_rows(photos):
    with pytest.raises(ModelError, match=r"not a single one; give \[photo\]"):
        verydeep.load("builtin:fashion-a").predict(photos)


def test_an_array_is_no_batch_of_pixels():
    with pytest.raises(ModelError, match="photos are a ndarray; expected a tensor"):
        verydeep.load("builtin:fashion-a")(np.zeros((1, 3, 32, 32)))
