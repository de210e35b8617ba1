"""What training costs on this machine, measured for a moment."""

import math
import time

import torch
from torch import Tensor

from verydeep.config import Config
from verydeep.hardware import multiplies_bf16
from verydeep.net.initialise import untouched
from verydeep.net.vgg import VGG
from verydeep.train.loop import Objective

# For the gain table and the estimate: enough to run at full speed, little enough to be quick.
SAMPLE_PIXELS = 256 * 32 * 32


def takes_bf16(config: Config, device: torch.device) -> bool:
    return config.precision == "bf16" or (config.precision == "auto" and multiplies_bf16(device))


def seconds_a_photo(net: VGG, x: Tensor, targets: Tensor, objective: Objective, bf16: bool = False) -> float:
    """Seconds of training, from the quicker of two forward and backward passes of normalised crops x.

    The first prepares, and another program may hold up either; the net is left as it was.
    """
    seconds = math.inf
    with untouched(net):
        net.train()
        for _ in range(2):
            began = time.perf_counter()
            with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
                loss, _ = objective(net(x), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            net.zero_grad()
            if x.device.type == "cuda":
                torch.cuda.synchronize()
            seconds = min(seconds, time.perf_counter() - began)
    return seconds / len(x)
