"""Raw pixels in, posteriors out, one file: what a Classifier expects, answers and writes, and what it refuses."""

import hashlib
import json
import os
import random
import struct
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

import verydeep
from verydeep.contract import Contract
from verydeep.errors import ConfigError, LongPhotoError, ModelError, PhotoError
from verydeep.files.tensors import LONGEST_HEADER, checksum, write_tensors
from verydeep.net.classifier import METADATA, SEAL, build
from verydeep.net.initialise import initialise
from verydeep.net.saved import read_classifier, read_contract

CLASSES = ("cat", "dog", "Käse")


def classifier(net="A", **changes):
    values = {
        "net": net, "classes": CLASSES, "crop": 32, "fc_width": 8, "base_width": 4, "batch_norm": False,
        "pooling": "up", "mean": (100.0, 110.5, 120.25), "std": (1.0, 2.0, 4.0), "scales": (36, 44),
        "origin": "a test", "licence": "MIT",
    }  # fmt: skip
    made = build(Contract(**(values | changes)))
    initialise(made.net, "he")
    return made.eval()


def doubtful():
    """One whose posteriors are not 0 and 1."""
    made = classifier()
    made.net.fc8.weight.data *= 0.03
    return made


def pixels(*shape, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def normal(x):
    """Mean and std by hand, in fp64."""
    mean, std = np.array([100.0, 110.5, 120.25]), np.array([1.0, 2.0, 4.0])
    return torch.from_numpy((x.numpy() - mean[:, None, None]) / std[:, None, None]).float()


def test_the_mean_is_subtracted_and_the_rest_divided():
    x = pixels(2, 3, 32, 32)
    assert torch.allclose(classifier().normalise(x), normal(x), atol=1e-5)


def test_crop_size_takes_the_fc_form():
    model, x = classifier(), pixels(2, 3, 32, 32)
    assert torch.equal(model(x), model.net(model.normalise(x)))
    assert torch.equal(model.dense(x)[:, :, 0, 0], model(x))


def test_other_sizes_are_dense_and_averaged_over_space():
    model, x = classifier(), pixels(2, 3, 70, 100)
    scores = model.net.dense(normal(x)).double()
    assert scores.shape == (2, 3, 3, 4)
    assert torch.allclose(model(x).double(), scores.sum((2, 3)) / 12, rtol=1e-4, atol=1e-4)
    assert torch.equal(model.dense(x), model.net.dense(model.normalise(x)))


def test_photos_below_the_crop_are_refused():
    with pytest.raises(ConfigError, match="at least 32 pixels"):
        classifier()(pixels(1, 3, 31, 40))


def test_posteriors_are_a_distribution_and_the_mode_comes_back():
    model = classifier().train()
    found = model.predict(pixels(4, 3, 32, 32))
    assert found.shape == (4, 3)
    assert torch.allclose(found.sum(1), torch.ones(4))
    assert model.training
    assert model.predict([]).shape == (0, 3)


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
    assert torch.allclose(doubtful().predict([array]), doubtful().predict(crop), atol=1e-2)


def test_dense_shows_the_whole_photo_and_its_mirror_image():
    """A list at the middle scale, a tensor as it is; by hand, in fp64."""
    model, array = doubtful(), pixels(80, 120, 3).numpy()
    rescaled = np.asarray(Image.fromarray(array).resize((60, 40), Image.Resampling.BILINEAR))  # Q = (36 + 44) / 2
    whole = torch.tensor(rescaled).permute(2, 0, 1)[None]
    scores = [model.net.dense(normal(x)).double().mean((2, 3)) for x in (whole, whole.flip(3))]
    expected = (scores[0].softmax(1) + scores[1].softmax(1)) / 2
    assert not torch.allclose(scores[0].softmax(1), expected, atol=1e-3)
    for photos in ([array], whole):
        assert torch.allclose(model.predict(photos, protocol="dense").double(), expected, atol=1e-5)
    plain = classifier(flip=False)
    plain.load_state_dict(model.state_dict())
    assert torch.allclose(plain.predict([array], "dense").double(), scores[0].softmax(1), atol=1e-5)
    large = torch.cat([whole] * 2).repeat(1, 1, 30, 40)  # 2 x 2.9 megapixels: each way goes through alone
    ways = [model(large[:1]).softmax(1), model(large[:1].flip(3)).softmax(1)]
    assert torch.allclose(model.predict(large, "dense"), ((ways[0] + ways[1]) / 2).expand(2, 3), atol=1e-6)


def test_top_names_the_most_probable_classes():
    model, x = doubtful().train(), pixels(3, 3, 32, 32)
    posteriors = model.predict(x)
    for top in (1, 2, 3, 9):
        found = model.predict(x, top=top)
        assert model.training
        assert len(found) == 3
        for named, row in zip(found, posteriors.tolist(), strict=True):
            assert named == sorted(zip(CLASSES, row, strict=True), key=lambda one: -one[1])[:top]
    assert model.predict([], top=2) == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"protocol": "ten"}, "protocol: 'ten' is not one of centre, dense"),
        ({"protocol": None}, "protocol: None is not one of centre, dense"),
        ({"protocol": "crops"}, "protocol: 'crops' is not one of centre, dense"),
        *(({"top": top}, f"top: {top!r} is not a whole number, 1 or more$") for top in (0, -1)),
        *(({"top": top}, f"top: {top!r} is not a whole number$") for top in (2.0, True, "3")),
    ],
)
def test_a_wrong_protocol_or_top_is_named_before_any_work(asked, said):
    with pytest.raises(ConfigError, match=said):
        classifier().predict(["missing.png"], **asked)


def test_a_photo_too_long_for_dense_is_named(tmp_path):
    Image.new("RGB", (330, 40)).save(tmp_path / "long.png")
    said = "{}: is 330 x 40, longer than 8:1, too long for dense evaluation"
    for photo, name in ((tmp_path / "long.png", "long.png"), (np.zeros((40, 330, 3), np.uint8), "photo 1")):
        with pytest.raises(LongPhotoError, match=said.format(name)):
            classifier().predict([Image.new("RGB", (40, 320)), photo], "dense")
        assert classifier().predict([photo]).shape == (1, 3)


def test_a_bad_photo_is_named(tmp_path):
    with pytest.raises(PhotoError, match=r"missing\.png"):
        classifier().predict([tmp_path / "missing.png"])
    with pytest.raises(PhotoError, match="photo 1"):
        classifier().predict([np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40, 3))])


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


def test_the_longest_class_names_that_are_written_are_read(tmp_path):
    names = tuple(f"{i:0100}" for i in range(14_000))
    assert len(json.dumps(json.dumps(names))) in range(LONGEST_HEADER // 2 - 20_000, LONGEST_HEADER // 2)
    classifier(classes=names).save(tmp_path / "x.safetensors")
    assert read_contract(tmp_path / "x.safetensors").classes == names


@pytest.mark.parametrize("dtype", [torch.int8, torch.float64, torch.complex64])
def test_types_that_could_not_be_read_are_not_written(tmp_path, dtype):
    with pytest.raises(ModelError, match=r"expected torch\.float32"):
        classifier().save(tmp_path / "x.safetensors", dtype)


def with_header(length, header, body=b""):
    return struct.pack("<Q", length) + header + body


@pytest.mark.parametrize(
    "header",
    [
        b"{}", b"null", b'{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}', b'{"__metadata__":{"verydeep":5}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9223372036854775808]}}',
    ],
)  # fmt: skip
def test_what_is_no_file_of_ours_is_refused(file, header):
    """Cut short, longer, noise and absurd headers; test_hostile.py has more."""
    data, noise = file.read_bytes(), np.random.default_rng(len(header))
    cuts = [data[: len(data) * twentieth // 20] for twentieth in range(20)]
    random = [noise.bytes(int(size)) for size in [*range(20), *noise.integers(20, 10_000, 10)]]
    for wrong in [data + b"\0", with_header(len(header), header, bytes(4)), with_header(2**63, b"{}"), *cuts, *random]:
        file.write_bytes(wrong)
        with pytest.raises(ModelError, match=r"model\.safetensors"):
            read_classifier(file)


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


def forged(file, tensors=None, **changes):
    """The file with other tensors or another contract, its checksums made to fit."""
    with safetensors.safe_open(file, framework="pt") as f:
        text = json.dumps(json.loads(f.metadata()[METADATA]) | changes)
    metadata = {METADATA: text, SEAL: hashlib.sha256(text.encode()).hexdigest(), "format": "pt"}
    safetensors.torch.save_file(tensors or safetensors.torch.load_file(file), file, metadata)
    return file


@pytest.mark.parametrize(
    "change",
    [
        {"net": "D"}, {"crop": 33}, {"crop": 64}, {"crop": 2**16}, {"fc_width": 2**16, "base_width": 2**16},
        {"batch_norm": True}, {"classes": ["a"] * 1000}, {"mean": [1.0, 2.0, 3.0]},
        {"std": [1.0, 1.0, 1.0]}, {"sha256": "0" * 64},
    ],
    ids=str,
)  # fmt: skip
def test_a_contract_that_does_not_fit_its_tensors_is_refused(file, change):
    assert read_classifier(forged(file)).contract.classes == CLASSES
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        read_classifier(forged(file, **change))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("net.fc8.bias", None), ("net.fc9.bias", torch.zeros(1)), ("net.fc8.bias", torch.zeros(4)),
        ("mean", torch.zeros(3).half()), ("net.fc8.bias", torch.zeros(3).long()),
        ("net.fc8.bias", torch.zeros(3).double()),
    ],
)  # fmt: skip
def test_other_tensors_than_the_contracts_are_refused(file, name, change):
    """Weights of whole numbers would be read, and fail with the first photo."""
    tensors = safetensors.torch.load_file(file) | {name: change}
    tensors = {n: t for n, t in tensors.items() if t is not None}
    with pytest.raises(ModelError, match=f"layers do not match .*{name}|{name} has another shape or type"):
        read_classifier(forged(file, tensors, sha256=checksum(tensors)))


def test_safetensors_of_others_are_refused_as_of_unknown_diet(tmp_path):
    safetensors.torch.save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "x.safetensors")
    with pytest.raises(ModelError, match="its input is unknown"):
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
    (tmp_path / "best.safetensors").touch()
    with pytest.raises(ModelError):
        verydeep.load(tmp_path)
    (tmp_path / "best.safetensors").unlink()
    (tmp_path / "best.safetensors").mkdir()
    with pytest.raises(ModelError):
        verydeep.load(tmp_path)
    with pytest.raises(ModelError, match="try builtin:fashion-a"):
        verydeep.load("builtin:vgg")
    for name in ("/dev/null", "x" * 5000, "a\0b", "~nobody-of-this-name/x", str(tmp_path / "x" / ("y" * 300) / "z")):
        with pytest.raises(ModelError) as e:
            verydeep.load(name)
        assert len(str(e.value).splitlines()) == 1


RAW = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
TORCHVISION = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
MISTAKES = [
    (RAW / 255, r"values from 0 to 1 look like pixels of 0-1: \(photos \* 255\).round\(\).to\(torch.uint8\)"),
    (RAW / 255 * 1.06 - 0.03, r"look like pixels of 0-1 that were rescaled: \(photos \* 255\)\.round\(\)\.clamp"),
    (torch.full((1, 3, 8, 8), 2.2), "very dark pixels of 0-255, or pixels with a mean subtracted"),
    ((RAW / 255).half(), "float16 .* look like pixels of 0-1"),
    (RAW / 2550, "pixels of 0-1"),
    (RAW.float(), r"values from 0 to 255 look like pixels of 0-255: photos.round\(\).to\(torch.uint8\)"),
    (RAW.long(), "int64 .* pixels of 0-255"),
    (
        (RAW / 255 - TORCHVISION[0]) / TORCHVISION[1],
        "normalised pixels, a mean subtracted and divided by a standard dev",
    ),
    (RAW - torch.tensor([103.9, 116.8, 123.7]).view(3, 1, 1), "normalised pixels, a mean subtracted and in 0-255"),
    (RAW / 127.5 - 1, "normalised pixels"),
    (RAW.int() * 257, "pixels of more than 8 bits"),
    (RAW / 0.0, "no finite numbers"),
    (RAW[0], r"add a batch dimension with photo\[None\]$"),
    (RAW[0].permute(1, 2, 0), r"photo\[None\], colours first"),
    (RAW.permute(0, 2, 3, 1), r"photos.permute\(0, 3, 1, 2\) puts them first"),
    (RAW[:, :1], "grey photos need three equal colours"),
    (RAW[:0].float(), "convert the photos as they were decoded"),
]


@pytest.mark.parametrize(("photos", "said"), MISTAKES)
def test_what_is_no_raw_pixels_is_refused_as_what_it_looks_like(photos, said):
    model = classifier()
    whole = partial(model.predict, protocol="dense")
    for way in (model, model.dense, *[model.predict, whole] * bool(len(photos))):
        with pytest.raises(ModelError, match=said):
            way(photos)


def test_what_is_no_batch_of_photos_is_refused():
    for photo in (np.zeros((8, 8, 3), np.uint8), Image.new("RGB", (8, 8))):
        with pytest.raises(ModelError, match=r"not a single one; give \[photo\]"):
            classifier().predict(photo)
    with pytest.raises(ModelError, match=r"not the single path 'x\.png'"):
        classifier().predict("x.png")
    with pytest.raises(ModelError, match="photos are a ndarray; expected a tensor"):
        classifier()(np.zeros((1, 3, 32, 32)))
