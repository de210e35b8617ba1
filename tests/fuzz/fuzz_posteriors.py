"""Fuzzing of saved posteriors: any bytes are refused with an error of ours, or are tested on the photos they name.

    python tests/fuzz/fuzz_posteriors.py -max_total_time=60

Options are libFuzzer's. The first byte says what the others are: a whole file, a header whose length is made to fit, facts whose
sum is made to fit, or tensors whose sums are. The seeds are made here, in a temporary folder.
"""

from __future__ import annotations

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


def evaluated(path: Path, save: Path | None = None) -> None:
    settings = Settings(workers=0, bad_photos="skip")
    evaluate_models(
        [str(path)], str(FOLDER / "photos"), ["centre"], settings=settings, save=save, progress=Progress("none")
    )


def parts() -> tuple[bytes, bytes]:
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


def seeds() -> dict[str, bytes]:
    summed = GOOD_TENSORS + hashlib.sha256(GOOD_TENSORS).digest()
    whole = len(GOOD_HEADER).to_bytes(8, "little") + GOOD_HEADER + summed
    good = {WHOLE: whole, HEADER: GOOD_HEADER, FACTS: GOOD_FACTS, TENSORS: GOOD_TENSORS}
    return {str(kind): bytes([kind]) + data for kind, data in good.items()}


def posteriors_file(kind: int, data: bytes) -> bytes:
    if kind == WHOLE:
        return data
    header, tensors = data, GOOD_TENSORS + hashlib.sha256(GOOD_TENSORS).digest()
    if kind != HEADER:
        found = json.loads(GOOD_HEADER)
        if kind == TENSORS:
            tensors = data
            tensors += hashlib.sha256(tensors).digest()
        else:
            text = data.decode("utf-8", errors="replace")
            found["__metadata__"] = {METADATA: text, SEAL: hashlib.sha256(text.encode()).hexdigest()}
        header = json.dumps(found).encode()
    return len(header).to_bytes(8, "little") + header + tensors


def read(data: bytes) -> None:
    path = FOLDER / "x.safetensors"
    path.write_bytes(posteriors_file(data[0] % len(KINDS) if data else WHOLE, data[1:]))
    evaluated(path)


def test_one_input(data: bytes) -> None:
    bounded(read, data, VeryDeepError)


def main() -> None:
    torch.set_num_threads(1)
    fuzz(test_one_input, seeds(), FOLDER)


if __name__ == "__main__":
    main()
