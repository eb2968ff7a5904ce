"""Running one fragment: its molecule cut out of the cluster, its program called, its numbers taken.

The only place that knows QCEngine. A worker makes :class:`Programs` of its context once and then calls
:func:`run_task` for each task.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
import threading
import time
import traceback
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import define, field

from mbexec.core.context import Context, alternative_label
from mbexec.core.errors import ConfigError, ProgramError
from mbexec.core.types import Task, TaskError, TaskResult

if TYPE_CHECKING:
    from mbexec.core.settings import TaskSettings

__all__ = ["Programs", "node_settings", "run_task"]

_SHAPES = {"energy": 0, "gradient": 1, "hessian": 2}
_lock = threading.RLock()


@define(eq=False)
class Programs:
    """The programs of a context, ready to run in this process.

    Raises
    ------
    ProgramError
        If one of them is unknown or not installed here.
    """

    context: Context
    _harnesses: dict[str, Any] = field(init=False)
    _config: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        with _lock:
            names = {spec.program.lower() for spec in self.context.specifications.values()}
            self._harnesses = {name: _harness(name, self.context.harnesses.get(name)) for name in sorted(names)}
            engine = [h for h in self._harnesses.values() if _is_engine(h)]
            foreign = any(name not in self.context.harnesses for name in names)
            if engine and (foreign or self.context.bodies):
                _describe_host()
            self._config = _task_config(self.context.task) if engine else self.context.task

    def run(self, task: Task, alternative: int = 0) -> tuple[dict[str, Any], TaskError | None, bytes | None]:
        """Numbers, error and body of one task, with the model chemistry as given or an alternative to it."""
        from qcelemental.models.v2 import AtomicInput

        label = alternative_label(task.mc, alternative)
        specification = self.context.specifications[label]
        cluster = self.context.cluster
        bas = task.frag if label in self.context.stripped else task.bas
        molecule = cluster.fragment(task.frag, bas)
        request = AtomicInput(molecule=molecule, specification=specification)
        start = time.time()
        answer, error, retries = self._attempts(self._harnesses[specification.program.lower()], request)
        if error is not None:
            return {}, error, None
        values = _numbers(answer, specification.driver.value, len(molecule.symbols))
        if bas != task.bas:
            values = cluster.padded(values, task.frag, task.bas)
        return values, None, self._body(answer, retries, time.time() - start) if self.context.bodies else None

    def ghosts(self, program: str) -> str | None:
        """What the program's harness says of ghost atoms: "honoured", "stripped", or nothing."""
        said: str | None = getattr(self._harnesses[program.lower()], "ghosts", None)
        return said

    def _attempts(self, harness: Any, request: Any) -> tuple[Any, TaskError | None, int]:
        """Call the program, again where QCEngine would."""
        retries = 0
        answer, error = _call(harness, request, self._config)
        while error is not None and error.error_type == "random_error" and retries < self._config.retries:
            retries += 1
            answer, error = _call(harness, request, self._config)
        return answer, error, retries

    def _body(self, answer: Any, retries: int, wall_time: float) -> bytes:
        """The result with the provenance that QCEngine adds, as QCSchema JSON."""
        if _is_engine(self._harnesses[answer.input_data.specification.program.lower()]):
            from qcengine.util import handle_output_metadata

            metadata = {"stdout": None, "stderr": None, "success": True, "retries": retries, "wall_time": wall_time}
            answer = handle_output_metadata(answer, metadata, return_dict=False, convert_version=2)
        text: str = answer.serialize("json")
        return text.encode()


def run_task(task: Task, programs: Programs, alternative: int = 0) -> TaskResult:
    """Run one fragment. Never raises for a fragment that fails; what a worker calls."""
    started, cpu = time.time(), time.thread_time()
    try:
        values, error, body = programs.run(task, alternative)
    except Exception as unexpected:
        values, error, body = {}, _task_error(unexpected), None
    return TaskResult(
        index=task.index,
        values=values,
        error=error,
        started=started,
        ended=time.time(),
        cpu_time=time.thread_time() - cpu,
        worker=f"{socket.gethostname()}:{os.getpid()}:{threading.get_native_id()}",
        body=body,
    )


def _call(harness: Any, request: Any, config: Any) -> tuple[Any, TaskError | None]:
    try:
        answer = harness.compute(request, config)
    except Exception as failure:
        return None, _task_error(failure)
    if not answer.success:
        return None, TaskError(answer.error.error_type, answer.error.error_message)
    return answer, None


def _task_error(failure: Exception) -> TaskError:
    """QCEngine's type and words where it has some; a traceback for what nobody expected."""
    error_type = getattr(failure, "error_type", None)
    if error_type is None:
        return TaskError("unknown_error", "QCEngine Execution Error:\n" + traceback.format_exc())
    return TaskError(error_type, getattr(failure, "error_message", str(failure)))


def _numbers(answer: Any, driver: str, nat: int) -> dict[str, Any]:
    """Energy, gradient and Hessian of a result, those that are there, in full shape."""
    found: dict[str, Any] = {}
    for name, order in _SHAPES.items():
        value = getattr(answer.properties, f"return_{name}", None)
        if value is None and name == driver:
            value = answer.return_result
        if value is None:
            continue
        shape = (nat, 3) if order == 1 else (3 * nat,) * order
        found[name] = float(value) if order == 0 else np.array(value, dtype=np.float64).reshape(shape)
        if not np.isfinite(found[name]).all():
            raise ProgramError(f"The program reports success but its {name} is not a finite number: {value!r}.")
    if missing := [name for name in ("energy", driver) if name not in found]:
        raise ProgramError(f"The program reports success but gives no {missing[0]}.")
    return found


def _harness(name: str, target: str | None) -> Any:
    """The program's harness: a distribution's own, or QCEngine's."""
    if target is None:
        harness = _engine_harness(name)
    else:
        module, _, attribute = target.partition(":")
        try:
            harness = getattr(importlib.import_module(module), attribute)()
        except ImportError as missing:
            raise ProgramError(
                f"The program {name!r} can't be imported ({missing}). {_advice(name, target)}"
            ) from missing
    try:
        harness.found(raise_error=True)
    except ModuleNotFoundError as missing:
        raise ProgramError(f"The program {name!r} is not installed here. {missing}") from missing
    if target is not None and _is_engine(harness):
        _register(harness)
    return harness


def _advice(name: str, target: str) -> str:
    if not _have_engine():
        return "It runs through QCEngine; install that with: pip install 'mbexec[qcengine]'"
    return f"Its harness is {target}; install what it needs."


def _engine_harness(name: str) -> Any:
    if not _have_engine():
        raise ProgramError(
            f"The program {name!r} runs through QCEngine, which is not installed. "
            "Install it with: pip install 'mbexec[qcengine]'"
        )
    from qcengine.programs.base import programs

    if name.lower() not in programs:
        raise ProgramError(
            f"No program named {name!r} is known. QCEngine knows: {', '.join(sorted(programs))}. "
            f"If mbexec has a distribution for it, install that with: pip install mbexec-{name}"
        )
    return programs[name.lower()]


def _have_engine() -> bool:
    return importlib.util.find_spec("qcengine") is not None


def _is_engine(harness: Any) -> bool:
    """Whether a harness is of QCEngine's kind, asked without importing QCEngine."""
    return any(base.__module__.startswith("qcengine.") for base in type(harness).__mro__)


def _register(harness: Any) -> None:
    """Make `qcengine.compute` know a distribution's harness too."""
    import qcengine
    from qcengine.programs.base import programs

    if harness.name.lower() not in programs:
        qcengine.register_program(harness)


def _describe_host() -> None:
    """Fill QCEngine's host description before anyone shares it: it does so step by step, and threads see it half full.

    One that was left half full (an interrupted or failed first call) is made anew.
    """
    from qcengine import config

    if config._global_values is not None and "cpu_brand" not in config._global_values:
        config._global_values = None
    try:
        config.get_global()
    except BaseException:
        config._global_values = None
        raise


def _task_config(task: TaskSettings) -> Any:
    """QCEngine's TaskConfig for our settings, with what `qcengine.yaml` says of MPI."""
    from qcengine.config import NODE_DESCRIPTORS, TaskConfig, get_config

    given = task.as_qcengine()
    if NODE_DESCRIPTORS or task.nnodes > 1:
        _describe_host()
        return get_config(task_config=given)
    return TaskConfig(**given, mpiexec_command=None)


def node_settings() -> dict[str, Any]:
    """What `qcengine.yaml` says of this host: ncores, memory, retries, scratch_directory; empty without it.

    Raises
    ------
    ConfigError
        If QCEngine can't read it.
    """
    if not _have_engine():
        return {}
    try:
        from qcengine.config import NODE_DESCRIPTORS
    except Exception as error:
        raise ConfigError(f"qcengine.yaml can't be read: {' '.join(str(error).split())}") from error
    node = next((n for n in NODE_DESCRIPTORS.values() if fnmatch(socket.gethostname(), n.hostname_pattern)), None)
    if node is None:
        return {}
    found = {
        "ncores": node.ncores and node.ncores // node.jobs_per_node,
        "memory": node.memory and round(node.memory * (1 - node.memory_safety_factor / 100) / node.jobs_per_node, 3),
        "retries": node.retries or None,
        "scratch_directory": node.scratch_directory,
    }
    return {key: value for key, value in found.items() if value is not None}
