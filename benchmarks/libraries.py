"""What joblib, Dask, Parsl and others make of fragment calculations, each used as its own documentation shows it.

They get QCSchema objects, as whoever parallelises QCManyBody by hand would hand them over: an `AtomicInput` out and an
`AtomicResult` back for each calculation. mbexec needs none of these libraries.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import loky

try:
    import joblib
    import parsl
    from dask.distributed import Client, LocalCluster
    from parsl.config import Config
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider
except ImportError as missing:
    sys.exit(f"This compares with joblib, Dask and Parsl ({missing}); pip install joblib distributed parsl")

__all__ = ["compute", "libraries"]

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
def _dask(workers: int) -> Iterator[Contender]:
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        # pure=False: a calculation that was done before is done again
        yield lambda requests: _counted(client.gather(client.map(compute, list(requests), pure=False)))


@contextmanager
def _parsl(workers: int) -> Iterator[Contender]:
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
            app = parsl.python_app(compute)
            yield lambda requests: _counted([f.result() for f in [app(request) for request in requests]])
        parsl.clear()


@contextmanager
def libraries(workers: int) -> Iterator[dict[str, Contender]]:
    """Functions, by name, that run requests and count the answers."""
    with ExitStack() as stack:
        forked = stack.enter_context(ProcessPoolExecutor(workers, get_context("fork")))
        plain = stack.enter_context(loky.ProcessPoolExecutor(workers, timeout=600))
        parallel = stack.enter_context(joblib.Parallel(n_jobs=workers))
        yield {
            "ProcessPoolExecutor": _one_by_one(forked),
            "loky": _one_by_one(plain),
            "joblib": lambda requests: _counted(parallel(joblib.delayed(compute)(r) for r in requests)),
            "Dask": stack.enter_context(_dask(workers)),
            "Parsl": stack.enter_context(_parsl(workers)),
        }
