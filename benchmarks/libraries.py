"""What joblib, Dask, Parsl and others make of fragment calculations, each used as its own documentation shows it.

They get QCSchema objects, as whoever parallelises QCManyBody by hand would hand them over: an `AtomicInput` out and an
`AtomicResult` back for each calculation. Each context gives a function that runs requests and counts the answers.
mbexec needs none of these libraries.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import loky

from mbexec import Task, TaskResult, run_chunk

try:
    import joblib
    import parsl
    from dask.distributed import Client, LocalCluster
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider
except ImportError as missing:
    sys.exit(f"This compares with joblib, Dask and Parsl ({missing}); pip install joblib distributed parsl")

__all__ = ["LIBRARIES", "by_itself", "compute", "parsl_apps"]

Contender = Callable[[Iterable[Any]], int]


def compute(request: Any) -> Any:
    """Run the model potential: a QCSchema object in, another one out."""
    from mbexec.core.potential import ModelPotential

    return ModelPotential().compute(request, None)


def _counted(answers: list[Any]) -> int:
    assert all(answer.success for answer in answers)
    return len(answers)


def _one_by_one(pool: Executor) -> Contender:
    return lambda requests: _counted([f.result() for f in [pool.submit(compute, request) for request in requests]])


@contextmanager
def forked_pool(workers: int) -> Iterator[Contender]:
    """The standard library's processes."""
    with ProcessPoolExecutor(workers, get_context("fork")) as pool:
        yield _one_by_one(pool)


def by_itself(key: str, blob: bytes | None, task: Task) -> TaskResult:
    """What a library calls for a fragment calculation: the worker keeps the programs after the first time."""
    (result,) = run_chunk(key, [task], blob)  # type: ignore[misc]
    return result


@contextmanager
def loky_pool(workers: int) -> Iterator[Contender]:
    """The processes of loky, by itself."""
    with loky.ProcessPoolExecutor(workers, timeout=600) as pool:
        yield _one_by_one(pool)


@contextmanager
def joblib_parallel(workers: int) -> Iterator[Contender]:
    """The same, in batches that joblib chooses."""
    with joblib.Parallel(n_jobs=workers) as parallel:
        yield lambda requests: _counted(parallel(joblib.delayed(compute)(request) for request in requests))


@contextmanager
def dask_cluster(workers: int) -> Iterator[Contender]:
    """Dask on worker processes of this machine."""
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        # pure=False: a calculation that was done before is done again
        yield lambda requests: _counted(client.gather(client.map(compute, list(requests), pure=False)))


@contextmanager
def parsl_apps(workers: int) -> Iterator[Callable[..., Any]]:
    """Parsl's HighThroughputExecutor on this machine: what makes apps of functions."""
    here = Path(__file__).parent
    start = f"export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={here}"
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where Parsl looks for its scripts
    provider = LocalProvider(init_blocks=1, max_blocks=1, worker_init=start)
    with tempfile.TemporaryDirectory() as folder:
        executor = HighThroughputExecutor(
            label="local", max_workers_per_node=workers, provider=provider, address="127.0.0.1"
        )
        config = Config(executors=[executor], run_dir=folder, initialize_logging=False, strategy="none")
        with parsl.load(config):
            yield parsl.python_app
        parsl.clear()


@contextmanager
def parsl_executor(workers: int) -> Iterator[Contender]:
    """Parsl, a call for each request."""
    with parsl_apps(workers) as made:
        app = made(compute)
        yield lambda requests: _counted([f.result() for f in [app(request) for request in requests]])


LIBRARIES = {
    "ProcessPoolExecutor, objects": forked_pool,
    "loky, objects": loky_pool,
    "joblib, objects": joblib_parallel,
    "Dask, objects": dask_cluster,
    "Parsl, objects": parsl_executor,
}
