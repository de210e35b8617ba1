"""Trains in child processes that are stopped or killed. Not a test, a tool of one.

python killing.py DATA RUN sigterm: prints the exit statuses of the interrupted and of the resumed run.
python killing.py DATA RUN kill SEED N [field=text]: kills N times, every second while the state is saved, and prints
(kills inside a save, other kills, exit status of each run that came to its end: RUN, RUN-1, ...).

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
from verydeep.train import loop, prepare  # noqa: F401  imported once, before the forks


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


def kill_at_call(n, before, inside):
    """The process dies at its n-th flush or rename, before or after it is done; `inside`: those of states only."""
    calls, saving, save, fsync, replace = [0], [not inside], loop.save, os.fsync, Path.replace

    def dying(real):
        def call(*given):
            calls[0] += saving[0]
            if saving[0] and calls[0] == n and before:
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*given)
            if saving[0] and calls[0] == n:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return call

    def saving_save(*given):
        saving[0] = True
        save(*given)
        saving[0] = not inside

    loop.save, os.fsync, Path.replace = saving_save, dying(fsync), dying(replace)


def killed(data, run, rng, kind, changes):
    """The exit status of a run that is to be killed inside a save, at any write, or at any moment."""
    if kind == "moment":
        pid = child(data, run, **changes)
        time.sleep(rng.uniform(0.01, 0.3))
        os.kill(pid, signal.SIGKILL)
    else:
        at, before = (
            rng.choice((8, rng.randint(1, 14))),
            rng.random() < 0.5,
        )  # a state of new weights is switched over at call 8
        pid = child(data, run, lambda: kill_at_call(at, before, kind == "save"), **changes)
    return status(pid)


def main(data, run, how, seed=0, n=0, *changes):
    torch.set_num_threads(1)
    run, seed, n, rng = Path(run), int(seed), int(n), random.Random(int(seed))
    changes = dict(change.split("=") for change in changes)
    if how == "sigterm":
        pid = child(data, run, epochs=6)
        while not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text().count("\n") > 9):
            time.sleep(0.01)
        os.kill(pid, signal.SIGTERM)
        began = time.perf_counter()
        ends = [status(pid)]
        assert time.perf_counter() - began < 5
        print(*ends, status(child(data, run, epochs=6)))
    elif how == "kill":
        kills, ends, now = [], [], run
        while len(kills) < n:
            kind = ("save", "moment", "save", "write")[(len(kills) + seed) % 4]
            end = killed(data, now, rng, kind, changes)
            if end == -signal.SIGKILL:
                kills.append(kind)
            else:  # it came to its end first: the next one dies
                ends.append(end)
                assert end == 0, end
                now = run.with_name(f"{run.name}-{len(ends)}")
        ends.append(status(child(data, now, **changes)))
        print(kills.count("save"), len(kills) - kills.count("save"), *ends)


if __name__ == "__main__":
    main(*sys.argv[1:])
