"""What a training of boxes is asked for beyond one of classes. Every default is the paper's (appendix A)."""

from dataclasses import dataclass
from typing import Literal

from verydeep.config import Config
from verydeep.files.records import Positive, Share, Some


@dataclass(frozen=True, kw_only=True)
class BoxConfig(Config):
    boxes: Literal["SCR", "PCR"] = "PCR"
    """One box for all classes, or one for each class (appendix A)."""
    box_classes: Literal["own", "all"] = "own"
    """Asked for is a box of the photo's own class, where it has one, or one of each of its classes (open)."""
    box_loss: Literal["euclidean", "smooth-l1"] = "euclidean"
    """Half the squared distance to the true box, or that near it and the distance far from it (Girshick 2015)."""
    log_size: bool = False
    """Width and height as logarithms (Girshick 2014)."""
    least_seen: Share = 0.5
    """A box of which a crop shows less than this share is not asked for there; others are asked for whole (open)."""
    boxes_from: Literal["data", "map"] = "data"
    """Boxes of DATA, or for photos without any those of the class map of the net to start from (open)."""
    map_threshold: Some = 0.4
    """Part of a class map's height above which a box is drawn around its largest part (open)."""
    lr: Positive = 1e-3
    """Learning rate at the start (appendix A)."""
