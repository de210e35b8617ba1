from dataclasses import KW_ONLY, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from verydeep.errors import ConfigError
from verydeep.files.records import Within
from verydeep.verbs import FilePath, Verb


@dataclass(frozen=True)
class Export(Verb):
    """write a model for ONNX Runtime, OpenVINO, PyTorch or a browser, from raw pixels to posteriors; compared first"""

    model: str
    _: KW_ONLY
    to: Literal["onnx", "openvino", "pt2", "page"]
    """onnx, for ONNX Runtime and the web; openvino, .xml and .bin; pt2, a program of torch.export; page, one HTML file
    that shows what the net sees of a photo, offline"""
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
        if self.to == "page":
            return self.page()
        from verydeep.export import export_model

        return export_model(
            self.model, self.to, Path(self.out) if self.out else None, dense=self.dense, int8=self.int8,
            calibrate=self.calibrate, keep=self.keep, max_drop=self.max_drop, download=self.download,
        )  # fmt: skip

    def page(self) -> dict[str, Any]:
        from verydeep.serve import write_living_page

        asked = {f.name for f in fields(self) if getattr(self, f.name) != f.default} - {"model", "to", "out"}
        if asked:
            raise ConfigError(f"{min(asked)}: a page shows crops and whole photos, its weights in what it has room for")
        return write_living_page(self.model, Path(self.out) if self.out else None)

    def text(self, record: dict[str, Any]) -> str:
        from verydeep.export import export_text

        return export_text(record)
