"""What is made of a folder: components, dissimilarities, other files, and neighbours."""

import json
import os
import shutil

import numpy as np
import pytest
import safetensors.numpy
import scipy.spatial.distance
from PIL import Image
from seen import layer, noise, noisy_photos, small

import verydeep
from verydeep.cli import main
from verydeep.describe import gram
from verydeep.errors import ConfigError, ModelError, RunError

TAPS = ("conv1_1", "fc7")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model and nine photos, of which number 4 is bad."""
    root = tmp_path_factory.mktemp("uses")
    small().save(root / "a.safetensors")
    return root, noisy_photos(root / "photos", 9, bad=[4])


def describe(made, out, **how):
    root, photos = made
    verydeep.describe(str(root / "a.safetensors"), photos, out=root / out, **{"workers": 0, "device": "cpu"} | how)
    return root / out


def test_principal_components_are_those_of_the_first_photos(made, monkeypatch):
    monkeypatch.setattr("verydeep.describe.folder.FITTED", 7)
    monkeypatch.setattr(gram, "PIECE", 700)
    maps = np.load(describe(made, "maps", taps=TAPS, pool="none") / "conv1_1.npy").astype(np.float64)
    out = describe(made, "pca", taps=TAPS, pool="pca:3")
    fitted = maps[[0, 1, 2, 3, 5, 6]]
    _, lengths, components = np.linalg.svd(fitted - fitted.mean(0), full_matrices=False)
    found, basis = np.load(out / "conv1_1.npy"), np.load(out / "conv1_1.basis.npy")
    assert basis[0] == pytest.approx(fitted.mean(0), rel=1e-5, abs=1e-6)
    assert np.abs((basis[1:] * components[:3]).sum(1)) == pytest.approx(1, abs=1e-6)
    wanted = (maps - fitted.mean(0)) @ components[:3].T
    assert np.abs(found) == pytest.approx(np.abs(wanted), rel=1e-3, abs=1e-3 * lengths[0], nan_ok=True)
    assert np.isnan(found).any(1).tolist() == [i == 4 for i in range(9)]
    assert not (out / "basis").exists()


def test_a_net_that_learnt_without_mirror_images_describes_without_them(tmp_path):
    """By the verb alone and behind one that learnt with them, from Python, on the server, and in front of an SVM."""
    pytest.importorskip("sklearn")
    from verydeep.serve.tasks import describing
    from verydeep.sklearn import VGGDescriptors

    for name, seed, flip in [("with", 0, True), ("plain", 1, False)]:
        small("A", seed, flip=flip).save(tmp_path / f"{name}.safetensors")
    nets = [str(tmp_path / f"{name}.safetensors") for name in ("with", "plain")]
    photos = noisy_photos(tmp_path / "photos" / "a", 12) + noisy_photos(tmp_path / "photos" / "b", 12)

    def described(out, model, **how):
        verydeep.describe(model, photos, out=tmp_path / out, **{"workers": 0, "device": "cpu"} | how)
        return np.load(tmp_path / out / "descriptor.npy")

    by_hand = np.array([layer(small("A", 1), Image.open(p), "relu7", 32, mirror=False) for p in photos])
    by_hand /= np.linalg.norm(by_hand, axis=1)[:, None]
    plain = described("plain", nets[1])
    assert plain == pytest.approx(by_hand, abs=1e-5)
    assert np.abs(described("asked", nets[1], mirror=True) - by_hand).max() > 1e-3
    two = [described(out, nets[0], second=nets[1], **how) for out, how in [("two", {}), ("no", {"mirror": False})]]
    assert (two[0] == two[1]).all()
    assert np.abs(described("usual", nets[0]) - described("not", nets[0], mirror=False)).max() > 1e-3
    assert VGGDescriptors(nets[1]).fit_transform(photos) == pytest.approx(by_hand, abs=1e-5)
    served = describing(verydeep.load(nets[1]), "cpu")
    [answer] = served.compute([served.prepare(Image.open(photos[0]), 1)])
    assert answer["descriptor"] == pytest.approx(by_hand[0].tolist(), abs=1e-5)
    for models, mirrors in [(nets[:1], True), (nets[1:], False), (nets, False)]:
        how = {"splits": 1, "workers": 0}
        assert verydeep.transfer(models, str(tmp_path / "photos"), **how)["mirror"] == mirrors


def test_dissimilarities_are_those_of_scipy(made, monkeypatch):
    monkeypatch.setattr(gram, "PIECE", 1000)
    out = describe(made, "rdm", taps=TAPS, pool="none", rdm=True)
    for tap in TAPS:
        rows = np.delete(np.load(out / f"{tap}.npy"), 4, 0).astype(np.float64)
        found = np.load(out / f"{tap}.rdm.npy")
        assert found.shape == (9, 9)
        assert np.isnan(found[4]).all()
        assert np.isnan(found[:, 4]).all()
        wanted = scipy.spatial.distance.squareform(scipy.spatial.distance.pdist(rows, "correlation"))
        assert np.delete(np.delete(found, 4, 0), 4, 1) == pytest.approx(wanted, abs=1e-12)
    with Image.open(out / "rdm.png") as picture:
        assert min(picture.size) > 200
    constant = gram.dissimilarity(np.array([[1, 2, 4], [3, 3, 3], [2, 4, 8]], np.float32))
    assert np.array_equal(np.isnan(constant), [[False, True, False], [True] * 3, [False, True, False]])
    assert constant[0, 2] == pytest.approx(0, abs=1e-12)
    monkeypatch.setattr("verydeep.describe.MOST_COMPARED", 8)
    with pytest.raises(ConfigError, match="rdm: 9 photos; all pairs of at most 8 are compared"):
        describe(made, "many", rdm=True)


def test_one_file_more_holds_the_same(made):
    out = describe(made, "forms", taps=TAPS)
    rows = {tap: np.load(out / f"{tap}.npy") for tap in TAPS}
    for form in ("npz", "safetensors", "parquet"):
        describe(made, "forms", taps=TAPS, to=form)
        file = out / f"descriptors.{form}"
        if form == "npz":
            with np.load(file) as found:
                values = {tap: found[tap] for tap in TAPS}
                names, contract = found["photos"].tolist(), str(found["contract"])
        elif form == "safetensors":
            with safetensors.safe_open(file, "np") as f:
                contract = f.metadata()["contract"]
            values = safetensors.numpy.load_file(file)
            names = values.pop("photos").tobytes().decode().split("\0")[:-1]
        else:
            table = pytest.importorskip("pyarrow.parquet").read_table(file)
            values = {tap: np.array(table[tap].to_pylist(), np.float32) for tap in TAPS}
            names, contract = table["photo"].to_pylist(), table.schema.metadata[b"contract"].decode()
        assert names == made[1]
        assert json.loads(contract)["taps"] == list(TAPS)
        assert all(np.array_equal(values[tap], rows[tap], equal_nan=True) for tap in TAPS)


def test_parquet_without_pyarrow_names_the_extra(made, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'verydeep\[parquet\]'"):
        describe(made, "no-parquet", to="parquet")


@pytest.mark.parametrize("how", [{}, {"taps": TAPS, "pool": "pca:4"}, {"taps": TAPS, "pool": "none"}])
def test_neighbours_are_those_of_the_largest_cosine(made, monkeypatch, how):
    monkeypatch.setattr("verydeep.describe.neighbours.PIECE", 30)
    root, photos = made
    out = describe(made, f"near-{how.get('pool')}", **how)
    noise(37, 43, 99).save(root / "asked.png")
    rows = np.load(out / f"{how.get('taps', ['descriptor'])[-1]}.npy").astype(np.float64)
    (one, same, bad) = verydeep.similar(out, [str(root / "asked.png"), photos[2], photos[4]], top=20, device="cpu")
    if not how:
        asked = layer(small(), Image.open(root / "asked.png"), "relu7", 32)
        cosines = rows @ asked / np.linalg.norm(asked)
        order = [i for i in np.argsort(-np.where(np.isnan(cosines), -9, cosines)) if i != 4]
        assert [s["row"] for s in one["similar"]] == order
        assert [s["cosine"] for s in one["similar"]] == pytest.approx(cosines[order], abs=1e-5)
    of_two = rows @ rows[2] / np.linalg.norm(rows, axis=1) / np.linalg.norm(rows[2])
    order = [i for i in np.argsort(-np.where(np.isnan(of_two), -9, of_two)) if i != 4]
    assert order[0] == 2
    assert [s["row"] for s in same["similar"]] == order
    assert [s["photo"] for s in same["similar"]] == [photos[i] for i in order]
    assert [s["cosine"] for s in same["similar"]] == pytest.approx(of_two[order], abs=1e-4)
    assert (bad["similar"], bad["error"][:13]) == ([], "is not a JPEG")


def test_neighbours_are_told_and_shown(made, capsys):
    root, photos = made
    out = describe(made, "told", taps=TAPS)
    words = ["similar", str(out), photos[0], photos[4], "--top", "2", "--device", "cpu"]
    assert main([*words, "--sheet", str(root / "sheet.png")]) == 1
    table = capsys.readouterr().out.splitlines()
    assert table[0] == f"{photos[0]}:"
    assert table[1] == f"  1.0000  {photos[0]}"
    assert "error: is not a JPEG" in table[3]
    with Image.open(root / "sheet.png") as picture:
        assert picture.width > picture.height
    assert main([*words, "--json", "--sheet", str(root / "sheet.html"), "--tap", "conv1_1"]) == 1
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["similar"][0]["row"] == 0
    assert second["similar"] == []
    assert 'src="data:image/png;base64,' in (root / "sheet.html").read_text()
    assert main([*words, "--csv"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "photo,rank,similar,row,cosine,error"
    assert lines[1] == f"{photos[0]},1,{photos[0]},0,1.000000,"
    assert len(lines) == 4
    assert main([*words, "--csv", "--json"]) == 2
    assert main([*words, "--sheet", "x.jpg"]) == 2
    assert main([*words, "--tap", "pool5"]) == 2
    assert f"has no 'pool5'; it has {', '.join(TAPS)}" in capsys.readouterr().err


def test_names_of_all_kinds_are_written_on_the_sheet(made, tmp_path):
    odd = ["$x_$y.png", "猫 und 犬.png", "a\tb.png", os.fsdecode(b"\xff.png")]
    photos = [shutil.copy(made[1][0], tmp_path / name) for name in odd]
    verydeep.describe(str(made[0] / "a.safetensors"), [*map(str, photos)], out=tmp_path / "$out$", device="cpu")
    found = verydeep.similar(tmp_path / "$out$", [*map(str, photos)], sheet=tmp_path / "sheet.png", device="cpu")
    assert [{s["photo"] for s in one["similar"]} == set(map(str, photos)) for one in found] == [True] * 4
    with Image.open(tmp_path / "sheet.png") as picture:
        assert min(picture.size) > 500


def test_another_model_or_another_folder_is_refused(made, tmp_path):
    root, photos = made
    small().save(tmp_path / "b.safetensors")
    verydeep.describe(str(tmp_path / "b.safetensors"), photos[:1], out=tmp_path / "out", device="cpu")
    assert len(verydeep.similar(tmp_path / "out", photos[:1])[0]["similar"]) == 1
    contract = json.loads((tmp_path / "out" / "contract.json").read_text())
    for wrong in ({"pool": 3}, {"scales": 3}, {"taps": None}):
        (tmp_path / "out" / "contract.json").write_text(json.dumps(contract | wrong))
        with pytest.raises(RunError, match="cannot be read"):
            verydeep.similar(tmp_path / "out", photos[:1])
    (tmp_path / "out" / "contract.json").write_text(json.dumps(contract))
    small(seed=1).save(tmp_path / "b.safetensors")
    with pytest.raises(ModelError, match="its weights have another SHA-256 now"):
        verydeep.similar(tmp_path / "out", photos[:1])
    with pytest.raises(RunError, match="is no folder of descriptors"):
        verydeep.similar(root / "photos", photos[:1])
