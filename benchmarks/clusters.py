"""What executors for clusters cost, against the library below each of them by itself, on as many worker processes.

python benchmarks/clusters.py            # prints a table
python benchmarks/clusters.py --check    # fails where a ratio is out of its bounds, or memory grows

The functions are the same on both sides: mbexec's own for a task, in workers that have the programs. By itself, a
library is given a call for each fragment calculation, as its documentation shows. "Tiny" is the model potential on
three argon atoms, 0.1 ms; "short" sleeps 20 ms besides. The best of some turns counts. Processor time is that of this
process, where client and, for Dask, the scheduler run.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import psutil
from distributed import Client, LocalCluster
from libraries import by_itself, parsl_apps
from mbexec_dask.executor import Dask
from mbexec_parsl import Parsl

import mbexec
from mbexec import Level, Plan, TaskResult, Work
from mbexec.core.engine import read_job
from mbexec.core.prepare import context_of

WORKERS = 2
TURNS = 3
FIRST = 100  # calls that bring what is common, so that each of the workers gets one of them
MANY = 85  # atoms: 102,425 calculations
GROWTH = 20.0  # MiB; the results alone would take 55, were they kept

Contender = Callable[[Plan, Work, int], Iterator[TaskResult]]


def planned(nfr: int, sleep: float = 0.0) -> tuple[Plan, Work]:
    """Argon atoms on a lattice to three bodies, each calculation after a rest, and how to run one."""
    places = 3.8 * np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:nfr]
    tables = {
        "molecule": {"geometry": "\n--\n".join(f"Ar {x} {y} {z}" for x, y, z in places)},
        "mbe": {"bsse_type": "nocp", "max_nbody": 3},
        "program": {"program": "toy-potential", "method": "lj", "keywords": {"sleep": sleep} if sleep else {}},
        "task": {"ncores": 1, "memory": 1},
    }
    spec, config = read_job(tables, {})
    plan = mbexec.plan(spec)
    work = Work(context_of(plan, config), WORKERS)
    work.prepare()
    return plan, work


def submitted(executor: Any, plan: Plan, work: Work, count: int) -> Iterator[TaskResult]:
    """The last tasks of a plan, by an executor of mbexec."""
    level = Level(plan, np.arange(len(plan))[::-1][:count], threading.Event().is_set)
    for result in executor.submit_level(level=level, work=work):
        level.done(result.index)  # as the engine does, or the level would hold on to every task
        yield result


def bare_dask(client: Client, plan: Plan, work: Work, count: int) -> Iterator[TaskResult]:
    """A call for each calculation; what is common is scattered."""
    blob = client.scatter(work.blob, broadcast=True)
    tasks = [plan[len(plan) - 1 - place] for place in range(count)]
    calls = client.map(partial(by_itself, work.key), [blob] * count, tasks, pure=False)
    yield from client.gather(calls)


@contextmanager
def dask() -> Iterator[dict[str, Contender]]:
    """Dask's own worker processes on this machine."""
    with (
        LocalCluster(n_workers=WORKERS, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
        Dask() as here,
    ):
        yield {
            "Dask by itself": partial(bare_dask, client),
            "mbexec-dask, same workers": partial(submitted, Dask(client=client)),
            "mbexec-dask, in this process": partial(submitted, here),
        }


def bare_parsl(app: Callable[..., Any], plan: Plan, work: Work, count: int) -> Iterator[TaskResult]:
    """A call for each calculation; the first calls bring workers what is common."""
    tasks = [plan[len(plan) - 1 - place] for place in range(count)]
    calls = [app(work.key, work.blob if place < FIRST else None, task) for place, task in enumerate(tasks)]
    yield from (call.result() for call in calls)


@contextmanager
def parsl() -> Iterator[dict[str, Contender]]:
    """Parsl's worker processes on this machine, as many for each."""
    with parsl_apps(WORKERS) as made:
        yield {
            "Parsl by itself": partial(bare_parsl, made(by_itself)),
            "mbexec-parsl": partial(submitted, Parsl()),
        }


LIBRARIES = {"Dask by itself": dask, "Parsl by itself": parsl}


def timed(run: Contender, plan: Plan, work: Work, count: int) -> tuple[float, float]:
    """Seconds for each calculation: wall time, and processor time of this process."""
    start, used = time.perf_counter(), time.process_time()
    done = sum(result.error is None for result in run(plan, work, count))
    assert done == count
    return (time.perf_counter() - start) / count, (time.process_time() - used) / count


def contest(contenders: dict[str, Contender], plan: Plan, work: Work, count: int) -> dict[str, tuple[float, float]]:
    """The least that each took, in turns, so that what else the machine does is shared among them."""
    found: dict[str, tuple[float, float]] = {}
    for name, run in [*contenders.items()] * (TURNS + 1):  # the first turn warms up
        found[name] = min(found.get(name, (np.inf, np.inf)), timed(run, plan, work, count))
    return found


def growth(run: Contender, plan: Plan, work: Work) -> float:
    """MiB that this process holds more after all tasks of a plan than after a fifth of them."""
    own, early = psutil.Process(), 0
    for place, _ in enumerate(run(plan, work, len(plan))):
        if place == len(plan) // 5:
            early = own.memory_info().rss
    return float(own.memory_info().rss - early) / 2**20


def main() -> int:
    """Print the tables; with --check, say whether everything is within its bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if something is out of bounds")
    given = parser.parse_args()
    good = True
    sizes = {"tiny": (*planned(32), 2000, 1.0), "short": (*planned(32, sleep=0.02), 200, 1.2)}
    many = planned(MANY)
    assert sum(1 for _ in many[0]) == len(
        many[0]
    )  # a plan keeps the sets that it has made, which are counted as its own
    for bare, library in LIBRARIES.items():
        with library() as contenders:
            for size, (plan, work, count, most) in sizes.items():
                found = contest(contenders, plan, work, count)
                for name, (wall, own) in found.items():
                    ratio = wall / found[bare][0]
                    good &= ratio <= most or name == bare
                    print(
                        f"{size:6} {name:30} {1 / wall:8,.0f} /s {1e6 * wall:8,.0f} us, {1e6 * own:6,.0f} us here; "
                        f"{ratio:.2f} of the time (at most {most})",
                        flush=True,
                    )
            for name in list(contenders)[1:]:
                start, more = time.perf_counter(), growth(contenders[name], *many)
                good &= more <= GROWTH
                rate = len(many[0]) / (time.perf_counter() - start)
                print(
                    f"many   {name:30} {rate:8,.0f} /s; memory grew by {more:.1f} MiB from {len(many[0]) // 5:,} to "
                    f"{len(many[0]):,} (at most {GROWTH:g})",
                    flush=True,
                )
    return 0 if good or not given.check else 1


if __name__ == "__main__":
    sys.exit(main())
