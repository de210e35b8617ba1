"""Metrics for a tracker beside metrics.jsonl. Another tracker is another class with these two calls."""

from pathlib import Path
from typing import Any

from verydeep.errors import ConfigError


class Tracker:
    """Keeps nothing."""

    def record(self, values: dict[str, Any]) -> None:
        pass

    def close(self) -> None:
        pass


class TensorBoard(Tracker):
    """Event files in the run's tensorboard folder."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as e:
            raise ConfigError("track: tensorboard is not installed; run pip install tensorboard") from e
        self.writer: Any = SummaryWriter(str(folder))

    def record(self, values: dict[str, Any]) -> None:
        for name, value in values.items():
            if name not in ("step", "epoch") and isinstance(value, (int, float)):
                self.writer.add_scalar(name, value, values["step"])

    def close(self) -> None:
        self.writer.close()


def tracker(name: str, run: Path) -> Tracker:
    return TensorBoard(run / "tensorboard") if name == "tensorboard" else Tracker()
