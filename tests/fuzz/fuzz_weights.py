"""Fuzzing of model files and saved states: any bytes are refused with a ModelError or RunError, or give a net.

    python tests/fuzz/fuzz_weights.py -max_total_time=60

Options are libFuzzer's. The first byte says what the others are: a whole file, a header whose length is made to fit, a
contract whose checksums are made to fit, a state.json, or one whose seal is made to fit. The seeds are made here.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris
from harness import bounded, fuzz

with atheris.instrument_imports(include=["verydeep"]):
    from verydeep.contract import Contract
    from verydeep.errors import VeryDeepError
    from verydeep.files.disk import json_text, seal_of
    from verydeep.net.classifier import METADATA, SEAL, Classifier, build
    from verydeep.net.saved import read_classifier
    from verydeep.net.vgg import VGG
    from verydeep.train.schedule import Schedule
    from verydeep.train.state import Counters, restore, save

import torch

FOLDER = Path(tempfile.mkdtemp())
KINDS = (WHOLE, HEADER, CONTRACT, STATE, SEALED) = range(5)


def net() -> tuple[VGG, torch.optim.SGD]:
    made = VGG("A", classes=2, crop=32, fc_width=1, base_width=1)
    return made, torch.optim.SGD(made.parameters(), 0.1, 0.9)


def small() -> Classifier:
    torch.manual_seed(0)
    made = build(Contract("A", ("a", "b"), 32, 1, 1, False, "up", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (32, 32)))
    for parameter in made.parameters():
        torch.nn.init.ones_(parameter)
    return made


def parts() -> tuple[bytes, bytes]:
    """Header and tensors of a good model."""
    small().save(FOLDER / "good.safetensors")
    data = (FOLDER / "good.safetensors").read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    return data[8:end], data[end:]


GOOD_HEADER, TENSORS = parts()
RUN, NET = FOLDER / "last", net()
save(RUN, *NET, Counters(), Schedule(0.1))
GOOD_STATE = (RUN / "state.json").read_bytes()


def seeds() -> dict[str, bytes]:
    contract = json.loads(GOOD_HEADER)["__metadata__"][METADATA].encode()
    good = {
        WHOLE: len(GOOD_HEADER).to_bytes(8, "little") + GOOD_HEADER + TENSORS,
        HEADER: GOOD_HEADER,
        CONTRACT: contract,
    }
    return {str(kind): bytes([kind]) + data for kind, data in (good | {STATE: GOOD_STATE, SEALED: GOOD_STATE}).items()}


def model_file(kind: int, data: bytes) -> bytes:
    if kind == WHOLE:
        return data
    if kind == CONTRACT:
        text = data.decode("utf-8", errors="replace")
        header = json.loads(GOOD_HEADER)
        header["__metadata__"] = {METADATA: text, SEAL: hashlib.sha256(text.encode()).hexdigest(), "format": "pt"}
        data = json.dumps(header).encode()
    return len(data).to_bytes(8, "little") + data + TENSORS


def state_file(kind: int, data: bytes) -> bytes:
    if kind == SEALED:
        with suppress(ValueError, RecursionError):
            value = json.loads(data)
            if isinstance(value, dict):
                value.pop("seal", None)
                return json_text({**value, "seal": seal_of(value)}).encode(errors="replace")
    return data


def read(data: bytes) -> None:
    kind = data[0] % len(KINDS) if data else WHOLE
    if kind in (STATE, SEALED):
        (RUN / "state.json").write_bytes(state_file(kind, data[1:]))
        restore(RUN, *NET)
        return
    path = FOLDER / "x.safetensors"
    path.write_bytes(model_file(kind, data[1:]))
    found = read_classifier(path)
    found(torch.zeros(1, 3, found.net.crop, found.net.crop, dtype=torch.uint8))


def test_one_input(data: bytes) -> None:
    bounded(read, data, VeryDeepError)


def main() -> None:
    torch.set_num_threads(1)
    fuzz(test_one_input, seeds(), FOLDER)


if __name__ == "__main__":
    main()
