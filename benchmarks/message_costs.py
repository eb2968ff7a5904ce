"""What a message costs: processor time of the run and of the broker, and its travel; for `dispatch.py --measure`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from dask.distributed import Client
from mbexec_parsl import Parsl, flow, pool
from mbexec_parsl.sites import of_table

import mbexec

__all__ = ["measure"]

MANY = 3000


@contextmanager
def parsl_pool(folder: str) -> Iterator[tuple[Any, psutil.Process]]:
    """An executor of Parsl's with two workers, and its interchange."""
    mine = pool.Pool(of_table(Parsl(workers_per_node=2), 2, 1), Path(folder), True)
    mine.start()
    try:
        while mine.workers() < 2:
            time.sleep(0.2)
        htex = mine.site.htex
        [future.result() for future in [htex.submit(len, {}, "") for _ in range(20)]]
        yield htex, psutil.Process(htex.interchange_proc.pid)
    finally:
        mine.stop()


@contextmanager
def dask_cluster(folder: str) -> Iterator[tuple[Any, psutil.Process]]:
    """A client of Dask's with two workers, and its scheduler."""
    file = f"{folder}/scheduler.json"
    scheduler = psutil.Popen([sys.executable, "-m", "dask", "scheduler", "--host", "127.0.0.1", "--port", "0",
                              "--no-dashboard", "--scheduler-file", file], stderr=subprocess.DEVNULL)  # fmt: skip
    words = ["--nworkers", "2", "--nthreads", "1", "--no-dashboard", "--scheduler-file", file]
    worker = psutil.Popen([sys.executable, "-m", "dask", "worker", *words], stderr=subprocess.DEVNULL, cwd=folder)
    try:
        with Client(scheduler_file=file) as client:
            client.wait_for_workers(2)
            yield client, scheduler
    finally:
        for process in (*worker.children(True), worker, scheduler):
            process.kill()


def spent(process: psutil.Process) -> float:
    """Seconds of processor time."""
    times = process.cpu_times()
    return float(times.user + times.system)


def costs(work: Callable[[int], object], broker: psutil.Process, count: int) -> tuple[float, float]:
    """Seconds of this process and of the broker for each of `count` messages."""
    own = psutil.Process()
    before = spent(own), spent(broker)
    work(count)
    return (spent(own) - before[0]) / count, (spent(broker) - before[1]) / count


def by_parsl(htex: Any, count: int) -> None:
    """Send so many messages, one after the other, and wait for the answers."""
    [future.result() for future in [htex.submit(len, {}, "mbexec") for _ in range(count)]]


def by_dask(client: Client, count: int) -> None:
    """The same with Dask."""
    client.gather(client.map(len, ["mbexec"] * count, pure=False))


def travel(work: Callable[[int], object]) -> float:
    """Seconds that one message takes there and back; whoever else works here can only add to it."""
    times = []
    for _ in range(200):
        start = time.perf_counter()
        work(1)
        times.append(time.perf_counter() - start)
    return min(times)


def measure() -> None:
    """Print what goes into SYSTEMS of `dispatch.py`."""
    for name, start, call in (("Parsl", parsl_pool, by_parsl), ("Dask", dask_cluster, by_dask)):
        with tempfile.TemporaryDirectory() as folder, start(folder) as (client, broker):
            run = partial(call, client)
            print(f"{name}: run %.6f s, broker %.6f s" % costs(run, broker, MANY), f"travel {travel(run):.4f} s")
    _of_mbexec()


def _of_mbexec(nfr: int = 150) -> None:
    """Two runs, one with as many messages as fragments and one with few, tell messages and fragments apart."""
    geometry = "\n--\n".join(f"Ar {3.9 * i:.3f} {0.7 * (i % 3):.3f} {0.4 * (i % 5):.3f}" for i in range(nfr))
    job = {
        "molecule": {"geometry": geometry},
        "mbe": {"bsse_type": "nocp", "max_nbody": 2},
        "program": {"program": "model-potential", "method": "lj"},
    }
    total, sent, found = nfr * (nfr + 1) // 2, [0], []
    send = flow.Flow._send

    def counted(*given: Any, **more: Any) -> None:
        sent[0] += 1
        send(*given, **more)

    flow.Flow._send = counted  # type: ignore[method-assign]
    for chunk_time in (1e-6, 0.2):
        settings = {"executor": "parsl", "workers": 2, "plugin.parsl.chunk_time": chunk_time}
        mbexec.run(job, **settings)
        sent[0] = 0
        interchange = psutil.Process(pool._Kept.pool.site.htex.interchange_proc.pid)
        mine, theirs = costs(lambda _, given=settings: mbexec.run(job, **given), interchange, 1)
        found.append((sent[0], mine, theirs))
    (many, slow, busy), (few, quick, idle) = found
    run = (slow - quick) / (many - few)
    print(f"mbexec-parsl: run {run:.6f} s, each {(quick - few * run) / total:.6f} s,", end=" ")
    print(f"broker {(busy - idle) / (many - few):.6f} s; {many} and {few} messages")
