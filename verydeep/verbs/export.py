from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from verydeep.files.records import Within
from verydeep.verbs import FilePath, Verb


@dataclass(frozen=True)
class Export(Verb):
    """write a model for ONNX Runtime, OpenVINO or PyTorch, from raw pixels to posteriors, and compare it first"""

    model: str
    _: KW_ONLY
    to: Literal["onnx", "openvino", "pt2"]
    """onnx, for ONNX Runtime and the web; openvino, .xml and .bin; pt2, a program of torch.export"""
    out: FilePath | None = None
    """the file; null: here, by the model's name"""
    dense: bool = False
    """photos of any size, rescaled inside, instead of crops"""
    int8: Literal["all", "fc"] | None = None
    """all layers, for processors with VNNI or AMX, by ranges seen on photos; or the weights of fc6 to fc8 alone;
    null: none"""
    calibrate: str | None = None
    """DATA with photos of the model's classes: 300 for the ranges, 1,000 to count errors on; null: none"""
    keep: tuple[str, ...] = ()
    """layers that stay in floats, such as conv1_1,fc8"""
    max_drop: Annotated[float, Within(0, 100)] = 0.5
    """points of error more at which an int8 file is refused"""
    download: bool = False

    def run(self) -> dict[str, Any]:
        from verydeep.export import export_model

        return export_model(
            self.model, self.to, Path(self.out) if self.out else None, dense=self.dense, int8=self.int8,
            calibrate=self.calibrate, keep=self.keep, max_drop=self.max_drop, download=self.download,
        )  # fmt: skip

    def text(self, record: dict[str, Any]) -> str:
        from verydeep.export import export_text

        return export_text(record)
