"""Trains in child processes that are stopped or killed: python killing.py DATA RUN sigterm | kill SEED N. Not a test, a tool of one.

One process imports torch; its children are forked from it, so that a killing costs a fraction of a second.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import tiny
import torch

from verydeep.errors import VeryDeepError
from verydeep.train import prepare  # noqa: F401  imported once, before the forks


def child(data, run, before=lambda: None, **changes):
    pid = os.fork()
    if pid:
        return pid
    try:
        before()
        tiny.go(data, run, **changes)
        os._exit(0)
    except VeryDeepError as e:
        print(repr(e), file=sys.stderr)
        os._exit(e.exit_code)
    except BaseException as e:
        print(repr(e), file=sys.stderr, flush=True)
        os._exit(99)


def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_at_call(n):
    """The process dies at its n-th flush or rename, every second time after it was done."""
    calls, fsync, replace = [0], os.fsync, Path.replace

    def dying(real):
        def call(*given):
            calls[0] += 1
            if calls[0] == n and n % 2:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*given)
            if calls[0] == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    os.fsync, Path.replace = dying(fsync), dying(replace)


def main(data, run, how, seed=0, n=0):
    torch.set_num_threads(1)
    run, rng = Path(run), random.Random(int(seed))
    ends = []
    if how == "sigterm":
        pid = child(data, run, epochs=6)
        while not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text().count("\n") > 9):
            time.sleep(0.01)
        os.kill(pid, signal.SIGTERM)
        began = time.perf_counter()
        ends.append(status(pid))
        assert time.perf_counter() - began < 5
        ends.append(status(child(data, run, epochs=6)))
    elif how == "kill":
        for i in range(int(n)):
            inside = i % 2 == 0
            at = rng.randint(1, 30)
            pid = child(data, run, (lambda at=at: kill_at_call(at)) if inside else lambda: None)
            if not inside:
                time.sleep(rng.uniform(0.02, 0.45))
                os.kill(pid, signal.SIGKILL)
            ends.append(status(pid))
        ends.append(status(child(data, run)))
    print(*ends)


if __name__ == "__main__":
    main(*sys.argv[1:])
