"""Hostile files wherever a file is read: nothing runs or hangs, memory stays bounded, one line says what is wrong.

Each is opened in a process of its own, forked from one that has torch: python test_hostile.py reads "kind path" from
stdin and prints a line of JSON with the outcome, the seconds and the bytes of memory.
"""

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
from dataclasses import replace
from functools import cache
from pathlib import Path

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
from verydeep.fields import LONGEST_YAML
from verydeep.files.disk import LONGEST_JSON, read_json, write_sealed
from verydeep.files.tensors import LONGEST_HEADER, WIDTHS
from verydeep.net.classifier import METADATA, SEAL, build
from verydeep.net.initialise import initialise
from verydeep.net.vgg import VGG
from verydeep.progress import Progress
from verydeep.run import read_config
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


def evaluated(path, protocols=("centre",), save=None):
    """Tests what may be posteriors on the photos beside it."""
    quiet = {"settings": Settings(workers=0), "progress": Progress("none")}
    return evaluate_models([str(path)], str(path.parent / "photos"), protocols, save=save, **quiet)


READERS = {
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


# The files: bytes, or functions of a path that return bytes or write themselves


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(found := content(path) if callable(content) else content, bytes):
        path.write_bytes(found)
    return path


class Canary:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def pickles(canary):
    bomb = Canary(canary)
    numpy = b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,)}"
    return {
        **{f"pickle {n}": pickle.dumps(bomb, n) for n in (0, 2, 5)},
        "torch zip": lambda path: torch.save({"weights": bomb}, path),
        "torch legacy": lambda path: torch.save({"weights": bomb}, path, _use_new_zipfile_serialization=False),
        "numpy": numpy + pickle.dumps(bomb),
    }


def raw(length, header, body=b""):
    return struct.pack("<Q", length) + header + body


def headed(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header, ensure_ascii=False).encode()
    return raw(len(text), text, body)


def tensor(begin, end, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def fill(text, before, after, length=LONGEST_HEADER):
    return before + text * ((length - len(before) - len(after)) // len(text)) + after


def facts_of(contract):
    return {METADATA: contract, SEAL: hashlib.sha256(contract.encode()).hexdigest(), "format": "pt"}


def sealed(contract, **tensors):
    return headed({"__metadata__": facts_of(contract), **tensors})


def stretched(path, header, end):
    """A file as long as its header says, of zeros that take no room on the disk."""
    path.write_bytes(headed(header))
    os.truncate(path, path.stat().st_size + end)


def sparse(path):
    """A consistent file of 200 GB."""
    giant, end = replace(CONTRACT, base_width=4096, sha256="0" * 64), 0
    header = {"__metadata__": facts_of(to_json(giant))}
    for name, t in build(giant, "meta").state_dict().items():
        header[name], end = tensor(end, end + t.nbytes, list(t.shape)), end + t.nbytes
    stretched(path, header, end)


def bind(path):
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{short}/s")  # such a name may have a hundred bytes
        Path(f"{short}/s").rename(path)


def tensors(n):
    one = b'"%d":{"dtype":"F32","shape":[1],"data_offsets":[%d,%d]}'
    return b"{" + b",".join(one % (i, 4 * i, 4 * i + 4) for i in range(n)) + b"}"


SPECIAL = {
    "zero": lambda path: path.symlink_to("/dev/zero"),
    "random": lambda path: path.symlink_to("/dev/random"),
    "pipe": os.mkfifo,
    "socket": bind,
    "folder": Path.mkdir,
    "memory": lambda path: path.symlink_to("/proc/self/mem"),
    "loop": lambda path: path.symlink_to(path),
}
THOUSANDS = tensors(1 << 16)
ONE = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
HEADERS = {
    **{f"length {n}": raw(n, b"{}") for n in (2**64 - 1, 2**62, 1000)},
    "100 MB of header": lambda path: headed(b"{" + b" " * 99_999_999),
    "a million tensors": lambda path: headed(tensors(1 << 20), bytes(4 << 20)),
    "as many tensors as fit": headed(
        THOUSANDS[: THOUSANDS.rfind(b"},", 0, LONGEST_HEADER - 2) + 1] + b"}", bytes(4 << 16)
    ),
    "nested": headed(fill(b"[", b"", b"")),
    "nested objects": headed(fill(b'{"a":', b"", b"")),
    "lists": headed(fill(b"[],", b'{"a":[', b"[]]}")),
    "a name of 3 MB": headed(fill(b"a", b'{"', ONE[2:] + b"}"), bytes(4)),
    "overlapping": headed({"a": tensor(0, 4), "b": tensor(2, 6)}, bytes(6)),
    "beyond": headed({"a": tensor(0, 1 << 62)}, bytes(4)),
    "backwards": headed({"a": tensor(4, 0)}, bytes(4)),
    "gigantic shape": headed({"a": tensor(0, 4, [1 << 40, 1 << 40])}, bytes(4)),
    "negative": headed({"a": tensor(-4, 0)}, bytes(4)),
    "twice": headed(b"{" + ONE + b"," + ONE + b"}", bytes(4)),
    "dots": headed({"../../x": tensor(0, 4), "/etc/passwd": tensor(4, 8)}, bytes(8)),
    "control characters": headed({"\n\x1b[2J": tensor(0, 4)}, bytes(4)),
}
CONTRACTS = {
    "contract nested": sealed("[" * (LONGEST_HEADER // 2)),
    "contract of lists": sealed(fill("[],", "[", "[]]", LONGEST_HEADER // 2 - 500)),
    "contract of more lists": sealed(fill("[],", "[", "[]]", LONGEST_HEADER - 500)),
    "contract of objects": sealed(fill("{},", "[", "{}]", LONGEST_HEADER // 2 - 500)),
    "contract of more objects": sealed(fill("{},", "[", "{}]", LONGEST_HEADER - 500)),
    "contract with a long field": sealed('{"format":1,"' + "x" * (LONGEST_HEADER // 2 - 500) + '":1}'),
    "contract of a long format": sealed('{"format":"' + "x" * (LONGEST_HEADER // 2 - 500) + '"}'),
    "contract of many classes": sealed(
        to_json(CONTRACT).replace('"a", "b"', fill('"a",', "", '"a"', LONGEST_HEADER // 3))
    ),
    "contract with a tensor of an odd name": sealed(to_json(CONTRACT), **{"\n\x1b[2J" * 10_000: tensor(0, 0, [0])}),
    "sparse": sparse,
}
LAUGHS = ", ".join(f"&{b} [{','.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
YAML = [
    f"net: [&a [x,x,x,x,x,x,x,x,x], {LAUGHS}]".encode(), b"&a [*a]", b"!!python/object/apply:os.mkdir [CANARY]",
    b"[" * LONGEST_YAML, b"{a: " * (LONGEST_YAML // 4), b"? " * (LONGEST_YAML // 2), b"[" * 1_000_000,
    b"[" + b"a," * (LONGEST_YAML // 2 - 1) + b"]", b"[" + b"a," * 200_000 + b"]", b"#" * 1_000_000,
    b"crop: " + b"1" * (LONGEST_YAML - 10), b"crop: 1" + b":1" * (LONGEST_YAML // 2 - 10),
    b"!!bool x", b"!!int ''", b"!!timestamp x", b"? {a: b}\n: c",
]  # fmt: skip
JSON = [
    b"[" * LONGEST_JSON, fill(b'{"a":', b"", b"", LONGEST_JSON), fill(b"[],", b'{"a":[', b"[]", LONGEST_JSON),
    fill(b"{},", b"[", b"{}]", LONGEST_JSON), fill(b"1", b'{"a":', b"}", LONGEST_JSON),
    fill(b"[],", b"[", b"[]]", 10 * LONGEST_JSON),
]  # fmt: skip

# Saved posteriors


def header_and_body(file):
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return json.loads(data[8:end]), data[end:]


def forged(good, change):
    """The file with another header, other facts or other bytes of the tensors, and all sums made to fit."""
    header, body = header_and_body(good)
    about = json.loads(header["__metadata__"][posteriors.METADATA])
    body = change(header, about, body[:-32]) or body[:-32]
    header["__metadata__"] |= posteriors.sealed(about)
    return headed(header, body + hashlib.sha256(body).digest())


def beginning(name, kind, values):
    """A tensor that begins with these values."""
    new = np.array(values, kind).tobytes()
    return lambda h, a, b: b[: (at := h[name]["data_offsets"][0])] + new + b[at + len(new) :]


def without_rows(h, a, b):
    """The tensors behind them move down."""
    begin, end = h.pop("rows")["data_offsets"]
    for found in h.values():
        if found.get("data_offsets", [0])[0] >= end:
            found["data_offsets"] = [at - (end - begin) for at in found["data_offsets"]]
    return b[:begin] + b[end:]


def many_photos(good, photos):
    """A file as long as so many photos would make it, of zeros."""
    header, end = header_and_body(good)[0], 0
    shapes = {name: [photos] for name in posteriors.KINDS} | {"rows": [photos, 4], "sha256": [32]}
    for name, kind in posteriors.KINDS.items():
        size = WIDTHS[kind] * math.prod(shapes[name])
        header[name], end = tensor(end, end + size, shapes[name], kind), end + size
    return lambda path: stretched(path, header, end)


MEGABYTE, ESCAPE = "x" * 1_000_000, "\n\x1b[2J"
TENSORS = {  # their types, and what they begin with
    "rows": ("<f4", [np.nan], [-0.5, 1.5], [np.inf], [0.5, 0.4]),
    "ends": ("<i8", [13, 6], [-1], [6, 1 << 62]),
    "keys": ("u1", [0xFF, 0xFE], [ord("a"), 0], list(b"c/0.png"), list(ESCAPE.encode())),
    "targets": ("<i8", [-1], [1 << 40], [1]),
    "tested": ("u1", [7], [0]),
}
DESCRIBED = {  # what the header says of them
    "rows": ({"dtype": "U8", "shape": [2, 16]}, {"dtype": "I32"}, {"shape": [4, 2]}, {"shape": [2, 2, 2]}),
    "ends": ({"shape": [1, 2]},),
    "tested": ({"shape": [], "data_offsets": [0, 1]},),
    "__metadata__": ({"more": MEGABYTE},),
}
FACTS = {  # where they stand, and what they are
    "about": {
        "models": ([], MEGABYTE, [[]]), "limit": (10**4000, -1, "5"), "split": (MEGABYTE, ESCAPE),
        "format": (3, [[]] * 500_000), "more": ([[]] * 600_000,),
    },
    "model": {"name": (MEGABYTE,), "contract": ({},), "results": ([],)},
    "contract": {
        "classes": (["x", "y"], [ESCAPE * 1000, "y"], ["a"], ["a", MEGABYTE], [[]] * 700_000),
    },
    "result": {"protocol": ("dense", "ten", [[]])},
    "how": {
        "scales": ([32] * 500_000, [48], ["36"]), "average": (MEGABYTE, ESCAPE), "more": (1,),
        "passes": (10**4000, float("nan"), "many"), "seconds": (float("inf"), -1.0),
    },
}  # fmt: skip


def places(about):
    model = about["models"][0]
    result = model["results"][0]
    return {"about": about, "model": model, "contract": model["contract"], "result": result, "how": result["how"]}


def changes():
    """Name -> a function that changes the header, the facts in it, or returns other bytes of the tensors."""
    found = {"no rows": without_rows, "no split": lambda h, a, b: a.pop("split") and None}
    found["two names of the rows"] = lambda h, a, b: h.update(more=dict(h["rows"]))
    for name, (kind, *begins) in TENSORS.items():
        found |= {f"{name} {values}": beginning(name, kind, values) for values in begins}
    for name, all in DESCRIBED.items():
        found |= {f"{name} of {list(v)} {i}": lambda h, a, b, n=name, v=v: h[n].update(v) for i, v in enumerate(all)}
    for place, fields in FACTS.items():
        for name, values in fields.items():
            for i, v in enumerate(values):
                found[f"{place}: {name} {i}"] = lambda h, a, b, p=place, n=name, v=v: places(a)[p].update({n: v})
    return found


def saved_posteriors(root):
    """The posteriors of a small net for two photos beside it, in two protocols."""
    for name in ("a", "b"):
        (root / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (36, 36), (50, 100, 150)).save(root / "photos" / name / "0.png")
    small = build(CONTRACT)
    initialise(small.net, "he")
    small.save(odd := root / f"{ESCAPE}.safetensors")  # its name stands in some of the messages
    evaluated(odd, ["centre", "dense"], root / "good.safetensors")
    return root / "good.safetensors"


def posteriors_cases(root):
    """Name -> content; the photos they are of lie beside them."""
    good = saved_posteriors(root)
    data, body = good.read_bytes(), header_and_body(good)[1]
    end = len(data) - len(body)
    return {
        **{f"cut after {n} bytes": data[:n] for n in (1, 8, 9, end - 1, end, end + 20, len(data) - 1)},
        **{f"byte {n} of its length": data[:n] + bytes([data[n] ^ 1 << n]) + data[n + 1 :] for n in range(8)},
        "a byte more": data + b"\0",
        **{name: lambda path, change=change: forged(good, change) for name, change in changes().items()},
        "millions of photos": many_photos(good, 1 << 22),
        "more photos than memory, sparse": many_photos(good, 1 << 38),
    }


def forged_state(folder, name, content):
    """A state of which one file was replaced and the sums were made to fit."""
    save(folder, *trained(), Counters(step=1), Schedule(0.01))
    value = json.loads((folder / "state.json").read_text())
    (folder / name).unlink()
    file = put(folder / name, content)
    if file.is_file() and not file.is_symlink() and file.stat().st_size < 1 << 30:
        value["sha256"][name] = hashlib.sha256(file.read_bytes()).hexdigest()
    del value["seal"]
    write_sealed(folder / "state.json", value)
    return f"state {folder}"


def all_cases(root):
    """Name -> "kind path"."""
    canary, cases = root / "canary", {}
    for i, (name, content) in enumerate((HEADERS | CONTRACTS | pickles(canary) | SPECIAL).items()):
        if name != "folder":
            cases[f"model: {name}"] = f"model {put(root / f'{i}m' / 'best.safetensors', content)}"
        if name not in CONTRACTS:
            cases[f"weights: {name}"] = forged_state(root / f"{i}w" / "last", "weights-1.safetensors", content)
        if name in SPECIAL or name in pickles(canary):
            cases[f"run: {name}"] = f"model {put(root / f'{i}r' / 'best.safetensors', content).parent}"
            if name != "loop":  # it leads nowhere, so there is no state
                cases[f"state.json: {name}"] = f"state {put(root / f'{i}s' / 'state.json', content).parent}"
            cases[f"config.yaml: {name}"] = f"config {put(root / f'{i}c' / 'config.yaml', content).parent}"
    for i, data in enumerate(YAML):
        file = put(root / f"{i}y" / "config.yaml", data.replace(b"CANARY", str(canary).encode()))
        cases[f"config.yaml {i}: {data[:20]}"] = f"config {file.parent}"
    for i, data in enumerate(JSON):
        cases[f"json {i}: {data[:20]}"] = f"json {put(root / f'{i}j' / 'x.json', data)}"
        cases[f"state.json {i}: {data[:20]}"] = f"state {put(root / f'{i}t' / 'state.json', data).parent}"
    for i, (name, content) in enumerate(posteriors_cases(root / "posteriors").items()):
        cases[f"posteriors: {name}"] = f"posteriors {put(root / 'posteriors' / f'{i}.safetensors', content)}"
    return cases


def opened(cases):
    """(outcome, seconds, bytes of memory) of each case."""
    given, alone = "\n".join(cases.values()), os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__], input=given, capture_output=True, text=True, timeout=300, env=alone
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(cases, map(json.loads, done.stdout.splitlines()), strict=True))


def test_hostile_files_are_refused_in_one_line_quickly_and_in_little_memory(tmp_path):
    cases, wrong = all_cases(tmp_path), {}
    for name, (outcome, seconds, memory) in opened(cases).items():
        path = Path(cases[name].split(" ", 1)[1])
        size = path.stat().st_size if path.is_file() and "sparse" not in name else 0
        good = outcome.startswith("refused: ") and len(outcome) < 500 and outcome.isprintable()
        if not good or seconds > SECONDS or memory > 2 * size + MEMORY:
            wrong[name] = (outcome[:300], seconds, memory)
    assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())
    assert not (tmp_path / "canary").exists()


def test_an_honest_file_is_accepted_and_takes_twice_its_size(tmp_path):
    """So that the bounds above are not met by refusing everything."""
    large = build(replace(CONTRACT, base_width=64, fc_width=256))
    initialise(large.net, "he")
    large.save(path := tmp_path / "x.safetensors")
    same = put(tmp_path / "same.safetensors", forged(saved_posteriors(tmp_path), lambda h, a, b: None))
    found = opened({"model": f"model {path}", "posteriors": f"posteriors {same}"})
    assert [outcome for outcome, _, _ in found.values()] == ["accepted", "accepted"]
    assert path.stat().st_size > 30_000_000
    assert found["model"][2] <= 2 * path.stat().st_size + MEMORY


def test_the_canary_would_sing(tmp_path):
    files = [put(tmp_path / f"{i}.pt", content) for i, content in enumerate(pickles(tmp_path / "canary").values())]
    for file in files[:3]:
        pickle.loads(file.read_bytes())
        (tmp_path / "canary").rmdir()
    torch.load(files[3], weights_only=False)
    assert (tmp_path / "canary").exists()


SMALL = ["--net=A", "--crop=32", "--scale=36", "--fc_width=8", "--base_width=4", "--batch=4", "--workers=0"]


@pytest.mark.parametrize("verb", ["predict", "evaluate", "train"])
def test_the_command_line_refuses_a_pickle_in_one_line(tmp_path, photo_folder, verb, capsys):
    path, photos = tmp_path / "model.safetensors", str(photo_folder)
    torch.save({"weights": Canary(tmp_path / "canary")}, path)
    training = ["train", photos, "--out", str(tmp_path / "run"), *SMALL, "--init_from", str(path)]
    assert main(training if verb == "train" else [verb, str(path), photos]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if "model.safetensors" in line]
    assert len(said) == 1
    assert "mkdir" in said[0]
    assert "nothing of it was run" in said[0]
    assert not (tmp_path / "canary").exists()


if __name__ == "__main__":
    torch.set_num_threads(1)
    safetensors.torch.load(safetensors.torch.save({"a": torch.zeros(1)}))
    trained()
    for line in sys.stdin.read().splitlines():
        open_in_a_fork(*line.split(" ", 1))
