"""Programs that must not run twice at once in one process, and executors that do not make them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mbexec.core.errors import ConfigError
from mbexec.core.manager import find_plugin, installed_plugins

if TYPE_CHECKING:
    from qcelemental.models.v2 import AtomicSpecification

    from mbexec.core.program import Programs
    from mbexec.core.settings import RunConfig

__all__ = ["refuse_mixed", "refuse_unsafe"]

# QCEngine declares all of these unsafe in threads. But each calculation is a process of its own, and safe.
_CHILD_PROCESSES = frozenset(
    ("cfour", "gamess", "jaguar", "molpro", "mrchem", "nwchem", "psi4", "qchem", "terachem", "turbomole")
)


def refuse_mixed(config: RunConfig) -> None:
    """Refuse different numbers of cores for fragments of one process: numerical libraries there have one limit.

    Raises
    ------
    ConfigError
        Names the settings that differ.
    """
    for nbody, task in config.task_of.items():
        if task.ncores != config.task.ncores:
            raise ConfigError(
                f"task.{nbody}.ncores = {task.ncores}, but task.ncores = {config.task.ncores}, and the executor "
                f"{config.run.executor!r} runs all fragments in one process, with one number of threads. "
                f"Use one number, or set run.executor to one with processes: {_with_processes()}."
            )


def refuse_unsafe(programs: Programs, executor: str, workers: int) -> None:
    """Refuse a program that is not safe in threads on an executor that runs fragments in threads of this process.

    Raises
    ------
    ConfigError
        Names the program, and the installed executors that can run it.
    """
    if workers == 1:
        return
    for specification in programs.context.specifications.values():
        if _is_unsafe(programs.harness(specification.program), specification):
            raise ConfigError(
                f"The program {specification.program!r} is not safe in threads, but the executor {executor!r} runs "
                f"{workers} fragments at once in one process. Set run.workers = 1, or run.executor to one with "
                f"processes: {_with_processes()}."
            )


def _with_processes() -> str:
    """The installed executors that run fragments in processes of their own."""
    able = [plugin.name for plugin in installed_plugins() if "executor" in plugin.roles and plugin.error is None]
    able = [repr(name) for name in able if getattr(find_plugin(name, "executor"), "isolates_processes", False)]
    return ", ".join(able) or "none is installed, try pip install mbexec-loky"


def _is_unsafe(harness: Any, specification: AtomicSpecification) -> bool:
    if getattr(harness, "thread_safe", True):
        return False
    extras: Mapping[str, Any] = specification.extras or {}
    return specification.program.lower() not in _CHILD_PROCESSES or bool(extras.get("psiapi"))
