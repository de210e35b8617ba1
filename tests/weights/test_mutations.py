"""Damaged files of every format: an error of ours or a net, in little time and memory, never the end of the process.

Each format has a process of its own: python test_mutations.py FORMAT FOLDER COUNT prints what was found as JSON. With
`full` behind it, they are files of net D at full width, 0.5 GB, which are changed in place.
"""

import json
import os
import random
import resource
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import toy

from verydeep.net.classifier import Classifier
from verydeep.net.vgg import VGG

FORMATS = (
    "caffe-v1", "caffe-v2", "onnx", "external onnx", "pth", "legacy pth", "timm", "mat", "compressed mat", "h5",
    "weights.h5", "keras",
)  # fmt: skip
# the other file of a model in two, which is whole where small models are damaged, and damaged where large are
BESIDE = "honest.data"
FEW, MANY, MEMORY, SECONDS = 60, 10_000, 100_000_000, 5.0


def written(kind: str, folder: Path, made: VGG) -> Path:
    path, weights = folder / "honest", toy.tensors(made)
    if kind.startswith("caffe"):
        path.write_bytes((toy.caffe_v1 if kind == "caffe-v1" else toy.caffe_v2)(weights))
    elif kind == "onnx":
        path.write_bytes(toy.onnx_model(toy.zoo_state(made)))
    elif kind == "external onnx":
        model, data = toy.onnx_beside(toy.torchvision_state(made), BESIDE)
        path.write_bytes(model)
        (folder / BESIDE).write_bytes(data)
    elif kind.endswith("pth"):
        torch.save(toy.torchvision_state(made), path, _use_new_zipfile_serialization=kind == "pth")
    elif kind == "timm":
        from safetensors.torch import save_file

        save_file(toy.timm_state(made), path)
    elif kind.endswith("mat"):
        from scipy.io import savemat

        savemat(path := path.with_suffix(".mat"), toy.mat_variables(made), do_compression=kind.startswith("compressed"))
    else:
        write_keras(weights, path, kind)
        path = folder / f"honest.{kind}"
    return path


def write_keras(weights: dict[str, torch.Tensor], path: Path, kind: str) -> None:
    from verydeep.weights import keras

    keras.write(weights, inner := path.with_name(f"honest.{'h5' if kind == 'h5' else 'weights.h5'}"))
    if kind == "keras":
        config = {"config": {"layers": [{"class_name": "Conv2D", "config": {}}]}}
        with zipfile.ZipFile(path.with_name("honest.keras"), "w") as archive:
            archive.writestr("config.json", json.dumps(config))
            archive.write(inner, "model.weights.h5")


def mutations(data: bytes, count: int, chance: random.Random) -> Iterator[bytes]:
    """Cuts at many places, flipped lengths near the beginning and the end, and random bytes anywhere."""
    size = len(data)
    for i in range(count):
        changed, kind = bytearray(data), i % 4
        if kind == 0:
            yield data[: chance.choice((chance.randrange(size), chance.randrange(300), size - chance.randrange(300)))]
            continue
        area = min(3000, size) if kind == 2 else size
        for _ in range(chance.choice((1, 1, 2, 8))):
            at = chance.randrange(area) if chance.random() < 0.7 else size - 1 - chance.randrange(min(4000, size))
            flipped = changed[at] ^ 1 << chance.randrange(8)
            changed[at] = chance.choice((0, 255, 127, 128, flipped, chance.randrange(256)))
        if kind == 3:
            at = chance.randrange(size - 8)
            lengths = (0, 2**31, 2**32 - 1, 2**62, 2**64 - 1, chance.randrange(1 << 20))
            changed[at : at + 8] = struct.pack("<Q", chance.choice(lengths))
        yield bytes(changed)


def rewritten(path: Path, honest: bytes, count: int, chance: random.Random) -> Iterator[int]:
    for i, data in enumerate(mutations(honest, count, chance)):
        path.write_bytes(data)
        yield i


def in_place(path: Path, count: int, chance: random.Random) -> Iterator[int]:
    """The file as it is, then with other bytes near its ends, where lengths are, or anywhere; then ever shorter."""
    size = path.stat().st_size
    yield 0
    with path.open("r+b") as f:
        for i in range(1, count - count // 5):
            at = chance.choice((chance.randrange(3000), size - 8 - chance.randrange(4000), chance.randrange(size - 8)))
            f.seek(at)
            honest = f.read(8)
            f.seek(at)
            f.write(struct.pack("<Q", chance.choice((0, 2**31, 2**62, 2**64 - 1, chance.randrange(2**32)))))
            f.flush()
            yield i
            f.seek(at)
            f.write(honest)
            f.flush()
        for i in range(count - count // 5, count):
            size -= chance.randrange(1, size // 3)
            f.truncate(size)
            yield i


def write_full(kind: str, folder: Path) -> None:
    """Net D at full width; what is read is what was written."""
    from verydeep.weights.read import open_foreign

    torch.manual_seed(0)
    made = VGG("D", classes=toy.CLASSES if kind.endswith("mat") else 1000).eval()
    written(kind, folder, made).rename(path := folder / "full")
    classifier, expected = open_foreign(path, "rgb-255"), toy.tensors(made)
    assert isinstance(classifier, Classifier)
    toy.same({n: t for n, t in classifier.net.state_dict().items() if not n.endswith("tracked")}, expected)


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def open_all(kind: str, folder: Path, count: int, full: bool) -> None:
    from verydeep.errors import VeryDeepError
    from verydeep.weights.read import open_foreign

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if full:
        path, beside = folder / "full", folder / BESIDE
        size = path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)
        tries = in_place(beside if beside.exists() else path, count, random.Random(kind))
    else:
        path = folder / "mutated"
        path.write_bytes(honest := written(kind, folder, toy.net("A", crop=32)).read_bytes())
        open_foreign(path, "bgr-255")
        size, tries = len(honest), rewritten(path, honest, count, random.Random(kind))
    before, slowest, outcomes, untyped = peak(), 0.0, Counter[str](), list[str]()
    for i in tries:
        began = time.process_time()
        try:
            open_foreign(path, "bgr-255")
            outcomes["read"] += 1
        except VeryDeepError as e:
            outcomes["refused"] += 1
            if len(str(e)) > 700 or not str(e).isprintable():
                untyped.append(f"{i}: {str(e)[:200]!r}")
        except BaseException as e:
            untyped.append(f"{i}: {e!r:.200}")
        slowest = max(slowest, time.process_time() - began)
    memory = peak() - before
    print(json.dumps({"outcomes": outcomes, "untyped": untyped, "slowest": slowest, "memory": memory, "size": size}))


def check(kind: str, folder: Path, count: int, seconds: float, *full: str) -> None:
    pytest.importorskip("scipy" if kind.endswith("mat") else "h5py")
    done = subprocess.run(
        [sys.executable, __file__, kind, str(folder), str(count), *full], capture_output=True, text=True,
        timeout=seconds, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert not found["untyped"], found["untyped"][:5]
    assert sum(found["outcomes"].values()) == count
    assert found["outcomes"]["refused"] >= count // 5
    assert found["slowest"] < (60 if full else SECONDS)
    assert found["memory"] <= 2 * found["size"] + MEMORY


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_files(kind, count, tmp_path):
    check(kind, tmp_path, count, 300 + count / 3)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FORMATS)
def test_a_few_damaged_files_of_half_a_gigabyte(kind, tmp_path):
    folder = f"Path({str(tmp_path)!r})"
    write = f"from test_mutations import Path, write_full; write_full({kind!r}, {folder})"
    subprocess.run([sys.executable, "-c", write], cwd=Path(__file__).parent, check=True, timeout=600)
    check(kind, tmp_path, 20, 1200, "full")
    (tmp_path / "full").unlink()
    (tmp_path / BESIDE).unlink(missing_ok=True)


if __name__ == "__main__":
    open_all(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), "full" in sys.argv[4:])
