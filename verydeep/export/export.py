"""`export`: a net as a file that other programs answer from, compared with the net before it is at its place."""

import os
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

import verydeep
from verydeep.engines import missing_for
from verydeep.errors import ConfigError, ModelError, RunError
from verydeep.export.checking import differences
from verydeep.export.formats import FORMATS, Exported, Run, Save, running
from verydeep.export.int8 import fc_weights, in_int8, with_floats
from verydeep.export.own import FILE, OwnPhotos
from verydeep.files.disk import ELSEWHERE, flush_folder, locked, saying
from verydeep.near import meant
from verydeep.weights import check_task, load, locate, told_in

To = Literal["onnx", "openvino", "pt2"]
Int8 = Literal["all", "fc"]
MOST = 1e-4  # of a posterior
WORST = 3  # layers that are advised


def export_model(
    model: str, to: To, out: Path | None = None, *, dense: bool = False, int8: Int8 | None = None,
    calibrate: str | None = None, keep: Sequence[str] = (), max_drop: float = 0.5, download: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Writes a net from uint8 photos, n x H x W x 3 in RGB, to posteriors, float32 n x K; returns what is in the file.

    Photos are crops of the net's size. With dense they have any size, are rescaled inside to the net's Q, and the class
    map is averaged, without the mirror image (section 3.2). int8: of all layers but those in `keep`, with ranges from
    photos of the data `calibrate`, or of the weights of fc6, fc7 and fc8 alone. The file is compared with the
    Classifier on made-up photos, and with both its errors on `calibrate`: one that differs by more than 1e-4 in
    a posterior, or in int8 errs on more than `max_drop` points more, is not left there.
    Raises ConfigError, DataError, ModelError and RunError.
    """
    net = load(model)
    check_task(model, net, "classes")
    out = file_for(model, to, out, dense, int8)
    check_asked(to, int8, calibrate, keep, net.net.tap_names())
    exported = Exported(net.eval(), net.contract.test_scale if dense else None)
    own = OwnPhotos.of(model, exported, calibrate, download) if calibrate else None
    graph: Any = None if to == "pt2" else exported.graph()
    whole = in_int8(exported.graph(), own.to_calibrate()) if own and int8 == "all" else None
    made = fc_weights(exported.graph()) if int8 == "fc" else with_floats(whole, graph, keep) if whole else graph
    about: dict[str, Any] = {
        "use": use(exported), "form": "dense" if dense else "crop", "rescales_to": exported.scale, "int8": int8,
        "floats": list(keep), "made_with": f"verydeep {verydeep.__version__}",
    }  # fmt: skip
    with placed(out) as there:
        save = saved_by(FORMATS[to].made(made, exported))
        save(there, about)
        run = running(there, to)
        about |= compared(model, exported, run, 1 if int8 else MOST)
        if own:
            about |= {"judged": own.judged(run)}
            if int8 and drop_of(about["judged"]) > max_drop:
                raise ModelError(refusal(about["judged"], max_drop, own.sensed(whole, graph) if whole else {}, keep))
        save(there, about)
        size = sum(file.stat().st_size for file in there.parent.iterdir())
    return {"model": model, "to": to, "file": str(out), "bytes": size, "classes": len(net.contract.classes), **about}


def file_for(model: str, to: To, out: Path | None, dense: bool, int8: Int8 | None) -> Path:
    """Where the file comes, by default here, named by the model and what was done."""
    suffix, path = FORMATS[to].suffix, Path(model)
    stem = path.resolve().name if path.is_dir() else re.sub(r"\.(safetensors|pth?|onnx|h5|keras)$", "", path.name)
    words = [stem.replace(":", "-"), *["dense"] * dense, *[f"int8-{int8}"] * bool(int8)]
    out = out or Path("-".join(words) + suffix)
    if out.suffix != suffix:
        raise ConfigError(f"out: {out.name} does not end as a file for {to} does; try {out.stem}{suffix}")
    if out.exists() and (own := locate(model).path).exists() and out.samefile(own):
        raise ConfigError(f"out: {out} is the file of {model}, which would be overwritten; give another name")
    if out.is_dir():
        raise ConfigError(f"out: {out} is a folder; give a file")
    if to == "openvino" and (numbers := out.with_suffix(".bin")).exists() and told_in(out)[0] != to:
        raise ConfigError(f"out: {numbers} is there, and the numbers would replace it; give another name")
    return out


def check_asked(to: To, int8: Int8 | None, calibrate: str | None, keep: Sequence[str], layers: Sequence[str]) -> None:
    """Raises ConfigError for what cannot be made, and before any work for what is not installed."""
    needed = {"onnx": "onnxruntime", "openvino": "openvino"}.get(to)
    if needed and (why := missing_for(needed)):
        raise ConfigError(f"to: {to} cannot be written, {why}; pip install 'verydeep[fast]' brings it")
    if int8 and to == "pt2":
        raise ConfigError("int8: a pt2 program computes in floats; export to onnx or openvino")
    if keep and int8 != "all":
        raise ConfigError("keep: layers are kept in floats with --int8 all")
    if int8 == "all" and not calibrate:
        raise ConfigError("calibrate: the ranges of int8 are those of maps of photos; give --calibrate DATA")
    if strange := [name for name in keep if name not in layers or not name.startswith(("conv", "fc"))]:
        raise ConfigError(f"keep: {strange[0]!r:.60} is no layer with weights{meant(strange[0], layers, '')}")


@contextmanager
def placed(out: Path) -> Iterator[Path]:
    """A path to write to; what lies there comes to its place when all went well, numbers before what reads them.

    SIGTERM ends the work as Ctrl-C does, so that nothing half-written stays.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, lambda *a: sys.exit(143)) if main else None
    try:
        with ExitStack() as stack:
            stack.enter_context(saying(f"{out} cannot be written", ELSEWHERE))
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}."))
            yield Path(folder, out.name)
            files = sorted(Path(folder).iterdir())  # .bin, then .xml
            for file in files:
                with file.open("rb+") as f:
                    os.fsync(f.fileno())
            stack.enter_context(locked(out.parent, os.O_RDONLY, wait=True))  # two exports would mix their files
            if len(files) > 1:
                out.unlink(missing_ok=True)
            for file in files:
                file.replace(out.parent / file.name)
            flush_folder(out.parent)
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)


def saved_by(save: Save) -> Save:
    """As it is, with one error for what writers raise where a disk is full."""

    def saving(path: Path, about: Mapping[str, Any]) -> None:
        try:
            save(path, about)
        except RuntimeError as e:
            raise RunError(f"{path.name} cannot be written ({str(e).strip().splitlines()[0]:.200}); {ELSEWHERE}") from e

    return saving


def compared(model: str, exported: Exported, run: Run, most: float) -> dict[str, Any]:
    """The largest differences of a posterior by shape. Raises ModelError for larger ones than `most`."""
    found = {shape: float(f"{far:.2g}") for shape, far in differences(exported, run).items()}
    if not (far := float(np.max(list(found.values())))) <= most:  # which may be no number
        raise ModelError(f"the file answers otherwise than {model}, by {far:g} of a posterior, and is not written")
    return {"differences": found}


def use(exported: Exported) -> str:
    """In words, what goes in and what comes out."""
    c, q = exported.net.contract, exported.scale
    whole = f"n x height x width x 3, of any size; it rescales them to smallest side {q}"
    crops = f"n x {c.crop} x {c.crop} x 3, middle crops of photos rescaled to smallest side {c.test_scale}"
    return f"photos: uint8 {whole if q else crops}, RGB, 0-255; posteriors: float32 n x {len(c.classes)}"


def drop_of(judged: dict[str, Any]) -> float:
    """Points of top-1 error more than the net has in fp32."""
    errors = {way["way"]: way["errors"] for way in judged["ways"]}
    return float(100 * (errors[FILE] - errors["fp32"]) / judged["photos"])


def judged_text(judged: dict[str, Any]) -> str:
    n, form = judged["photos"], "{} {:.2f} % ({:.1f} % answers of fp32)"
    ways = (form.format(w["way"], 100 * w["errors"] / n, 100 * w["same"] / n) for w in judged["ways"])
    return f"errors on {n:,} photos ({judged['split']}) of {judged['data']}: {', '.join(ways)}"


def refusal(judged: dict[str, Any], most: float, sensed: dict[str, int], keep: Sequence[str]) -> str:
    """Why an int8 file is not written, and what to try."""
    worst = sorted(sensed, key=lambda layer: -sensed[layer])[:WORST]
    which = ", ".join(f"{layer} {sensed[layer]}" for layer in worst)
    more = f"int8 errs on {drop_of(judged):.2f} points more than fp32, and max_drop is {most:g}; {judged_text(judged)}"
    layers = f"layers that alone change most answers: {which}; try --keep {','.join([*keep, *worst])}, or --int8 fc"
    return f"{more}; {layers if sensed else 'it is not written'}"


def export_text(record: dict[str, Any]) -> str:
    """What was written, in words."""
    far = ", ".join(f"{shape} {far:g}" for shape, far in record["differences"].items())
    lines = [
        f"{record['file']}: {record['bytes'] / 1e6:,.1f} MB", record["use"],
        f"largest difference of a posterior from {record['model']}, by the photo's shape: {far}",
    ]  # fmt: skip
    return "\n".join([*lines, *([judged_text(record["judged"])] if record.get("judged") else [])])
