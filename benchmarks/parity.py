"""The parity matrix: every form of a net answers the same photos, beside the Classifier in torch and fp32.

    python benchmarks/parity.py --model builtin:fashion-a --out runs/parity --calibrate builtin:fashion
    python benchmarks/parity.py --model random --leave_out pt2 --out runs/parity-random

50 files are made from a seed: JPEG and PNG of many sizes and kinds of pixels, in each of EXIF's orientations. The
reference is given files: the centre crop, and the whole photo (dense) without its mirror image. Forms are given pixels
that Pillow alone made upright RGB, so that reading is compared too: crops, or for `dense` whole photos, which engines
see at smallest side Q and exported files rescale themselves. Forms in fp32 must agree on each photo's first class, and
in posteriors to MOST. With --calibrate the errors of reduced forms and of the first are told, on photos whose classes
are known. Exit status 1 where a requirement fails. `random`: a net D with random weights (Glorot), crop 224.
"""

import argparse
import atexit
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import numpy as np
from parity_photos import RANDOM, Pixels, Row, by_pillow, make_photos, random_net, reference, seen_of, tensor
from PIL import Image

from verydeep.engines import scorer_for
from verydeep.errors import VeryDeepError
from verydeep.export import export_model
from verydeep.export.formats import FORMATS, Exported, running
from verydeep.export.own import OwnPhotos
from verydeep.hardware import machine
from verydeep.net.classifier import Classifier
from verydeep.weights import load

Answer = Callable[["Shown"], Row]
MOST = {"crop": 1e-4, "dense": 1e-4}  # of a posterior
HEADER = ("form", "way", "first class as the reference's", "largest difference of a posterior", "errors", "required")


class Shown(NamedTuple):
    """A photo as forms may take it."""

    path: Path | None
    upright: Pixels
    seen: Pixels  # by the net


class Case(NamedTuple):
    model: str
    net: Classifier
    out: Path
    calibrate: str | None


class Form(NamedTuple):
    exact: bool  # in fp32
    start: Callable[[Case, bool], Answer]  # dense or not -> answers
    ways: Sequence[str] = ("crop", "dense")


def by_engine(engine: Any, precision: Any, case: Case, dense: bool) -> Answer:
    score = scorer_for(case.net, engine, precision)
    return lambda shown: score(tensor(shown.seen)).mean((2, 3)).softmax(1)[0].numpy()


def by_file(to: Any, int8: Any, case: Case, dense: bool) -> Answer:
    out = case.out / f"{'dense' if dense else 'crop'}-{int8 or 'fp32'}{FORMATS[to].suffix}"
    data = case.calibrate if int8 == "all" else None
    export_model(case.model, to, out, dense=dense, int8=int8, calibrate=data, max_drop=100)
    run = running(out, to)
    return lambda shown: run((shown.upright if dense else shown.seen)[None].copy())[0]


def by_server(case: Case, dense: bool) -> Answer:
    """The files as they are, sent to `verydeep serve` in a process of its own."""
    command = [sys.executable, "-m", "verydeep", "serve", case.model, "--port", "0", "--json"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    atexit.register(running.kill)
    url, classes = json.loads(running.stdout.readline())["url"], case.net.contract.classes  # type: ignore[union-attr]

    def answer(shown: Shown) -> Row:
        with urlopen(f"{url}/v1/classify?top={len(classes)}", shown.path.read_bytes()) as said:  # type: ignore[union-attr]
            found = {one["name"]: one["probability"] for one in json.load(said)["classes"]}
        return np.array([found[name] for name in classes])

    return answer


FORMS = {
    "torch fp32": Form(True, partial(by_engine, "torch", "fp32")),
    "torch bf16": Form(False, partial(by_engine, "torch", "bf16")),
    "OpenVINO fp32": Form(True, partial(by_engine, "openvino", "fp32")),
    "OpenVINO bf16": Form(False, partial(by_engine, "openvino", "bf16")),
    "ONNX Runtime fp32": Form(True, partial(by_engine, "onnxruntime", "fp32")),
    "file onnx": Form(True, partial(by_file, "onnx", None)),
    "file openvino": Form(True, partial(by_file, "openvino", None)),
    "file pt2": Form(True, partial(by_file, "pt2", None)),
    "the server": Form(True, by_server, ("crop",)),
    "file onnx, int8 fc": Form(False, partial(by_file, "onnx", "fc")),
    "file openvino, int8 fc": Form(False, partial(by_file, "openvino", "fc")),
    "file onnx, int8 all": Form(False, partial(by_file, "onnx", "all")),
    "file openvino, int8 all": Form(False, partial(by_file, "openvino", "all")),
}


def compare(case: Case, forms: Sequence[str], paths: Sequence[Path]) -> list[dict[str, Any]]:
    """A row of the matrix for each form and way; `good` says whether it is as required."""
    rows, upright = list[dict[str, Any]](), [by_pillow(path) for path in paths]
    for way, dense in (("crop", False), ("dense", True)):
        wanted = np.stack([reference(path, case.net, dense) for path in paths])
        seen = [seen_of(Image.fromarray(x), case.net, dense) for x in upright]
        shown = [Shown(*one) for one in zip(paths, upright, seen, strict=True)]
        for name in (name for name in forms if way in FORMS[name].ways):
            (exact, start, _), errors, same, far = FORMS[name], "", 0, float("nan")
            try:
                answer = start(case, dense)
                found = np.stack([answer(one) for one in shown])
                same, far = int((found.argmax(1) == wanted.argmax(1)).sum()), float(np.abs(found - wanted).max())
                if case.calibrate and (not exact or name == forms[0]):
                    errors = errors_of(case, dense, answer)
            except VeryDeepError as e:
                errors = str(e)
            good = same == len(paths) and far <= MOST[way] if exact else far <= 1
            rows.append({"form": name, "way": way, "same": same, "far": far, "errors": errors, "good": good})
            print(rows[-1], flush=True)
    return rows


def errors_of(case: Case, dense: bool, answer: Answer) -> str:
    """As the export judges a file."""
    exported = Exported(case.net, case.net.contract.test_scale if dense else None)
    own = OwnPhotos.of(case.model, exported, str(case.calibrate), False)
    judged = own.judged(lambda photos: np.stack([answer(Shown(None, x, x)) for x in photos]))
    return f"{judged['ways'][-1]['errors']} of {judged['photos']:,}"


def table(rows: Sequence[dict[str, Any]], photos: int) -> str:
    cells = [(r["form"], r["way"], f"{r['same']} of {photos}", f"{r['far']:.1e}", r["errors"],
              "FAILS" if not r["good"] else "holds" if FORMS[r["form"]].exact else "-") for r in rows]  # fmt: skip
    return "".join(f"| {' | '.join(row)} |\n" for row in (HEADER, ["---"] * len(HEADER), *cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="builtin:fashion-a")
    parser.add_argument("--out", type=Path, default=Path("runs/parity"))
    parser.add_argument("--calibrate")
    parser.add_argument("--leave_out", nargs="+", default=[], help="forms that have one of these in their names")
    for name, value in (("--photos", 50), ("--seed", 0)):
        parser.add_argument(name, type=int, default=value)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    known = RANDOM if args.model == "random" else load(args.model).contract
    paths = make_photos(args.out / "photos", args.photos, known.crop, known.test_scale, args.seed)
    model = random_net(args.out, paths) if args.model == "random" else args.model
    without = [*args.leave_out, *["int8 all"] * (not args.calibrate)]
    forms = [name for name in FORMS if not any(word in name for word in without)]
    rows = compare(Case(model, load(model).eval(), args.out, args.calibrate), forms, paths)
    (args.out / "parity.md").write_text(f"{table(rows, len(paths))}\n{machine()}\n", encoding="utf-8")
    print((args.out / "parity.md").read_text(encoding="utf-8"))
    raise SystemExit(not all(row["good"] for row in rows))


if __name__ == "__main__":
    main()
