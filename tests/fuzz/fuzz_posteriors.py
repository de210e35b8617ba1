"""Fuzzing of saved posteriors: any bytes are refused with an error of ours, or are tested on the photos they name.

    python tests/fuzz/fuzz_posteriors.py -max_total_time=60

Options are libFuzzer's. The first byte says what the others are: a whole file, a header whose length is made to fit,
facts whose sum is made to fit, or tensors whose sums are. The seeds are made here, in a temporary folder.
"""

import hashlib
import json
import tempfile
from pathlib import Path

import atheris
from harness import bounded, fuzz

with atheris.instrument_imports(include=["verydeep"]):
    from verydeep.contract import Contract
    from verydeep.errors import VeryDeepError
    from verydeep.evaluate.models import evaluate_models
    from verydeep.evaluate.passes import Settings
    from verydeep.evaluate.posteriors import METADATA, SEAL
    from verydeep.net.classifier import build
    from verydeep.net.initialise import initialise
    from verydeep.progress import Progress

import torch
from PIL import Image

FOLDER = Path(tempfile.mkdtemp())
KINDS = (WHOLE, HEADER, FACTS, TENSORS) = range(4)


def evaluated(path, save=None):
    quiet = {"settings": Settings(workers=0, bad_photos="skip"), "progress": Progress("none")}
    evaluate_models([str(path)], str(FOLDER / "photos"), ["centre"], save=save, **quiet)


def parts():
    """Header and tensors of the posteriors of a small net for three photos, one of which cannot be read."""
    for name in ("a/0.png", "a/1.png", "b/0.png"):
        (FOLDER / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (36, 36), (50, 100, 150)).save(FOLDER / "photos" / name)
    (FOLDER / "photos" / "a" / "1.png").write_bytes(b"no photo")
    model = build(Contract("A", ("a", "b"), 32, 1, 1, False, "up", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (32, 32)))
    initialise(model.net, "he")
    model.save(FOLDER / "model.safetensors")
    evaluated(FOLDER / "model.safetensors", FOLDER / "good.safetensors")
    data = (FOLDER / "good.safetensors").read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return data[8:end], data[end:-32]


GOOD_HEADER, GOOD_TENSORS = parts()
GOOD_FACTS = json.loads(GOOD_HEADER)["__metadata__"][METADATA].encode()


def joined(header, tensors):
    return len(header).to_bytes(8, "little") + header + tensors + hashlib.sha256(tensors).digest()


def seeds():
    whole = joined(GOOD_HEADER, GOOD_TENSORS)
    good = {WHOLE: whole, HEADER: GOOD_HEADER, FACTS: GOOD_FACTS, TENSORS: GOOD_TENSORS}
    return {str(kind): bytes([kind]) + data for kind, data in good.items()}


def posteriors_file(kind, data):
    if kind == WHOLE:
        return data
    if kind == TENSORS:
        return joined(GOOD_HEADER, data)
    if kind == FACTS:
        text = data.decode("utf-8", errors="replace")
        sums = {METADATA: text, SEAL: hashlib.sha256(text.encode()).hexdigest()}
        data = json.dumps(json.loads(GOOD_HEADER) | {"__metadata__": sums}).encode()
    return joined(data, GOOD_TENSORS)


def read(data):
    path = FOLDER / "x.safetensors"
    path.write_bytes(posteriors_file(data[0] % len(KINDS) if data else WHOLE, data[1:]))
    evaluated(path)


if __name__ == "__main__":
    torch.set_num_threads(1)
    fuzz(lambda data: bounded(read, data, VeryDeepError), seeds(), FOLDER)
