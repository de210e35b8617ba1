from dataclasses import KW_ONLY, astuple, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from verydeep.verbs import FilePath, Verb


@dataclass(frozen=True)
class Weights(Verb):
    """published nets: list, fetch NAME, convert MODEL OUT --to FORMAT, show MODEL, verify MODEL"""

    DOES: ClassVar[tuple[str, str]]  # in weights: the work, which takes the fields in order, and its text

    def run(self) -> Any:
        from verydeep import weights

        return getattr(weights, self.DOES[0])(*astuple(self))

    def text(self, record: Any) -> str:
        from verydeep import weights

        return str(getattr(weights, self.DOES[1])(record))


@dataclass(frozen=True)
class List(Weights):
    """published nets with origin, the input they expect, licence and published errors, and whether they are at hand"""

    DOES = "list_published", "list_text"


@dataclass(frozen=True)
class Fetch(Weights):
    """fetch a published net into $VERYDEEP_WEIGHTS or the user's cache; a broken download goes on"""

    name: str
    """a name of 'verydeep weights list'"""
    DOES = "fetch_published", "fetched_text"


@dataclass(frozen=True)
class Convert(Weights):
    """write a model for another toolkit, or with its contract as .safetensors"""

    model: str
    out: FilePath
    """the file to write"""
    _: KW_ONLY
    to: Literal["safetensors", "torchvision", "keras", "caffe", "timm"]
    """the layout to write; safetensors carries the contract"""
    expects: str | None = None
    """the input of a foreign net, such as bgr-255 or rgb-01-std; null: what is known of it, else what is usual"""
    fold_mean: bool = False
    """fold another mean into conv1_1; borders differ then"""
    keep: bool = False
    """change no weight; the file then needs the model's own mean and std"""

    def run(self) -> dict[str, Any]:
        from verydeep import weights

        return weights.convert_model(self.model, self.to, Path(self.out), self.expects, self.fold_mean, self.keep)

    def text(self, record: dict[str, Any]) -> str:
        return str(record["words"])


@dataclass(frozen=True)
class Show(Weights):
    """the contract of a model, and its tensors with their statistics"""

    model: str
    DOES = "show_model", "show_text"


@dataclass(frozen=True)
class Verify(Weights):
    """whether a model is whole, finite, learnt and known; exit 1 if it is not"""

    model: str
    DOES = "verify_model", "verify_text"

    def show(self, record: dict[str, Any], as_json: bool) -> int:
        return super().show(record, as_json) or int(not record["good"])
