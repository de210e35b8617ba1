"""Several processes that train or test one net together: torch.distributed as torchrun starts it.

A world of one needs none of it: there every method returns at once what it was given.
"""

import gc
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # its defaults keep the group of its first import, as DDP would do later
from torch import Tensor, nn
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from verydeep.errors import ConfigError, RankError

PATIENCE = timedelta(
    hours=2
)  # the others wait while the first measures, saves or downloads; a killed one is noticed at once


@dataclass(frozen=True)
class Ranks:
    """This process's place among `size` that work together."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    @property
    def on_this_machine(self) -> int:
        """How many of them share this machine's memory."""
        return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if self.size > 1 else 1

    def part(self, start: int, end: int) -> range:
        """The positions of start..end that are this rank's: together they are all, each once."""
        n = end - start
        return range(start + n * self.rank // self.size, start + n * (self.rank + 1) // self.size)

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all ranks, equal on each; `values` holds it afterwards."""
        if self.size > 1:
            with losing_others(self):
                dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """What every rank gave, by rank. A value is anything that JSON can hold."""
        if self.size == 1:
            return [value]
        text = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        with losing_others(self):
            lengths = torch.zeros(self.size, dtype=torch.int64)
            lengths[self.rank] = len(text)
            dist.all_reduce(lengths)
            texts = [torch.zeros(int(lengths.max()), dtype=torch.uint8) for _ in range(self.size)]
            dist.all_gather(texts, torch.cat([text, texts[0].new_zeros(len(texts[0]) - len(text))]))
        return [json.loads(bytes(t[:n].tolist())) for t, n in zip(texts, lengths.tolist(), strict=True)]

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first rank does what is inside before the others do."""
        if not self.first:
            self.gather(None)
        yield
        if self.first:
            self.gather(None)

    def together(self, net: nn.Module, device: torch.device) -> nn.Module:
        """The net with the first rank's weights; its gradients are averaged over all ranks while backward runs."""
        if self.size == 1:
            return net
        if any(isinstance(m, nn.BatchNorm2d) for m in net.modules()):
            if device.type == "cpu":
                raise ConfigError(
                    "batch_norm: ranks cannot share its statistics on a CPU; train in one process, or without it"
                )
            net = nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-untyped-call]
        with losing_others(self):
            return nn.parallel.DistributedDataParallel(net, gradient_as_bucket_view=True)


ALONE = Ranks()


@contextmanager
def losing_others(ranks: Ranks) -> Iterator[None]:
    """torch says in twenty lines of C++ that a rank has gone; the rank that left has said why."""
    try:
        yield
    except (RuntimeError, ValueError) as e:
        why = str(e).splitlines()[0][:200] if str(e) else type(e).__name__
        raise RankError(
            f"rank {ranks.rank} of {ranks.size} lost the others ({why}); the one that stopped first says why"
        ) from e


@contextmanager
def joined() -> Iterator[Ranks]:
    """The place that torchrun gives this process; alone without it. Raises RankError where others cannot be reached."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    ranks = Ranks(int(os.environ["RANK"]), size)
    if gpu := torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    with losing_others(ranks):
        store, _, _ = next(rendezvous("env://", timeout=PATIENCE))
        # After a restart the same store may still hold the addresses of those that were killed.
        store = PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpu else "gloo", None, PATIENCE, size, ranks.rank, store)
    yield ranks
    # A connection that anything still holds here ends with the interpreter, and now and then torch aborts over that.
    gc.collect()
    dist.destroy_process_group()
