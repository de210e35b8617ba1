"""Hostile files wherever a file is read: nothing runs or hangs, memory stays bounded, one line says what is wrong.

Each is opened in a process of its own, forked from one that has torch: python test_hostile.py reads "kind path" from
stdin and prints a line of JSON with the outcome, the seconds and the bytes of memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import pickle
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from verydeep.cli import main
from verydeep.contract import Contract, to_json
from verydeep.errors import VeryDeepError
from verydeep.evaluate import posteriors
from verydeep.evaluate.models import evaluate_models
from verydeep.evaluate.passes import Settings
from verydeep.files.disk import LONGEST_JSON, read_json, write_sealed
from verydeep.files.tensors import LONGEST_HEADER, WIDTHS
from verydeep.net.classifier import METADATA, SEAL, build
from verydeep.net.initialise import initialise
from verydeep.net.vgg import VGG
from verydeep.progress import Progress
from verydeep.run import LONGEST_YAML, read_config
from verydeep.train.schedule import Schedule
from verydeep.train.state import Counters, restore, save
from verydeep.weights.model import load

SECONDS, MEMORY = 2.0, 100_000_000
UNIT = 1 if sys.platform == "darwin" else 1024
COLOURS = (100.0, 100.0, 100.0)
CONTRACT = Contract("A", ("a", "b"), 32, 8, 4, False, "up", COLOURS, (1.0, 1.0, 1.0), (32, 32))


@cache
def trained():
    torch.manual_seed(0)
    net = VGG("A", classes=2, crop=32, fc_width=8, base_width=4)
    optimizer = torch.optim.SGD(net.parameters(), 0.01, 0.9)
    net(torch.ones(1, 3, 32, 32)).sum().backward()
    optimizer.step()
    return net, optimizer


# The child


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


def evaluated(path, save=None):
    """Tests what may be posteriors on the photos beside it."""
    settings = Settings(workers=0)
    return evaluate_models(
        [str(path)], str(path.parent / "photos"), ["centre"], settings=settings, save=save, progress=Progress("none")
    )


READERS: dict[str, Callable[[Path], object]] = {
    "model": load,
    "posteriors": evaluated,
    "state": lambda path: restore(path, *trained()),
    "config": read_config,
    "json": read_json,
}


def open_in_a_fork(kind, path):
    if pid := os.fork():
        if os.waitpid(pid, 0)[1] != 0:
            print(json.dumps(["it died or hung", 0, 0]), flush=True)
        return
    signal.alarm(20)
    before, began = peak(), time.process_time()
    try:
        READERS[kind](Path(path))
        outcome = "accepted"
    except VeryDeepError as e:
        outcome = f"refused: {e}"
    except BaseException as e:
        outcome = f"untyped: {e!r}"
    print(json.dumps([outcome, time.process_time() - began, peak() - before]), flush=True)
    os._exit(0)


# The files


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def pickles(canary):
    bomb = Canary(canary)
    return {
        **{f"pickle {n}": lambda path, n=n: path.write_bytes(pickle.dumps(bomb, n)) for n in (0, 2, 5)},
        "torch zip": lambda path: torch.save({"weights": bomb}, path),
        "torch legacy": lambda path: torch.save({"weights": bomb}, path, _use_new_zipfile_serialization=False),
        "numpy": lambda path: path.write_bytes(
            b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,)}" + pickle.dumps(bomb)
        ),
    }


def raw(length, header, body=b""):
    return lambda path: path.write_bytes(struct.pack("<Q", length) + header + body)


def headed(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return raw(len(text), text, body)


def tensor(begin, end, shape=None, dtype="F32"):
    return {"dtype": dtype, "shape": shape or [1], "data_offsets": [begin, end]}


def fill(text, before, after, length):
    return before + text * ((length - len(before) - len(after)) // len(text)) + after


def sealed(contract, tensors=None):
    blob = {METADATA: contract, SEAL: hashlib.sha256(contract.encode()).hexdigest(), "format": "pt"}
    return headed(json.dumps({"__metadata__": blob, **(tensors or {})}, ensure_ascii=False).encode())


def sparse(path):
    """A consistent file of 200 GB that takes no room on the disk."""
    giant = replace(CONTRACT, base_width=4096, sha256="0" * 64)
    header: dict[str, Any] = {
        "__metadata__": {METADATA: (text := to_json(giant)), SEAL: hashlib.sha256(text.encode()).hexdigest()}
    }
    header["__metadata__"]["format"], end = "pt", 0
    for name, t in build(giant, "meta").state_dict().items():
        header[name], end = tensor(end, end + t.nbytes, list(t.shape)), end + t.nbytes
    headed(header)(path)
    os.truncate(path, path.stat().st_size + end)


def bind(path):
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{short}/s")  # such a name may have a hundred bytes
        Path(f"{short}/s").rename(path)


def special(path):
    return {
        "zero": lambda: path.symlink_to("/dev/zero"),
        "random": lambda: path.symlink_to("/dev/random"),
        "pipe": lambda: os.mkfifo(path),
        "socket": lambda: bind(path),
        "folder": path.mkdir,
        "memory": lambda: path.symlink_to("/proc/self/mem"),
        "loop": lambda: path.symlink_to(path),
    }


def tensors(n):
    return (
        b"{"
        + b",".join(
            b'"%d":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}' % (i, 4 * i, 4 * i + 4) for i in range(n)
        )
        + b"}"
    )


THOUSANDS = tensors(1 << 16)
HEADERS: dict[str, Callable[[Path], object]] = {
    "length 2^64": raw(2**64 - 1, b"{}"),
    "length 2^62": raw(2**62, b"{}"),
    "longer than the file": raw(1000, b"{}"),
    "100 MB of header": raw(100_000_000, b"{" + b" " * 99_999_999),
    "a million tensors": lambda path: headed(tensors(1 << 20), bytes(4 << 20))(path),
    "as many tensors as fit": headed(
        THOUSANDS[: (cut := THOUSANDS.rfind(b"},", 0, LONGEST_HEADER - 2)) + 1] + b"}", bytes(4 * (1 << 16))
    ),
    "nested": headed(fill(b"[", b"", b"", LONGEST_HEADER)),
    "nested objects": headed(fill(b'{"a":', b"", b"", LONGEST_HEADER)),
    "lists": headed(fill(b"[],", b'{"a":[', b"[]]}", LONGEST_HEADER)),
    "a name of 3 MB": headed(
        fill(b"x", b'{"', b'":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', LONGEST_HEADER), bytes(4)
    ),
    "overlapping": headed({"a": tensor(0, 4), "b": tensor(2, 6)}, bytes(6)),
    "beyond": headed({"a": tensor(0, 1 << 62)}, bytes(4)),
    "backwards": headed({"a": tensor(4, 0)}, bytes(4)),
    "gigantic shape": headed({"a": tensor(0, 4, [1 << 40, 1 << 40])}, bytes(4)),
    "negative": headed({"a": tensor(-4, 0)}, bytes(4)),
    "twice": headed(
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        bytes(4),
    ),
    "dots": headed({"../../x": tensor(0, 4), "/etc/passwd": tensor(4, 8)}, bytes(8)),
    "control characters": headed({"\n\x1b[2J": tensor(0, 4)}, bytes(4)),
}
CONTRACTS: dict[str, Callable[[Path], object]] = {
    "contract nested": sealed("[" * (LONGEST_HEADER // 2)),
    "contract of lists": sealed(fill(b"[],", b"[", b"[]]", LONGEST_HEADER - 500).decode()),
    "contract of objects": sealed(fill(b"{},", b"[", b"{}]", LONGEST_HEADER - 500).decode()),
    "contract with a long field": sealed('{"format":1,"' + "x" * (LONGEST_HEADER // 2) + '":1}'),
    "contract of a long format": sealed('{"format":"' + "x" * (LONGEST_HEADER // 2) + '"}'),
    "contract of many classes": sealed(
        to_json(CONTRACT).replace('"a", "b"', fill(b'"a",', b"", b'"a"', LONGEST_HEADER // 3).decode())
    ),
    "contract with a tensor of an odd name": lambda path: sealed(
        to_json(CONTRACT), {"\n\x1b[2J" * 10_000: tensor(0, 0, [0])}
    )(path),
    "sparse": sparse,
}
LAUGHS = ", ".join(f"&{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
YAML: dict[str, bytes] = {
    "aliases": f"net: [&a [x,x,x,x,x,x,x,x,x], {LAUGHS}]".encode(),
    "loop": b"&a [*a]",
    "python": b"!!python/object/apply:os.mkdir [CANARY]",
    "nested lists": b"[" * LONGEST_YAML,
    "nested objects": b"{a: " * (LONGEST_YAML // 4),
    "nested keys": b"? " * (LONGEST_YAML // 2),
    "scalars": b"[" + b"a," * (LONGEST_YAML // 2 - 1) + b"]",
    "a long number": b"crop: " + b"1" * (LONGEST_YAML - 10),
    "sexagesimal": b"crop: 1" + b":1" * (LONGEST_YAML // 2 - 10),
    "too long": b"#" * 1_000_000,
    "too many scalars": b"[" + b"a," * 200_000 + b"]",
    "too long, deep": b"[" * 1_000_000,
    "no bool": b"!!bool x",
    "no int": b"!!int ''",
    "no date": b"!!timestamp x",
    "no key": b"? {a: b}\n: c",
}
JSON: dict[str, bytes] = {
    "nested": b"[" * LONGEST_JSON,
    "nested objects": fill(b'{"a":', b"", b"", LONGEST_JSON),
    "lists": fill(b"[],", b'{"a":[', b"[]", LONGEST_JSON),
    "objects": fill(b"{},", b"[", b"{}]", LONGEST_JSON),
    "a long number": fill(b"1", b'{"a":', b"}", LONGEST_JSON),
    "too long": fill(b"[],", b"[", b"[]]", 10 * LONGEST_JSON),
}


Change = Callable[[dict[str, Any], dict[str, Any], bytes], bytes | None]
ROWS = "rows"


def saved_posteriors(root):
    """The posteriors of a small net for two photos beside it."""
    for name in ("a", "b"):
        (root / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (36, 36), (50, 100, 150)).save(root / "photos" / name / "0.png")
    model = build(CONTRACT)
    initialise(model.net, "he")
    model.save(root / "model.safetensors")
    evaluated(root / "model.safetensors", root / "good.safetensors")
    return root / "good.safetensors"


def forged(good, change, path, seal=True):
    """The file with other facts, tensors or bytes, and all sums made to fit."""
    data = good.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:end]), data[end:]
    about = json.loads(header["__metadata__"][posteriors.METADATA])
    body = change(header, about, body[:-32]) or body[:-32]
    body += hashlib.sha256(body).digest()
    header["__metadata__"] |= posteriors.sealed(about)
    headed(json.dumps(header, ensure_ascii=False).encode(), body)(path)


def rows_of(values):
    return lambda h, a, b: (
        b[: (at := h[ROWS]["data_offsets"][0])] + np.array(values, "<f4").tobytes() + b[at + 4 * len(values) :]
    )


def bytes_of(name, values, kind):
    """A tensor of other bytes, no more than before."""
    return lambda h, a, b: (
        b[: (at := h[name]["data_offsets"][0])] + (new := np.array(values, kind).tobytes()) + b[at + len(new) :]
    )


def described(name, **values):
    return lambda h, a, b: h[name].update(values)


def facts(**values):
    return lambda h, a, b: a["models"][0]["results"][0]["how"].update(values)


def contract(**values):
    return lambda h, a, b: a["models"][0]["contract"].update(values)


def without_rows(h, a, b):
    """The last tensor but for the small ones is that of the rows; those behind it move down."""
    begin, end = h.pop(ROWS)["data_offsets"]
    for found in h.values():
        if found.get("data_offsets", [0])[0] >= end:
            found["data_offsets"] = [at - (end - begin) for at in found["data_offsets"]]
    return b[:begin] + b[end:]


def many_photos(good, photos):
    """A file as long as so many photos would make it, of zeros that take no room on the disk."""

    def write(path):
        data, end = good.read_bytes(), 0
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        shapes = {name: [photos] for name in posteriors.KINDS} | {ROWS: [photos, 2], "sha256": [32]}
        for name, kind in posteriors.KINDS.items():
            shape = shapes[name]
            header[name] = tensor(end, end := end + WIDTHS[kind] * math.prod(shape), shape, kind)
        headed(header)(path)
        os.truncate(path, path.stat().st_size + end)

    return write


POSTERIORS: dict[str, Change] = {
    "not a number": rows_of([np.nan]),
    "negative": rows_of([-0.5, 1.5]),
    "infinite": rows_of([np.inf]),
    "not summing to one": rows_of([0.5, 0.4]),
    "rows of bytes": described(ROWS, dtype="U8", shape=[2, 8]),
    "rows of integers": described(ROWS, dtype="I32"),
    "rows the other way round": described(ROWS, shape=[1, 4]),
    "rows in three dimensions": described(ROWS, shape=[2, 2, 1]),
    "no rows": without_rows,
    "ends without a dimension": described("ends", shape=[1, 2]),
    "tested without a dimension": lambda h, a, b: h["tested"].update(shape=[], data_offsets=[0, 1]),
    "ends that fall": bytes_of("ends", [13, 6], "<i8"),
    "ends below zero": bytes_of("ends", [-1], "<i8"),
    "ends beyond the end": bytes_of("ends", [6, 1 << 62], "<i8"),
    "names that are no text": bytes_of("keys", [0xFF, 0xFE], "u1"),
    "a name within a name": bytes_of("keys", [ord("a"), 0], "u1"),
    "names of other photos": bytes_of("keys", list(b"c/0.png"), "u1"),
    "names in control characters": bytes_of("keys", list(b"\x1b[2J"), "u1"),
    "targets below zero": bytes_of("targets", [-1], "<i8"),
    "targets beyond the classes": bytes_of("targets", [1 << 40], "<i8"),
    "targets of another class": bytes_of("targets", [1], "<i8"),
    "tested by 7": bytes_of("tested", [7], "u1"),
    "a photo not tested": bytes_of("tested", [0], "u1"),
    "other classes": contract(classes=["x", "y"]),
    "other classes in control characters": contract(classes=["\n\x1b[2J" * 1000, "y"]),
    "fewer classes": contract(classes=["a"]),
    "a class of a megabyte": contract(classes=["a", "x" * 1_000_000]),
    "a contract of lists": contract(classes=[[]] * 700_000),
    "a contract of nothing": lambda h, a, b: a["models"][0].update(contract={}),
    "no model": lambda h, a, b: a.update(models=[]),
    "models that are text": lambda h, a, b: a.update(models="a" * 1_000_000),
    "a name of a megabyte": lambda h, a, b: a["models"][0].update(name="x" * 1_000_000),
    "a name in control characters, of another test": lambda h, a, b: (
        a["models"][0].update(name="\n\x1b[2J") or facts(scales=[48])(h, a, b)
    ),
    "another protocol": lambda h, a, b: a["models"][0]["results"][0].update(protocol="ten"),
    "a protocol of lists": lambda h, a, b: a["models"][0]["results"][0].update(protocol=[[]]),
    "scales without end": facts(scales=[32] * 500_000),
    "scales of another test": facts(scales=[48]),
    "an average of a megabyte": facts(average="x" * 1_000_000),
    "an average in control characters": facts(average="\n\x1b[2J"),
    "absurd passes": facts(passes=10**4000),
    "passes that are not a number": facts(passes=float("nan")),
    "endless seconds": facts(seconds=float("inf")),
    "negative seconds": facts(seconds=-1.0),
    "an absurd limit": lambda h, a, b: a.update(limit=10**4000),
    "a negative limit": lambda h, a, b: a.update(limit=-1),
    "a split of a megabyte": lambda h, a, b: a.update(split="x" * 1_000_000),
    "a format of lists": lambda h, a, b: a.update(format=[[]] * 500_000),
    "huge facts": lambda h, a, b: a.update(more=[[]] * 600_000, format=3),
    "another key beside them": lambda h, a, b: h["__metadata__"].update(more="x" * 1_000_000),
    "a name twice in the header": lambda h, a, b: h.update({"1 centre single": dict(h[ROWS])}),
}


def posteriors_cases(root):
    """Name -> "kind path"; the photos they are of lie beside them."""
    root.mkdir()
    good, cases = saved_posteriors(root), {}
    data = good.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    cut = {f"cut after {n} bytes": data[:n] for n in (1, 8, 9, end - 1, end, end + 20, len(data) - 1)}
    flipped = {f"byte {n} of its length": data[:n] + bytes([data[n] ^ 1 << n]) + data[n + 1 :] for n in range(8)}
    for i, (name, raw_bytes) in enumerate((cut | flipped | {"a byte more": data + b"\0"}).items()):
        (path := root / f"cut{i}.safetensors").write_bytes(raw_bytes)
        cases[f"posteriors: {name}"] = f"posteriors {path}"
    for i, (name, change) in enumerate(POSTERIORS.items()):
        forged(good, change, path := root / f"{i}.safetensors")
        cases[f"posteriors: {name}"] = f"posteriors {path}"
    for name, photos in (("millions of photos", 1 << 22), ("more photos than memory, sparse", 1 << 38)):
        cases[f"posteriors: {name}"] = f"posteriors {put(root / f'{photos}.safetensors', many_photos(good, photos))}"
    return cases


def forged_state(folder, name, write):
    """A state of which one file was replaced and the sums were made to fit."""
    save(folder, *trained(), Counters(step=1), Schedule(0.01))
    value = json.loads((folder / "state.json").read_text())
    (folder / name).unlink()
    write(folder / name)
    if (folder / name).is_file() and not (folder / name).is_symlink() and (folder / name).stat().st_size < 1 << 30:
        value["sha256"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    del value["seal"]
    write_sealed(folder / "state.json", value)
    return f"state {folder}"


def put(path, write):
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)
    return path


def all_cases(root):
    """Name -> "kind path"."""
    canary, cases, weights = root / "canary", {}, "weights-1.safetensors"
    writers = HEADERS | CONTRACTS | pickles(canary) | {
        name: lambda path, name=name: special(path)[name]() for name in special(root)
    }  # fmt: skip
    for i, (name, write) in enumerate(writers.items()):
        if not name.endswith("folder"):
            cases[f"model: {name}"] = f"model {put(root / f'{i}m' / 'best.safetensors', write)}"
        if not name.startswith(("contract", "sparse")):
            cases[f"weights: {name}"] = forged_state(root / f"{i}w" / "last", weights, write)
        if name in special(root) or name in pickles(canary):
            cases[f"run: {name}"] = f"model {put(root / f'{i}r' / 'best.safetensors', write).parent}"
            if name != "loop":  # it leads nowhere, so there is no state
                cases[f"state.json: {name}"] = f"state {put(root / f'{i}s' / 'state.json', write).parent}"
            cases[f"config.yaml: {name}"] = f"config {put(root / f'{i}c' / 'config.yaml', write).parent}"
    for i, (name, data) in enumerate(YAML.items()):
        data = data.replace(b"CANARY", str(canary).encode())
        cases[f"config.yaml: {name}, as YAML"] = (
            f"config {put(root / f'{i}y' / 'config.yaml', lambda path, data=data: path.write_bytes(data)).parent}"
        )
    for i, (name, data) in enumerate(JSON.items()):
        cases[f"json: {name}"] = (
            f"json {put(root / f'{i}j' / 'x.json', lambda path, data=data: path.write_bytes(data))}"
        )
        cases[f"state.json: {name}, as JSON"] = (
            f"state {put(root / f'{i}t' / 'state.json', lambda path, data=data: path.write_bytes(data)).parent}"
        )
    return cases | posteriors_cases(root / "posteriors")


def test_hostile_files_are_refused_in_one_line_quickly_and_in_little_memory(tmp_path):
    cases = all_cases(tmp_path)
    done = subprocess.run(
        [sys.executable, __file__], input="\n".join(cases.values()), capture_output=True, text=True, timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = dict(zip(cases, map(json.loads, done.stdout.splitlines()), strict=True))
    wrong = {}
    for name, (outcome, seconds, memory) in found.items():
        path = Path(cases[name].split(" ", 1)[1])
        size = path.stat().st_size if path.is_file() and "sparse" not in name else 0
        good = outcome.startswith("refused: ") and len(outcome) < 500 and outcome.isprintable()
        if not good or seconds > SECONDS or memory > 2 * size + MEMORY:
            wrong[name] = (outcome[:300], seconds, memory)
    assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())
    assert not (tmp_path / "canary").exists()


def test_an_honest_model_takes_twice_its_size(tmp_path):
    """So that the bound above is not met by refusing everything."""
    model = build(replace(CONTRACT, base_width=64, fc_width=256))
    initialise(model.net, "he")
    model.save(path := tmp_path / "x.safetensors")
    done = subprocess.run([sys.executable, __file__], input=f"model {path}", capture_output=True, text=True, check=True)
    outcome, _, memory = json.loads(done.stdout)
    assert outcome == "accepted"
    assert path.stat().st_size > 30_000_000
    assert memory <= 2 * path.stat().st_size + MEMORY


def test_the_canary_would_sing(tmp_path):
    for i, write in enumerate(pickles(tmp_path / "canary").values()):
        write(file := tmp_path / f"{i}.pt")
        if i < 3:
            pickle.loads(file.read_bytes())
            (tmp_path / "canary").rmdir()
    torch.load(tmp_path / "3.pt", weights_only=False)
    assert (tmp_path / "canary").exists()


@pytest.mark.parametrize("verb", ["predict", "evaluate", "init_from"])
def test_the_command_line_refuses_a_pickle_in_one_line(tmp_path, photo_folder, verb, capsys):
    path, out = tmp_path / "model.safetensors", str(tmp_path / "run")
    torch.save({"weights": Canary(tmp_path / "canary")}, path)
    small = [
        "--net",
        "A",
        "--crop",
        "32",
        "--scale",
        "36",
        "--fc_width",
        "8",
        "--base_width",
        "4",
        "--batch",
        "4",
        "--workers",
        "0",
    ]
    words = {
        "predict": ["predict", str(path), str(photo_folder)],
        "evaluate": ["evaluate", str(path), str(photo_folder)],
        "init_from": ["train", str(photo_folder), "--out", out, *small, "--init_from", str(path)],
    }[verb]
    assert main(words) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if "model.safetensors" in line]
    assert len(said) == 1
    assert "mkdir, which builds no tensor; nothing of it was run" in said[0]
    assert not (tmp_path / "canary").exists()


if __name__ == "__main__":
    torch.set_num_threads(1)
    safetensors.torch.load(safetensors.torch.save({"a": torch.zeros(1)}))
    trained()
    for line in sys.stdin.read().splitlines():
        open_in_a_fork(*line.split(" ", 1))
