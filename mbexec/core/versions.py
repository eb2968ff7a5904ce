"""The versions of what decides numbers, here and in workers of another environment."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from mbexec.core.errors import ExecutorError
from mbexec.core.harness import is_engine
from mbexec.core.work import Work, loaded, run_chunk

if TYPE_CHECKING:
    from mbexec.core.program import Programs

__all__ = ["check_versions", "worker_versions"]

_ALWAYS = ("mbexec", "numpy", "qcelemental")
_PROBLEM = "problem"


def worker_versions(key: str, blob: bytes, distributions: Iterable[str] = ()) -> dict[str, str]:
    """The versions that a worker has; the function to send there before the first tasks.

    It loads the context, so that :func:`run_chunk` knows it afterwards. What it returns is plain text that any version
    can read.

    Parameters
    ----------
    key, blob
        Of the work.
    distributions
        Those whose versions count besides: the executor's own, and what it runs on.

    Returns
    -------
    dict
        Versions by name, for :func:`check_versions`.
    """
    found = _installed(distributions)
    try:
        run_chunk(key, [], blob)
        return {**found, **_of_programs(loaded(key))}
    except Exception as error:
        return {**found, _PROBLEM: f"{type(error).__name__}: {error}"}


def check_versions(work: Work, there: Mapping[str, str], worker: str) -> None:
    """Refuse a worker that has other versions than this process.

    Parameters
    ----------
    work
        What the worker is to run.
    there
        What :func:`worker_versions` said in the worker.
    worker
        How to call it in the message.

    Raises
    ------
    ExecutorError
        Names what differs, with both versions, or says why the worker can't load the programs.
    """
    programs = _of_programs(work.prepare())
    own = {**_installed(there.keys() - programs.keys() - {_PROBLEM}), **programs}
    differing = [f"{name} {found} (here {own[name]})" for name, found in there.items() if own.get(name, found) != found]
    if differing:
        raise ExecutorError(
            f"{worker} has other versions than this process: {', '.join(differing)}. "
            "The numbers might differ; install the same versions in both environments."
        )
    if _PROBLEM in there:
        raise ExecutorError(f"{worker} can't get ready for the run: {there[_PROBLEM]}")


def _installed(distributions: Iterable[str]) -> dict[str, str]:
    """Python and distributions, by name."""
    found = {"Python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in (*_ALWAYS, *distributions):
        if name not in found:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                found[name] = "not installed"
    return found


def _of_programs(programs: Programs) -> dict[str, str]:
    """Versions of the programs, and of QCEngine where one of them runs through it."""
    names = {specification.program for specification in programs.context.specifications.values()}
    engine = any(is_engine(programs.harness(name)) for name in names)
    return {
        **(_installed(["qcengine"]) if engine else {}),
        **{f"the program {name}": told for name, told in programs.versions().items()},
    }
