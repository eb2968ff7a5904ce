"""How many threads a calculation uses: OpenMP in PySCF, and the BLAS that numpy calls."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Any

from pyscf import lib
from threadpoolctl import OpenBLASController, ThreadpoolController

__all__ = ["thread_limits"]


@contextlib.contextmanager
def thread_limits(ncores: int) -> Iterator[None]:
    """Use ``ncores`` threads inside the block, in PySCF and in BLAS.

    Parameters
    ----------
    ncores : int
        OpenMP's number belongs to the calling thread. BLAS has one number for the whole process: where several
        threads calculate at once, the first to come sets it and the last to leave puts the old one back.
    """
    with _blas(ncores), lib.with_omp_threads(ncores):
        yield


class _BlasLimit:
    """BLAS held at a number of threads while any calculation of the process runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running = 0
        self._limit: Any = None

    @contextlib.contextmanager
    def __call__(self, ncores: int) -> Iterator[None]:
        self._enter(ncores)
        try:
            yield
        finally:
            self._leave()

    def _enter(self, ncores: int) -> None:
        with self._lock:
            if self._running == 0:
                with _any_thread():
                    self._limit = _libraries().limit(limits=ncores, user_api="blas")
            self._running += 1

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0:
                with _any_thread():
                    self._limit.restore_original_limits()


@contextlib.contextmanager
def _any_thread() -> Iterator[None]:
    """Let this thread set the number, and any thread after it.

    Since version 3.8 threadpoolctl heeds only the first thread that sets a limit, and ignores the others without a
    word; but the last calculation to leave is seldom in the thread of the first that came.
    """
    release = getattr(OpenBLASController, "clear_controlling_thread", lambda force: None)
    release(force=True)
    try:
        yield
    finally:
        release(force=True)


@functools.cache
def _libraries() -> Any:
    """The BLAS libraries of the process; looking for them takes 10 ms, so it is done once."""
    return ThreadpoolController()


_blas = _BlasLimit()
