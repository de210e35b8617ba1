"""Estimators that follow scikit-learn: the paper's descriptors in a pipeline, and a net that `fit` trains.

    from verydeep.sklearn import VGGClassifier, VGGDescriptors

    make_pipeline(VGGDescriptors("oxford-d-convolutions"), LinearSVC()).fit(paths, labels)
    VGGClassifier(time="2m").fit(paths, labels).predict(["cat.jpg"])

X is a list of photos in any form that `Classifier.predict` takes: paths, bytes of files, Pillow images, uint8 arrays
H x W x 3; or one array N x H x W x 3. Needs scikit-learn (the extra `sklearn`).
"""

import csv
import hashlib
import io
import warnings
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, column_or_1d
except ImportError as e:
    raise ImportError("verydeep.sklearn needs scikit-learn; try pip install 'verydeep[sklearn]'") from e

from verydeep.data.source import open_data
from verydeep.describe import Rows, Several, described, descriptors, own_scales
from verydeep.errors import ConfigError, RunError
from verydeep.evaluate.passes import Settings, settled
from verydeep.evaluate.views import Scales
from verydeep.hardware import device_for
from verydeep.net.classifier import Protocol
from verydeep.net.pixels import photo_of
from verydeep.progress import Progress
from verydeep.recipes import layered
from verydeep.train.prepare import run_training
from verydeep.weights import load, load_describing

Device = Literal["auto", "cpu", "cuda", "mps"]


def photos_given(X: Any) -> Any:
    """X as a sequence of photos. Raises ValueError, as scikit-learn does, for a table, one photo, or none at all."""
    if isinstance(X, (str, bytes, Path)) or not hasattr(X, "__len__") or not hasattr(X, "__getitem__"):
        raise ValueError(f"X is one {type(X).__name__}; expected a list of photos, such as [photo]")
    if isinstance(X, np.ndarray) and X.dtype.kind != "O" and X.dtype.kind not in "US" and X.ndim != 4:
        raise ValueError(f"X is an array of shape {X.shape}; expected photos: paths, images, or uint8 N x H x W x 3")
    if not len(X):
        raise ValueError("X holds no photos")
    return X if isinstance(X, (list, tuple)) else list(X)


class VGGDescriptors(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Photos to the paper's descriptors (appendix B), float32 N x D of length 1; nothing is learnt.

    model: MODEL as the command line takes it. scales: smallest sides Q, `single`, `several`, or numbers; several: of
    descriptors at several Q the average, or all one after the other; mirror: None averages mirror images in of nets
    that were trained with them. Raises ConfigError, ModelError and PhotoError.
    """

    def __init__(
        self, model: str | Path = "oxford-d-convolutions", *, scales: Scales = "single", several: Several = "average",
        mirror: bool | None = None, device: Device = "auto", batch: int = 32,
    ) -> None:  # fmt: skip
        self.model, self.scales, self.several = model, scales, several
        self.mirror, self.device, self.batch = mirror, device, batch

    def fit(self, X: Any, y: Any = None) -> Self:
        """Loads the model."""
        photos_given(X)
        if self.several not in ("average", "stack"):
            raise ConfigError(f"several: {self.several!r} is neither average nor stack")
        self.net_ = load_describing(self.model)
        self.qs_ = own_scales(self.net_, self.scales)
        return self

    def transform(self, X: Any) -> Rows:
        check_is_fitted(self)
        photos, reading = photos_given(X), self.net_.contract.reading
        settings = Settings(self.mirror, device=device_for(self.device).type, batch=self.batch, long_photos="middle")
        opened = lambda id: photo_of(photos[id], f"photo {id}", reading)  # noqa: E731
        found = described([self.net_], [self.qs_], opened, range(len(photos)), settled(settings, [self.net_]))
        return descriptors([np.concatenate([said for _, [said] in found])], self.several)

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        check_is_fitted(self)
        net, times = self.net_.net, len(self.qs_) if self.several == "stack" else 1
        width = net.fc7.out_features if net.fc7 else net.convolutions()[-1].weight.shape[0]
        return np.array([f"vgg{i}" for i in range(width * times)], object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string = False, True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class VGGClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A net of the paper that `fit` trains, as `verydeep train` does.

    recipe, fields: as the command line has them, such as fields={"net": "D", "steps": 600}. time: about how long the
    recipe `auto` may take. start: MODEL to fine-tune, by `finetune` where no recipe is named. run: the folder of the
    training, in which an interrupted one goes on; None: nothing is kept but the net. Part of the photos is held out to
    steer the training, `val_share` of fields.
    """

    def __init__(
        self, recipe: str | None = "auto", *, time: str = "5m", start: str | Path | None = None,
        fields: dict[str, Any] | None = None, run: str | Path | None = None, protocol: Protocol = "dense",
        seed: int = 0, device: Device = "auto", verbose: bool = False,
    ) -> None:  # fmt: skip
        self.recipe, self.time, self.start, self.fields, self.run = recipe, time, start, fields, run
        self.protocol, self.seed, self.device, self.verbose = protocol, seed, device, verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """y: a class for each photo, text or numbers. Raises as a training does; its warnings are warnings here."""
        if y is None:
            raise ValueError("VGGClassifier requires y to be passed, but the target y is None")
        photos = photos_given(X)
        check_classification_targets(y)
        classes, numbers = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(numbers) != len(photos):
            raise ValueError(f"X holds {len(photos)} photos and y {len(numbers)} classes; expected a class a photo")
        if len(classes) < 2:
            raise ValueError(f"y holds one class, {classes[0]!r}; expected two or more")
        names = list(map(str, classes))
        with TemporaryDirectory(prefix="verydeep-") as temporary:
            out = Path(self.run or Path(temporary, "run"))
            beside = out.with_name(f"{out.name}-photos")
            other = f"{out} was begun with other photos or classes; give another run"
            if (kept := (out / "run.json").exists()) and not (beside / "photos.csv").exists():
                raise RunError(other)
            begun = (beside / "photos.csv").read_bytes() if kept else b""
            data = as_manifest(photos, [names[n] for n in numbers], beside)
            if set(open_data(str(data)).classes) != set(names):  # lists read 1.0 as 1, and null as no class
                names = [f"class {n}" for n in range(len(classes))]
                data = as_manifest(photos, [names[n] for n in numbers], beside)
            if begun and begun != data.read_bytes():
                data.write_bytes(begun)
                raise RunError(other)
            own = {"seed": self.seed, "device": self.device, "test_share": 0.0} | (self.fields or {})
            start = str(self.start) if self.start else None
            recipe = "finetune" if start and self.recipe == "auto" else self.recipe  # auto chooses a start itself
            seen: dict[str, Any] = {"data": str(data), "time": self.time} if recipe == "auto" else {}
            config = layered(recipe, start=start, run=out, **seen, **own)
            with nullcontext() if self.verbose else redirect_stderr(io.StringIO()) as said:
                run_training(str(data), config, out, progress=Progress("auto" if self.verbose else "none"))
            for line in said.getvalue().splitlines() if said else ():
                if line.startswith("warning: "):
                    warnings.warn(line.removeprefix("warning: "), stacklevel=2)
            self.net_, self.classes_, self.names_ = load(out).to(device_for(self.device)), classes, names
        return self

    def predict_proba(self, X: Any) -> npt.NDArray[np.float32]:
        """Posteriors N x K, classes in the order of `classes_` (section 3.2)."""
        check_is_fitted(self)
        found = self.net_.predict(photos_given(X), self.protocol).numpy()
        known = list(self.net_.contract.classes)
        return np.asarray(found[:, [known.index(name) for name in self.names_]])

    def predict(self, X: Any) -> Any:
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(1)]

    def save(self, path: str | Path) -> None:
        """One safetensors file that every verb takes."""
        check_is_fitted(self)
        self.net_.save(path)

    @classmethod
    def load(cls, model: str | Path, **params: Any) -> Self:
        """One that is fitted already: MODEL as the command line takes it; its classes are text."""
        made = cls(**params)
        made.net_ = load(model).to(device_for(made.device))
        made.names_ = sorted(made.net_.contract.classes)
        made.classes_ = np.array(made.names_)
        return made

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string, tags.non_deterministic = False, True, False
        return tags


def as_manifest(photos: Sequence[Any], labels: Iterable[str], folder: Path) -> Path:
    """A list of these photos; those that are no files are saved beside it, without loss."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "photos.csv").open("w", encoding="utf-8", errors="surrogateescape", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(("path", "label"))
        for i, (given, label) in enumerate(zip(photos, labels, strict=True)):
            if not isinstance(given, (str, Path)):
                image = photo_of(given, f"photo {i}")
                given = f"{i:06d}-{hashlib.sha256(image.tobytes()).hexdigest()[:12]}.png"  # a run knows photos by name
                image.save(folder / given)
            elif not Path(given).is_absolute():
                given = Path(given).absolute()
            writer.writerow((given, label))
    return folder / "photos.csv"
