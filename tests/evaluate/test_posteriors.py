"""Saved posteriors: fused later as if at once, whole or not at all, and nothing in them is believed unseen."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from slow import made, noise

from verydeep.errors import DataError, ModelError, PhotoError, RunError, VeryDeepError
from verydeep.evaluate import posteriors as saved
from verydeep.evaluate import saving
from verydeep.evaluate.models import evaluate_models
from verydeep.evaluate.passes import Settings
from verydeep.evaluate.posteriors import METADATA, read_posteriors, sealed
from verydeep.evaluate.views import PROTOCOLS, Step
from verydeep.progress import Progress

QUIET = {"progress": Progress("none"), "settings": Settings(workers=0, bad_photos="skip")}
CLASSES = ("a", "b", "c", "d", "e", "f")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Twelve photos, one of which cannot be read, three models, and the posteriors of two of them."""
    root = tmp_path_factory.mktemp("saved")
    for label, name in enumerate(CLASSES):
        (root / "photos" / name).mkdir(parents=True)
        for i in range(2):
            noise(36 + i, 44 - i, 10 * label + i).save(root / "photos" / name / f"{i}.png")
    (root / "photos" / "d" / "0.png").write_bytes(b"no photo")
    for n in range(3):
        made(CLASSES[:: -1 if n == 1 else 1], (36, 36), n).save(root / f"{n}.safetensors")
    for n in (0, 1):
        evaluated(root, [n], save=root / f"p{n}.safetensors")
    return root


def evaluated(root, models, protocols=PROTOCOLS, scales="several", **options):
    names = [str(root / (m if isinstance(m, str) else f"{m}.safetensors")) for m in models]
    return evaluate_models(names, str(root / "photos"), protocols, scales, **(QUIET | options))


def plainly(records):
    """Without times, names and why a photo was skipped."""
    own = [{k: v for k, v in r.items() if k not in ("seconds", "model", "models", "skipped")} for r in records]
    return own, [[s["photo"] for s in r["skipped"]] for r in records]


@pytest.mark.parametrize("models", [["p0.safetensors", "p1.safetensors"], ["p0.safetensors", 1], [0, "p1.safetensors"]])
def test_fused_later_is_fused_at_once(root, models):
    later, at_once = evaluated(root, models), evaluated(root, [0, 1])
    assert plainly(later) == plainly(at_once)
    for a, b in zip(later[-5:], at_once[-5:], strict=True):
        assert [{k: v for k, v in m.items() if k != "model"} for m in a["models"]] == [
            {k: v for k, v in m.items() if k != "model"} for m in b["models"]
        ]


def test_what_was_saved_is_what_was_counted_and_what_was_not_read_is_marked(root):
    found = safetensors.numpy.load_file(root / "p0.safetensors")  # by the library's own reader
    assert found["tested"].tolist() == [1] * 6 + [0] + [1] * 5
    assert found["rows"].dtype == np.float32
    for record, rows in zip(evaluated(root, [0]), np.split(found["rows"], 5, axis=1), strict=True):
        assert np.isnan(rows[6]).all()
        good = np.delete(rows, 6, 0)
        assert np.allclose(good.sum(1), 1, atol=1e-5)
        wrong = good.argmax(1) != np.delete(found["targets"], 6)
        assert wrong.sum() == record["top1_errors"]
    assert bytes(found["keys"]).decode().split("\0")[:2] == ["a/0.png", "a/1.png"]


def test_a_file_may_hold_several_models_and_be_saved_again(root, tmp_path):
    direct = evaluated(root, [0, 1, 2], save=tmp_path / "three.safetensors")
    assert [m.name for m in read_posteriors(tmp_path / "three.safetensors")] == [
        str(root / f"{n}.safetensors") for n in range(3)
    ]
    shutil.copy(tmp_path / "three.safetensors", root / "three.safetensors")
    again = evaluated(root, ["three.safetensors"], save=tmp_path / "again.safetensors")
    assert plainly(again) == plainly(direct)
    assert [r["seconds"] for r in again] == [r["seconds"] for r in direct]
    tensors = [safetensors.numpy.load_file(tmp_path / f"{n}.safetensors") for n in ("three", "again")]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(np.array_equal(t, tensors[1][name], equal_nan=t.dtype == np.float32) for name, t in tensors[0].items())


def test_no_photo_is_opened_where_all_was_saved(root, monkeypatch):
    monkeypatch.setattr("verydeep.evaluate.passes.frames", None)
    assert evaluated(root, ["p0.safetensors", "p1.safetensors"])


def test_names_need_not_be_text(root, tmp_path):
    data = os.fsdecode(bytes(tmp_path) + b"/photos \xff")
    shutil.copytree(root / "photos", data)
    found = evaluate_models([str(root / "0.safetensors")], data, ["centre"], save=tmp_path / "p.safetensors", **QUIET)
    again = evaluate_models([str(tmp_path / "p.safetensors")], data, ["centre"], **QUIET)
    assert plainly(again) == plainly(found)


def test_rows_are_written_by_blocks_in_any_order(root, tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "BLOCK", 1)
    monkeypatch.setattr(saved, "BLOCK", 100)
    evaluated(root, [0], save=tmp_path / "p.safetensors", settings=Settings(workers=0, bad_photos="skip", batch=1))
    one, other = (safetensors.numpy.load_file(p) for p in (tmp_path / "p.safetensors", root / "p0.safetensors"))
    del one["sha256"]
    assert all(np.allclose(t, other[name], atol=1e-5, equal_nan=t.dtype == np.float32) for name, t in one.items())


def test_a_photo_that_a_file_lacks_is_named_unless_bad_ones_are_skipped(root):
    with pytest.raises(PhotoError, match=r"d/0\.png: could not be read when .*0\.safetensors was saved"):
        evaluated(root, ["p0.safetensors"], settings=Settings(workers=0))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"settings": Settings(average="posteriors")}, "made with average scores, not posteriors"),
        ({"settings": Settings(pooling="down")}, "made with pooling up, not down"),
        ({"settings": Settings(mirror=True)}, "for centre at one scale were made with mirror False, not True"),
        ({"scales": (36, 40)}, r"made with scales \(32, 36, 41\), not \(36, 40\)"),
        (
            {"scales": "single"},
            "has no posteriors of .* for crops at one scale; it has centre at one scale, dense at one scale",
        ),
    ],
)
def test_posteriors_of_another_test_are_refused(root, options, words):
    with pytest.raises(ModelError, match=words):
        evaluated(root, ["p0.safetensors"], **options)


def test_posteriors_of_other_photos_are_refused(root):
    with pytest.raises(DataError, match=r"holds the posteriors of 12 photos of all, and the test is of 5 photos"):
        evaluated(root, ["p0.safetensors", 1], limit=5)
    with pytest.raises(DataError, match="builtin:fashion-mini does not have"):
        evaluate_models([str(root / "p0.safetensors")], "builtin:fashion-mini", PROTOCOLS, "several", **QUIET)


def test_a_limit_travels_with_the_file(root, tmp_path):
    direct = evaluated(root, [0], save=root / "few.safetensors", limit=5)
    assert plainly(evaluated(root, ["few.safetensors"])) == plainly(direct)
    assert {r["limit"] for r in direct} == {5}
    assert plainly(evaluated(root, ["few.safetensors", 1], limit=5)) == plainly(evaluated(root, [0, 1], limit=5))


def test_a_file_that_cannot_be_written_is_told_before_the_work_and_leaves_nothing(root, tmp_path, monkeypatch):
    with pytest.raises(RunError, match="cannot be saved"):
        evaluated(root, [0], save=tmp_path / "nowhere" / "p.safetensors")
    kept = tmp_path / "p.safetensors"
    kept.write_text("before")

    def full(*given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(saving, "write_pieces", full)
    with pytest.raises(RunError, match="No space left on device"):
        evaluated(root, [0], save=kept)
    assert kept.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["p.safetensors"]


def parts(path):
    data = Path(path).read_bytes()
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def rewritten(path, target, change):
    """The file with other facts, sealed as if by us."""
    header, body = parts(path)
    about = json.loads(header["__metadata__"][METADATA])
    body = change(header, about, body[:-32]) or body[:-32]
    body += hashlib.sha256(body).digest()
    header["__metadata__"] |= sealed(about)
    whole = json.dumps(header).encode()
    target.write_bytes(len(whole).to_bytes(8, "little") + whole + body)


def poison(value):
    """The first row of the centre crop becomes these numbers."""

    def change(header, about, body):
        begin = header["rows"]["data_offsets"][0]
        return body[:begin] + np.full(6, value, "<f4").tobytes() + body[begin + 24 :]

    return change


def swap(name, values, kind):
    def change(header, about, body):
        begin, end = header[name]["data_offsets"]
        data = np.array(values, kind).tobytes()
        return body[:begin] + (data * (end - begin))[: end - begin] + body[end:]

    return change


HOSTILE = {
    "not a number": poison(np.nan),
    "infinite": poison(np.inf),
    "negative": poison(-1),
    "not a distribution": poison(0.9),
    "ends that run back": swap("ends", [5, 3], "<i8"),
    "ends out of range": swap("ends", [1 << 62], "<i8"),
    "targets out of range": swap("targets", [99], "<i8"),
    "negative targets": swap("targets", [-1], "<i8"),
    "tested by 7": swap("tested", [7], "u1"),
    "another format": lambda h, a, b: a.update(format=3),
    "no models": lambda h, a, b: a.update(models=[]),
    "models that are a number": lambda h, a, b: a.update(models=3),
    "a model that is a list": lambda h, a, b: a.update(models=[[]]),
    "a limit that is text": lambda h, a, b: a.update(limit="5"),
    "no split": lambda h, a, b: a.pop("split") and None,
    "another protocol": lambda h, a, b: a["models"][0]["results"][0].update(protocol="ten"),
    "a result twice": lambda h, a, b: a["models"][0]["results"].append(a["models"][0]["results"][0]),
    "a result without numbers": lambda h, a, b: a["models"][0]["results"][1].update(several=True),
    "no results": lambda h, a, b: a["models"][0].update(results=[]),
    "fewer classes": lambda h, a, b: a["models"][0]["contract"].update(classes=["a", "b"]),
    "a contract of nothing": lambda h, a, b: a["models"][0].update(contract={}),
    "passes that are text": lambda h, a, b: a["models"][0]["results"][0]["how"].update(passes="many"),
    "scales that are text": lambda h, a, b: a["models"][0]["results"][0]["how"].update(scales=["36"]),
    "one fact more": lambda h, a, b: a["models"][0]["results"][0]["how"].update(more=1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_and_hostile_files_are_refused_in_one_line(root, tmp_path, name):
    rewritten(root / "p0.safetensors", bad := root / "bad.safetensors", HOSTILE[name])
    with pytest.raises(ModelError) as refused:
        evaluated(root, ["bad.safetensors"])
    assert str(bad) in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_the_rewriter_itself_changes_nothing(root):
    rewritten(root / "p0.safetensors", root / "same.safetensors", lambda h, a, b: None)
    assert plainly(evaluated(root, ["same.safetensors"])) == plainly(evaluated(root, [0]))


def test_every_flipped_byte_is_found(root):
    data, bad = (root / "p0.safetensors").read_bytes(), root / "flipped.safetensors"
    random = np.random.default_rng(0)
    length = int.from_bytes(data[:8], "little")
    places = [*range(8), *random.integers(8, 8 + length, 40), *random.integers(8 + length, len(data), 40)]
    for at in places:
        bad.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(ModelError):
            read_posteriors(bad)


@pytest.mark.parametrize("size", [0, 4, 8, 300, 3000, -1])
def test_a_file_cut_short_is_refused(root, size):
    (root / "short.safetensors").write_bytes((root / "p0.safetensors").read_bytes()[:size])
    with pytest.raises(VeryDeepError):
        evaluated(root, ["short.safetensors"])


def test_a_file_that_shrinks_while_it_is_read_is_told(root):
    shutil.copy(root / "p0.safetensors", root / "shrinks.safetensors")
    [model] = read_posteriors(root / "shrinks.safetensors")
    with (root / "shrinks.safetensors").open("rb+") as f:
        f.truncate(2000)
    with pytest.raises(ModelError, match="became shorter"):
        model.rows(Step("both", True), [11])


def test_other_verbs_say_that_it_is_no_model(root):
    from verydeep.weights.model import load

    with pytest.raises(ModelError, match="has no contract"):
        load(root / "p0.safetensors")
