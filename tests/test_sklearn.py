"""The estimators in pipelines, searches and scikit-learn's own checks."""

from unittest import SkipTest

import numpy as np
import pytest
import torch

import verydeep
from verydeep.contract import Contract
from verydeep.data import photo
from verydeep.data.source import open_data
from verydeep.errors import PhotoError, RunError
from verydeep.net.classifier import build
from verydeep.shape import Shape

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import check_is_fitted, validate_data

from verydeep.sklearn import VGGClassifier, VGGDescriptors

SMALL = {"net": "A", "crop": 32, "scale": 32, "base_width": 4, "fc_width": 16, "batch": 12, "threads": 1}
SMALL |= {"batch_norm": True, "steps": 2}


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    torch.manual_seed(0)
    shape = Shape("A", 2, 32, 8, 2, False, "up")
    contract = Contract.of(shape, ("a", "b"), mean=(127.0,) * 3, std=(60.0,) * 3, scales=(32, 32))
    path = tmp_path_factory.mktemp("net") / "narrow.safetensors"
    build(contract).save(path)
    return str(path)


def rows_as_photos(X):
    """Each row of numbers as a grey photo, the numbers as stripes."""
    grey = np.clip(128 + 40 * X, 0, 255).astype(np.uint8)
    wide = np.repeat(grey, -(-32 // grey.shape[1]), 1)[:, None, :, None]
    return np.broadcast_to(wide, (len(X), 32, wide.shape[2], 3)).copy()


class Rows:
    """So that scikit-learn's checks, which give tables of numbers, can be run: each row is a photo."""

    def fit(self, X, y=None):
        checked = validate_data(self, X) if y is None else validate_data(self, X, y)
        return (
            super().fit(rows_as_photos(checked)) if y is None else super().fit(rows_as_photos(checked[0]), checked[1])
        )

    def answered(self, what, X):
        check_is_fitted(self)
        return getattr(super(), what)(rows_as_photos(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


class DescribedRows(Rows, VGGDescriptors):
    def transform(self, X):
        return self.answered("transform", X)


class ClassifiedRows(Rows, VGGClassifier):
    def predict_proba(self, X):
        return self.answered("predict_proba", X)


def failed_checks(estimator):
    failed, met = {}, 0
    for made, check in estimator_checks_generator(estimator, legacy=True):
        try:
            check(made)
            met += 1
        except SkipTest:
            pass
        except Exception as e:
            failed[check.func.__name__] = repr(e)
    assert met > 30
    return failed


def test_descriptors_meet_scikit_learns_checks(narrow):
    assert failed_checks(DescribedRows(narrow)) == {}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")  # that a net of two steps learns nothing
def test_a_net_meets_scikit_learns_checks_but_for_those_that_photos_cannot():
    assert failed_checks(ClassifiedRows(None, fields=SMALL)).keys() == {
        "check_classifiers_train"  # wants 83 % right, which no net has after two steps
    }


def test_convolutions_alone_describe_as_the_verb_does(narrow, monkeypatch):
    alone = verydeep.load(narrow)
    for fc in ("fc6", "fc7", "fc8"):
        setattr(alone.net, fc, None)
    monkeypatch.setattr("verydeep.sklearn.load_describing", lambda name: alone)
    photos = [np.full((300, 256, 3), grey, np.uint8) for grey in (0, 90)]
    fitted = VGGDescriptors().fit(photos)
    assert (fitted.qs_, fitted.transform(photos).shape) == ((256,), (2, len(fitted.get_feature_names_out())))


def test_descriptors_are_the_last_hidden_layer_and_go_into_pipelines_and_searches(narrow):
    photos = open_data("builtin:fashion-mini").split("test")
    own, kind = [photos.open(i) for i in range(120)], photos.targets()[:120] // 5
    found = VGGDescriptors(narrow).fit_transform(own)
    net = verydeep.load(narrow)
    for i in (0, 77):
        one = torch.from_numpy(photo.rescale(own[i], 32).copy()).permute(2, 0, 1)[None]
        said = sum(net.taps(way, ["relu7"])["relu7"][0] for way in (one, one.flip(3)))
        assert found[i] == pytest.approx((said / said.norm()).detach().numpy(), abs=1e-6)
    assert (VGGDescriptors(narrow).fit_transform(np.stack([np.asarray(p) for p in own])) == found).all()
    pipe = make_pipeline(VGGDescriptors(narrow, scales=(32, 40)), LogisticRegression())
    search = GridSearchCV(pipe, {"vggdescriptors__several": ["stack"]}, cv=2).fit(own, kind)
    assert len(search.best_estimator_[0].get_feature_names_out()) == 2 * found.shape[1]
    assert cross_val_score(pipe, own, kind, cv=2).min() > 0.5
    assert clone(pipe).set_params(vggdescriptors__batch=7).get_params()["vggdescriptors__scales"] == (32, 40)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_net_is_trained_kept_and_read_again(photo_folder, tmp_path):
    paths = sorted(photo_folder.rglob("*.*"))
    kinds = [p.parent.name for p in paths]
    net = VGGClassifier("modern", fields=SMALL | {"steps": 20, "lr": 0.05}, run=tmp_path / "run").fit(paths, kinds)
    assert (net.classes_.tolist(), (tmp_path / "run" / "best.safetensors").exists()) == (["1", "10", "2"], True)
    said = net.predict_proba(paths)
    assert (said.shape, net.predict(paths).tolist()) == ((36, 3), net.classes_[said.argmax(1)].tolist())
    assert net.score(paths, kinds) == np.mean(net.predict(paths) == kinds)
    for form in (np.array(list(map(str, paths))), np.array(paths)):
        assert net.predict(form).tolist() == net.predict(paths).tolist()
    own = verydeep.load(tmp_path / "run")
    assert own.contract.classes == ("1", "2", "10")
    assert said == pytest.approx(own.predict(paths, "dense").numpy()[:, [0, 2, 1]])
    net.save(tmp_path / "net.safetensors")
    assert VGGClassifier.load(tmp_path / "net.safetensors", protocol="centre").protocol == "centre"
    again = VGGClassifier.load(tmp_path / "net.safetensors")
    assert (again.predict_proba(paths) == said).all()
    numbers = VGGClassifier(None, fields=SMALL).fit([p.read_bytes() for p in paths], [float(k) * 2 for k in kinds])
    assert set(numbers.predict(paths[:2])) <= {2.0, 4.0, 20.0}
    odd = VGGClassifier(None, fields=SMALL).fit(paths, ["null" if k == "2" else k for k in kinds])
    assert odd.predict_proba(paths[:1]).shape == (1, 3)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_run_of_other_photos_is_no_run_of_these(photo_folder, tmp_path):
    paths = sorted(photo_folder.rglob("*.*"))
    photos, kinds = [p.read_bytes() for p in paths], [p.parent.name for p in paths]
    net = VGGClassifier(None, fields=SMALL, run=tmp_path / "run").fit(photos, kinds)
    assert (net.fit(photos, kinds).predict_proba(paths) == net.predict_proba(paths)).all()
    with pytest.raises(RunError):
        net.fit(photos[::-1], kinds)
    (tmp_path / "run").rename(tmp_path / "moved")  # without its list
    with pytest.raises(RunError, match="was begun with other photos or classes; give another run"):
        net.set_params(run=tmp_path / "moved").fit(photos, kinds)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_start_alone_is_fine_tuned(photo_folder, narrow):
    paths = sorted(photo_folder.rglob("*.*"))
    net = VGGClassifier(start=narrow, fields={"epochs": 1, "batch": 8, "workers": 0})
    assert set(net.fit(paths, [p.parent.name for p in paths]).classes_) == {"1", "10", "2"}


def test_what_is_no_list_of_photos_is_explained(narrow, photo_folder):
    describe, path = VGGDescriptors(narrow), next(photo_folder.rglob("*.png"))
    for wrong, said in (
        (str(path), "expected a list of photos"), ([], "no photos"), (np.zeros((4, 5)), "array of shape \\(4, 5\\)"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            describe.fit(wrong)
    with pytest.raises(PhotoError, match="photo 1"):
        describe.fit([path]).transform([path, b"no photo"])
    with pytest.raises(ValueError, match="36 photos and y 2 classes"):
        VGGClassifier().fit(list(photo_folder.rglob("*.*")), [1, 2])
