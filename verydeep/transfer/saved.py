"""The net with the SVM as its last layer, in a file that every verb takes.

The SVM sees descriptors d of length 1, a last layer does not: its weights are divided by the mean |d|. A photo of that
length has the SVM's scores, others w d / mean |d| + b. Averages over space commute with the layer; those over mirror
images are of posteriors there (section 3.2), of descriptors here. And margins are no probabilities.
"""

from dataclasses import replace
from pathlib import Path

import torch

from verydeep.net.classifier import Classifier, build
from verydeep.paper import STRIDE
from verydeep.transfer.svm import Svm


def save_net(net: Classifier, svm: Svm, classes: tuple[str, ...], length: float, scale: int, words: str, path: Path
) -> None:  # fmt: skip
    """Writes the model. length: the mean of a descriptor's; scale: the Q it was made at.

    Convolutions alone get an fc6 that averages the map of a crop, as their descriptor does, and an fc7 that changes
    nothing.
    """
    own = {name: t for name, t in net.state_dict().items() if not name.startswith("net.fc8")}
    origin = f"{net.contract.origin}; fc8 is a linear SVM, whose margins are no probabilities: {words}"
    contract = replace(net.contract, classes=classes, scales=(scale, scale), origin=origin.lstrip("; "), sha256="")
    if not net.net.fc6:
        width, crop = svm.weights.shape[1], min(224, scale // STRIDE * STRIDE)
        contract = replace(contract, fc_width=width, crop=crop)
        eye, nothing, places = torch.eye(width), torch.zeros(width), (crop // STRIDE) ** 2
        own |= {"net.fc6.weight": eye.repeat_interleave(places, 1) / places, "net.fc6.bias": nothing}
        own |= {"net.fc7.weight": eye, "net.fc7.bias": nothing}
    made = build(contract, drawn=False).eval()
    last = {"net.fc8.weight": torch.from_numpy(svm.weights) / length, "net.fc8.bias": torch.from_numpy(svm.bias)}
    made.load_state_dict(own | last)
    made.save(path)
