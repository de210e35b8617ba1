"""What the machine is good at: the device, and whether bf16 is faster there."""

import ctypes
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import PIL
import torch

import verydeep
from verydeep.errors import ConfigError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # names of malloc.h
LOOK = 0.3  # seconds for which the machine is watched


def device_for(asked: str) -> torch.device:
    """cpu, cuda or mps; auto takes a CUDA GPU when there is one. Raises ConfigError where the asked one is missing."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: no CUDA GPU can be used here; try --device cpu, or --device auto")
    if asked == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device: no GPU of Apple's can be used here; try --device cpu, or --device auto")
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(asked)


def multiplies_bf16(device: torch.device) -> bool:
    """Whether matrix products are faster in bf16: CPUs with AMX or AVX-512 BF16, GPUs since Ampere."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def fast_allocation() -> None:
    """Keeps freed memory in the process (glibc): returning it after each tensor of a step costs a third of the time."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


@contextmanager
def computing(threads: int | None, say: Callable[[str], None]) -> Iterator[None]:
    """Computes with so many threads, or with those that the machine has free; says so where these are fewer.

    Threads of torch wait for each other after each operation, so one that has to share its core holds up all: beside
    one busy process two threads are several times slower than one (benchmarks/shared.py).
    """
    usual = torch.get_num_threads()
    settled = threads or (usual if usual == 1 or "OMP_NUM_THREADS" in os.environ else max(1, min(usual, free_cores())))
    if threads is None and settled < usual:
        more = f"'train --threads {usual}' takes all"
        say(f"computing with {settled} of {usual} threads, as others keep the rest busy; {more}")
    torch.set_num_threads(settled)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def free_cores() -> int:
    """The cores that this process may use and nobody else does, watched for a moment; all where that cannot be seen."""
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    found = [float(len(cores))]
    with suppress(OSError, ValueError, IndexError):  # of a container: microseconds in a period
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        found.append(int(quota) / int(period))
    with suppress(OSError, ValueError, ZeroDivisionError):
        before = idle_and_all(cores)
        time.sleep(LOOK)
        idle, whole = (b - a for a, b in zip(before, idle_and_all(cores), strict=True))
        found.append(len(cores) * idle / whole)
    return round(min(found))


def idle_and_all(cores: set[int]) -> tuple[int, int]:
    """Ticks that these cores were idle, and all, since the system started (Linux)."""
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines() if line.startswith("cpu")]
    own = [[int(n) for n in fields[1:9]] for fields in lines if fields[0] in {f"cpu{n}" for n in cores}]
    return sum(ticks[3] + ticks[4] for ticks in own), sum(map(sum, own))


def free_memory() -> int:
    """Bytes that can be used without hurting others: what the system calls available, or less in a container."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")))
    with suppress(OSError, ValueError):  # a limit of "max" is no number
        group = Path("/sys/fs/cgroup")
        found.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(0, min(found))


def machine() -> dict[str, object]:
    """What a number was made with: versions, processor, threads."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return {
        "verydeep": verydeep.__version__, "torch": torch.__version__, "pillow": PIL.__version__,
        "python": platform.python_version(), "system": platform.platform(),
        "processor": capabilities.get("cpu_name", platform.processor()),
        "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "bf16": multiplies_bf16(device_for("auto")),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }  # fmt: skip


def out_of_memory(e: BaseException) -> bool:
    """Whether an error says that memory ran out, on the GPU or on the CPU, where torch has no class for it."""
    return isinstance(e, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(e)
