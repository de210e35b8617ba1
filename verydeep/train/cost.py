"""What training costs on this machine, measured for a moment."""

from __future__ import annotations

import time

import torch

from verydeep.net.vgg import VGG
from verydeep.train.loop import Objective, cross_entropy


def seconds_a_photo(net: VGG, x: torch.Tensor, objective: Objective = cross_entropy, bf16: bool = False) -> float:
    """Seconds of training, from two forward and backward passes of normalised crops x that leave the net as it was."""
    net, targets = net.train(), torch.zeros(len(x), dtype=torch.int64, device=x.device)
    running = {name: buffer.clone() for name, buffer in net.named_buffers()}  # of batch normalisation
    for _ in range(2):
        began = time.perf_counter()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            loss, _ = objective(net(x), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        net.zero_grad()
        if x.device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    net.load_state_dict(running, strict=False)
    return seconds / len(x)
