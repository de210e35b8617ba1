"""Saved posteriors: fused later as if at once, whole or not at all. What is refused in them: tests/test_hostile.py."""

import os
import shutil

import numpy as np
import pytest
import safetensors.numpy
from slow import evaluated as evaluated_on
from slow import made, noisy_folder

from verydeep.errors import DataError, ModelError, PhotoError, RunError
from verydeep.evaluate import posteriors, saving
from verydeep.evaluate.posteriors import read_posteriors
from verydeep.evaluate.views import PROTOCOLS, Step
from verydeep.weights import load

CLASSES = "abcdef"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Twelve photos, one of which cannot be read, three models, and the posteriors of two of them."""
    root = tmp_path_factory.mktemp("saved")
    noisy_folder(root / "photos", CLASSES, 2, bad=["d/0.png"])
    for n in range(3):
        made(CLASSES[:: -1 if n == 1 else 1], (36, 36), n).save(root / f"{n}.safetensors")
    for n in (0, 1):
        evaluated(root, [n], save=root / f"p{n}.safetensors")
    return root


def evaluated(root, names, protocols=PROTOCOLS, scales="several", data=None, bad_photos="skip", **options):
    models = [root / f"{name}.safetensors" for name in names]
    return evaluated_on(models, data or root / "photos", protocols, scales, bad_photos=bad_photos, **options)


def plainly(records):
    """Without times, names and why a photo was skipped."""
    odd = ("seconds", "model", "models", "skipped")
    members = [[{k: v for k, v in m.items() if k != "model"} for m in r.get("models", ())] for r in records]
    own = [{k: v for k, v in r.items() if k not in odd} for r in records]
    return own, members, [[s["photo"] for s in r["skipped"]] for r in records]


def same_tensors(path, other, but=(), off=0.0):
    one, other = (safetensors.numpy.load_file(p) for p in (path, other))
    assert one.keys() == other.keys()
    for name in one.keys() - set(but):
        assert np.allclose(one[name], other[name], 0, off, equal_nan=one[name].dtype == np.float32), name


@pytest.mark.parametrize("models", [["p0", "p1"], ["p0", 1], [0, "p1"]])
def test_fused_later_is_fused_at_once(root, models):
    assert plainly(evaluated(root, models)) == plainly(evaluated(root, [0, 1]))


def test_what_was_saved_is_what_was_counted_and_what_was_not_read_is_marked(root):
    found = safetensors.numpy.load_file(root / "p0.safetensors")  # by the library's own reader
    assert found["tested"].tolist() == [1] * 6 + [0] + [1] * 5
    assert found["rows"].dtype == np.float32
    for record, rows in zip(evaluated(root, [0]), np.split(found["rows"], 5, axis=1), strict=True):
        assert np.isnan(rows[6]).all()
        good = np.delete(rows, 6, 0)
        assert np.allclose(good.sum(1), 1, atol=1e-5)
        assert (good.argmax(1) != np.delete(found["targets"], 6)).sum() == record["top1_errors"]
    assert bytes(found["keys"]).decode().split("\0")[:2] == ["a/0.png", "a/1.png"]


def test_a_file_may_hold_several_models_and_be_saved_again(root):
    direct = evaluated(root, [0, 1, 2], save=root / "three.safetensors")
    names = [m.name for m in read_posteriors(root / "three.safetensors")]
    assert names == [str(root / f"{n}.safetensors") for n in range(3)]
    again = evaluated(root, ["three"], save=root / "again.safetensors")
    assert plainly(again) == plainly(direct)
    assert [r["seconds"] for r in again] == [r["seconds"] for r in direct]
    same_tensors(root / "three.safetensors", root / "again.safetensors")


def test_no_photo_is_opened_where_all_was_saved(root, monkeypatch):
    monkeypatch.setattr("verydeep.evaluate.passes.frames", None)
    assert evaluated(root, ["p0", "p1"])


def test_names_need_not_be_text(root, tmp_path):
    data = os.fsdecode(bytes(tmp_path) + b"/photos \xff")
    shutil.copytree(root / "photos", data)
    found = evaluated(root, [0], ["centre"], data=data, save=root / "odd.safetensors")
    assert plainly(evaluated(root, ["odd"], ["centre"], data=data)) == plainly(found)


def test_rows_are_written_by_blocks_in_any_order(root, monkeypatch):
    monkeypatch.setattr(saving, "BLOCK", 1)
    monkeypatch.setattr(posteriors, "BLOCK", 100)
    evaluated(root, [0], save=root / "blocks.safetensors", batch=1)
    same_tensors(root / "blocks.safetensors", root / "p0.safetensors", but=["sha256"], off=1e-5)
    assert read_posteriors(root / "blocks.safetensors")


REFUSED = [
    ({"average": "posteriors"}, ModelError, "made with average scores, not posteriors"),
    ({"pooling": "down"}, ModelError, "made with pooling up, not down"),
    ({"mirror": True}, ModelError, "for centre at one scale were made with mirror False, not True"),
    ({"scales": (36, 40)}, ModelError, r"made with scales \(32, 36, 41\), not \(36, 40\)"),
    ({"scales": "single"}, ModelError, "for crops at one scale; it has centre at one scale, dense at one scale"),
    ({"names": ["p0", 1], "limit": 5}, DataError, "the posteriors of 12 photos of all, and the test is of 5 photos"),
    ({"data": "builtin:fashion-mini"}, DataError, "builtin:fashion-mini does not have"),
    ({"bad_photos": "stop"}, PhotoError, r"d/0\.png: could not be read when .*0\.safetensors was saved"),
]


@pytest.mark.parametrize(("options", "error", "said"), REFUSED)
def test_posteriors_of_another_test_or_of_other_photos_are_refused(root, options, error, said):
    with pytest.raises(error, match=said):
        evaluated(root, **{"names": ["p0"]} | options)


def test_a_limit_travels_with_the_file(root):
    direct = evaluated(root, [0], save=root / "few.safetensors", limit=5)
    assert plainly(evaluated(root, ["few"])) == plainly(direct)
    assert {r["limit"] for r in direct} == {5}
    assert plainly(evaluated(root, ["few", 1], limit=5)) == plainly(evaluated(root, [0, 1], limit=5))


def test_a_file_that_cannot_be_written_is_told_before_the_work_and_leaves_nothing(root, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("verydeep.evaluate.passes.frames", None)
        with pytest.raises(RunError, match="cannot be saved"):
            evaluated(root, [0], save=tmp_path / "nowhere" / "p.safetensors")

    def full(*given):
        raise OSError(28, "No space left on device")

    (tmp_path / "p.safetensors").write_text("before")
    monkeypatch.setattr(saving, "write_pieces", full)
    with pytest.raises(RunError, match="No space left on device"):
        evaluated(root, [0], save=tmp_path / "p.safetensors")
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("p.safetensors", "before")]


def test_every_flipped_byte_is_found(root):
    data, bad = (root / "p0.safetensors").read_bytes(), root / "flipped.safetensors"
    random, end = np.random.default_rng(0), 8 + int.from_bytes(data[:8], "little")
    for at in [*random.integers(8, end, 40), *random.integers(end, len(data), 40)]:
        bad.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(ModelError):
            read_posteriors(bad)


def test_a_file_that_shrinks_while_it_is_read_is_told(root):
    shutil.copy(root / "p0.safetensors", root / "shrinks.safetensors")
    [model] = read_posteriors(root / "shrinks.safetensors")
    os.truncate(root / "shrinks.safetensors", 2000)
    with pytest.raises(ModelError, match="became shorter"):
        model.rows(Step("both", True), [11])


def test_other_verbs_say_that_it_is_no_model(root):
    with pytest.raises(ModelError, match="no net of Table 1 has such layers"):
        load(str(root / "p0.safetensors"))
