"""The VGG paper as working software.

verydeep takes a folder of photos, checks it, trains one of the nets of Simonyan & Zisserman, "Very Deep
Convolutional Networks for Large-Scale Image Recognition" (arXiv 1409.1556), tests it, and explains the
result in a report. Every default is the paper's. A model is one safetensors file that expects raw pixels and
carries its classes, its mean and its licence. A run is a folder that can be read, resumed and repeated.

    from verydeep import VGG, Classifier, load

    VGG("D")                                         the net of Table 1, from normalised pixels to logits
    load("runs/mine").predict(["cat.jpg"])           posteriors of photos, N x K
    load("runs/mine").predict(["cat.jpg"], top=3)    the best classes of each, [[("cat", 0.97), ...]]
    load("runs/mine").contract.classes               the names of the K classes

    verydeep.train("photos", recipe="auto", out="runs/mine")    as the verb of the command line; so are
    verydeep.check, evaluate, predict, study, explain, describe, similar, export, serve    the values that --json prints

The command line is `verydeep --help`. Importing this package loads nothing else.
"""

from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["VGG", "Classifier", "__version__", "load"]

if TYPE_CHECKING:
    from verydeep.net.classifier import Classifier
    from verydeep.net.vgg import VGG
    from verydeep.weights import load

VERBS = (  # which are rooms too
    "train", "evaluate", "predict", "study", "transfer", "explain", "describe", "export", "serve",
)  # fmt: skip
PLACES = {"VGG": "verydeep.net.vgg", "Classifier": "verydeep.net.classifier", "load": "verydeep.weights"}


class CalledAsVerb(ModuleType):
    """A room that is called as the verb of its name: `verydeep.train(...)` beside `verydeep.train.loop`."""

    def __call__(self, *words: Any, **flags: Any) -> Any:
        from verydeep.verbs import call

        return call(self.__name__.rpartition(".")[2], *words, **flags)


def __getattr__(name: str) -> Any:
    from importlib import import_module
    from importlib.util import find_spec

    if name in (*VERBS, "perceptual"):
        return import_module(f"verydeep.{name}")
    if name in ("check", "similar"):
        from verydeep.verbs import call

        return partial(call, name)
    if name not in PLACES and not (name.istitle() and find_spec(f"verydeep.verbs.{name.lower()}")):
        raise AttributeError(f"module 'verydeep' has no attribute {name!r}")
    return getattr(import_module(PLACES.get(name, f"verydeep.verbs.{name.lower()}")), name)


def __dir__() -> list[str]:
    return __all__
