"""How many threads numerical libraries use while a run lasts."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

from mbexec.core.errors import ConfigError

__all__ = ["limited_threads"]

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Programs built with Open MPI, such as Debian's NWChem, start a daemon each, and sometimes fail in it where several
# begin and end at once, unless they are told that they are alone. Those that mpiexec starts don't look at this.
_ALONE = "OMPI_MCA_ess_singleton_isolated"
_lock = threading.Lock()


class _Limits:
    """The thread limits in force in this process, how many runs asked for them, and what was there before."""

    runs = 0
    ncores = 0
    before: ClassVar[dict[str, str | None]] = {}


@contextmanager
def limited_threads(ncores: int) -> Iterator[None]:
    """Let numerical libraries of child processes, and those loaded here later, use `ncores` threads; undone after.

    Set once for a run: changing the environment for each task, as QCEngine does, is not safe between threads.
    Programs that compute in this process with libraries already loaded limit those themselves. Child processes that
    use Open MPI are told, unless the environment says otherwise, that each of them is alone.

    Raises
    ------
    ConfigError
        If another run in this process uses another number.
    """
    with _lock:
        if _Limits.runs and _Limits.ncores != ncores:
            raise ConfigError(
                f"task.ncores = {ncores}, but another run in this process uses {_Limits.ncores}; "
                "wait for it, or use the same number."
            )
        if not _Limits.runs:
            _Limits.ncores = ncores
            _Limits.before = {name: os.environ.get(name) for name in (*_THREAD_VARIABLES, _ALONE)}
            os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(ncores)))
            os.environ.setdefault(_ALONE, "1")
        _Limits.runs += 1
    try:
        yield
    finally:
        with _lock:
            _Limits.runs -= 1
            if not _Limits.runs:
                _restore(_Limits.before)


def _restore(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
