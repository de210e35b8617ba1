"""python killing.py DATA RUN SEED N: kills N trainings in child processes. Not a test, a tool of one.

Every second dies while the state is saved. Prints (kills inside a save, other kills, exit status of each run that came
to its end: RUN, RUN-1, ...). The children are forked from one process, so that a killing costs a fraction of a second.
"""

import os
import random
import signal
import sys
import time
from pathlib import Path

import tiny
import torch
from test_faults import Faults

from verydeep.train import loop


def child(data, run, before=lambda: None):
    if pid := os.fork():
        return pid
    try:
        before()
        tiny.go(data, run)
        os._exit(0)
    except BaseException as e:
        print(repr(e), file=sys.stderr, flush=True)
        os._exit(99)


def status(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_at_call(run, at, late, inside):
    """The process dies at its n-th flush or rename, before or after it is done; `inside`: of those of states only."""
    deaths, save = Faults(run, at, None, late, ("fsync", "replace")), loop.save

    def dying_save(*given):
        with deaths:
            save(*given)

    if inside:
        loop.save = dying_save
    else:
        deaths.__enter__()


def killed(data, run, rng, kind):
    """The exit status of a run that is to be killed inside a save, at any write, or at any moment."""
    if kind == "moment":
        pid = child(data, run)
        time.sleep(rng.uniform(0.01, 0.3))
        os.kill(pid, signal.SIGKILL)
        return status(pid)
    at, late = rng.choice((8, rng.randint(1, 14))), rng.random() >= 0.5  # at 8 a state of new weights is switched over
    return status(child(data, run, lambda: kill_at_call(run, at, late, kind == "save")))


def main(data, run, seed, n):
    torch.set_num_threads(1)
    rng, kills, ends, now = random.Random(seed), [], [], run
    while len(kills) < n:
        kind = ("save", "moment", "save", "write")[(len(kills) + seed) % 4]
        end = killed(data, now, rng, kind)
        if end == -signal.SIGKILL:
            kills.append(kind)
        else:  # it came to its end first: the next one dies
            ends.append(end)
            assert end == 0, end
            now = run.with_name(f"{run.name}-{len(ends)}")
    ends.append(status(child(data, now)))
    print(kills.count("save"), len(kills) - kills.count("save"), *ends)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
