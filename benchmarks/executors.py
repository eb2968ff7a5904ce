"""What executors cost: time to the first result of a cold start, and small fragment calculations per second.

python benchmarks/executors.py            # prints a table; needs joblib, Dask and Parsl as well
python benchmarks/executors.py --check    # fails where a ratio is out of its wide bounds

Contenders run several times over, and the best of each counts: other work on the machine can only slow them down. The
payload is the same for all: the model potential on up to three argon atoms, which takes next to no time of its own, so
that what is left is the cost of molecules, QCSchema and travel. Where it says "objects", QCSchema objects travel, which
the parent has made beforehand, off the clock; elsewhere workers make their own. "Objects from QCManyBody" are made on
the clock, as QCManyBody cuts out the molecules.
"""

from __future__ import annotations

import argparse
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from typing import Any

import numpy as np
from libraries import LIBRARIES, loky_pool
from mbexec_loky import Loky

import mbexec
from mbexec import Level, Plan, Task, TaskResult, Work
from mbexec.core.engine import read_job
from mbexec.core.prepare import context_of
from mbexec.plugins.threads import Threads
from mbexec.processes import packed

WORKERS = 2
CHUNKS = (1, 16, 64)
REPEATS = 3
FROM_QCMANYBODY = "loky, objects from QCManyBody"
COLD = """
import sys, time
import mbexec
import mbexec.core.loop
taken = mbexec.core.loop.Run._taken
def noted(*given):
    if not first:
        first.append(time.perf_counter() - start)
    return taken(*given)
first = []
mbexec.core.loop.Run._taken = noted
start = time.perf_counter()
mbexec.run({job!r}, executor=sys.argv[1], workers=2)
print(first[0])
"""


def job(nfr: int, max_nbody: int, program: str = "model-potential") -> dict[str, Any]:
    """Argon atoms on a lattice, one a fragment, on the model potential."""
    places = 3.8 * np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:nfr]
    return {
        "molecule": {"geometry": "\n--\n".join(f"Ar {x} {y} {z}" for x, y, z in places)},
        "mbe": {"bsse_type": "nocp", "max_nbody": max_nbody},
        "program": {"program": program, "method": "lj"},
        "task": {"ncores": 1, "memory": 1},
    }


def planned() -> tuple[Plan, Work]:
    """More than 5,000 small fragments, and how to run one."""
    spec, config = read_job(job(32, 3), {})
    plan = mbexec.plan(spec)
    work = Work(context_of(plan, config), WORKERS)
    work.prepare()
    return plan, work


class Bare:
    """What the pools of other libraries call: work that each process has once."""

    work: Work | None = None

    @classmethod
    def adopt(cls, blob: bytes) -> None:
        """Initialise a process."""
        cls.work = Work(pickle.loads(blob), 1)
        cls.work.prepare()

    @classmethod
    def run(cls, tasks: list[Task]) -> list[TaskResult]:
        """Run a chunk."""
        assert cls.work is not None
        return [cls.work(task) for task in tasks]


def chunks(tasks: Iterable[Task], size: int) -> list[list[Task]]:
    """Lists of at most so many."""
    left = iter(tasks)
    return list(iter(lambda: list(islice(left, size)), []))


def made_by_qcmanybody(specification: Any) -> Iterator[Any]:
    """Inputs of 696 calculations, their molecules cut out by QCManyBody."""
    from qcelemental.models.v2 import AtomicInput
    from qcmanybody import ManyBodyCore

    spec, _ = read_job(job(16, 3), {})
    levels = dict.fromkeys((1, 2, 3), "(auto)")
    core = ManyBodyCore(
        spec.molecule, ["nocp"], levels, return_total_data=False, supersystem_ie_only=False, embedding_charges={}
    )
    return (AtomicInput(molecule=made, specification=specification) for _, _, made in core.iterate_molecules())


def best(contenders: dict[str, Callable[[], int]]) -> dict[str, float]:
    """The most tasks per second that each reached, in turns."""
    found = dict.fromkeys(contenders, 0.0)
    for name, run in [*contenders.items()] * (REPEATS + 1):  # the first turn warms up
        start = time.perf_counter()
        done = run()
        found[name] = max(found[name], done / (time.perf_counter() - start))
    return found


def throughput() -> list[dict[str, float]]:
    """Tasks per second by name, of contests in which mbexec-loky takes part each time."""
    from qcelemental.models.v2 import AtomicInput

    plan, work = planned()
    specification = work.context.specifications["(auto)"]
    few = [plan[index] for index in range(len(plan) - 1000, len(plan))]
    requests = [
        AtomicInput(molecule=work.context.cluster.fragment(task.frag, task.bas), specification=specification)
        for task in few
    ]

    def submitted(executor: Any) -> int:
        level = Level(plan, np.arange(len(plan))[::-1], threading.Event().is_set)
        return sum(1 for _ in executor.submit_level(level=level, work=work))

    def pooled(pool: Any, size: int) -> int:
        return sum(map(len, pool.map(Bare.run, chunks(plan, size))))

    def threaded() -> int:
        with ThreadPoolExecutor(WORKERS) as pool:
            return sum(1 for _ in pool.map(work, list(plan)))

    ours = {"mbexec-loky": partial(submitted, Loky())}
    context = get_context("fork")
    with ProcessPoolExecutor(WORKERS, context, Bare.adopt, (work.blob,)) as forked:
        contenders: dict[str, Callable[[], int]] = {
            "bare loop": lambda: sum(1 for task in plan if work(task)),
            "ThreadPoolExecutor": threaded,
            "threads": partial(submitted, Threads()),
            **{f"ProcessPoolExecutor, chunks of {n}": partial(pooled, forked, n) for n in CHUNKS},
        }
        contests = [best(contenders | ours)]
    for name, library in LIBRARIES.items():  # one after the other: the processes of some are never idle
        with library(WORKERS) as run:
            contests.append(best({name: partial(run, requests), **ours}))
    with loky_pool(WORKERS) as run:
        contests.append(best({FROM_QCMANYBODY: lambda: run(made_by_qcmanybody(specification)), **ours}))
    return contests


def cold_start() -> dict[str, float]:
    """Seconds from the call of mbexec.run in a fresh interpreter to its first result, by executor."""
    script = COLD.format(job=job(16, 2))
    found: dict[str, float] = {}
    for executor in ["serial", "threads", "loky"] * REPEATS:
        done = subprocess.run([sys.executable, "-c", script, executor], capture_output=True, text=True, check=True)
        found[executor] = min(found.get(executor, np.inf), float(done.stdout))
    return found


def travel() -> tuple[float, float]:
    """Bytes of a task and of a result as mbexec-loky sends them, one of many."""
    plan, work = planned()
    sent = [(task.index, task.mc, task.frag, task.bas) for task in map(plan.__getitem__, range(1000, 1064))]
    return len(pickle.dumps(sent)) / 64, float(len(packed(work(plan[1000]))))


def main() -> int:
    """Print the tables; with --check, say whether every ratio is within its bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a ratio is out of bounds")
    given = parser.parse_args()
    contests = throughput()
    for contest in contests:
        for name, rate in contest.items():
            print(f"{name:35} {rate:10,.0f} tasks/s {1e6 / rate:8.0f} us/task")
    times = {name: contest["mbexec-loky"] / rate for contest in contests for name, rate in contest.items()}
    cold = cold_start()
    for name, seconds in cold.items():
        print(f"{name:35} {seconds:10.2f} s from a cold start to the first result")
    print("bytes of a task and of a result as mbexec-loky sends them: {:.0f}, {:.0f}".format(*travel()))
    good = True
    for name, ratio, low in [
        (
            "mbexec-loky / best ProcessPoolExecutor",
            min(times[f"ProcessPoolExecutor, chunks of {n}"] for n in CHUNKS),
            0.5,
        ),
        ("mbexec-loky / bare loop", times["bare loop"], 0.5),
        ("threads / ThreadPoolExecutor", times["ThreadPoolExecutor"] / times["threads"], 0.5),
        *((f"mbexec-loky / {name}", times[name], 2.0) for name in (*LIBRARIES, FROM_QCMANYBODY)),
        ("cold start, serial / loky", cold["serial"] / cold["loky"], 0.2),
    ]:
        good &= ratio >= low
        print(f"{name}: {ratio:.2f}  (at least {low})")
    return 0 if good or not given.check else 1


if __name__ == "__main__":
    sys.exit(main())
