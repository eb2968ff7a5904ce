"""Running one fragment: its molecule cut out of the cluster, its program called, its numbers taken.

The only place, with :mod:`mbexec.core.harness` and :mod:`mbexec.core.host`, that knows QCEngine. A worker makes
:class:`Programs` of its context once and then calls :func:`run_task` for each task.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from attrs import asdict, define, evolve, field, frozen

from mbexec.core.answers import further, numbers, own_copy
from mbexec.core.context import Context
from mbexec.core.errors import ProgramError
from mbexec.core.harness import find_harness, is_engine, surroundings
from mbexec.core.host import describe_host, host_description, task_config
from mbexec.core.meter import Meter
from mbexec.core.resources import memory_kills
from mbexec.core.types import Task, TaskError, TaskResult

if TYPE_CHECKING:
    from mbexec.core.settings import TaskSettings

__all__ = ["Programs", "run_task"]

_BACKOFF = 0.5  # s, twice as long after each further random_error
_NAP = 0.2  # s
_HOST = socket.gethostname()
_lock = threading.RLock()


@frozen(eq=False)
class _Outcome:
    """What came of calling a program: a result, or an error with what the program gave instead, if anything."""

    answer: Any
    error: TaskError | None = None
    extras: Any = None


@define(eq=False)
class Programs:
    """The programs of a context, ready to run in this process.

    Attributes
    ----------
    context
        What to run, and on what.
    scratch
        Where programs put their files, in place of ``task.scratch_directory``.
    on_retry
        Called before an attempt that is not a task's first.

    Raises
    ------
    ProgramError
        If one of them is unknown or not installed here.
    """

    context: Context
    scratch: str | None = None
    on_retry: Callable[[], object] | None = field(default=None, init=False)
    _kills: int = field(factory=memory_kills, init=False)
    _harnesses: dict[str, Any] = field(init=False)
    _configs: dict[int, Any] = field(init=False)  # by nbody; 0 is for the rest

    def __attrs_post_init__(self) -> None:
        with _lock:
            names = {spec.program.lower() for spec in self.context.specifications.values()}
            self._harnesses = {name: find_harness(name, self.context.harnesses.get(name)) for name in sorted(names)}
            engine = [h for h in self._harnesses.values() if is_engine(h)]
            if engine:
                describe_host(self.context.host)
            everyone = [(0, self.context.task), *self.context.task_of.items()]
            self._configs = {nbody: self._config(task, bool(engine)) for nbody, task in everyone}

    def _config(self, task: TaskSettings, engine: bool) -> Any:
        """What a harness is given; the worker's own scratch directory takes the place of the one for all."""
        if self.scratch is not None and task.scratch_directory == self.context.task.scratch_directory:
            task = evolve(task, scratch_directory=self.scratch)
        return task_config(task) if engine else task

    def portable(self) -> Context:
        """The context with what only this process has: harnesses registered with QCEngine at run time, and its host.

        Whole results, and perhaps harnesses that we don't know, ask for the processor, which takes a second to find
        out: once here, not in each worker.
        """
        engine = {name: harness for name, harness in self._harnesses.items() if is_engine(harness)}
        if not engine:
            return self.context
        registered = {
            name: harness
            for name, harness in engine.items()
            if name not in self.context.harnesses and not type(harness).__module__.startswith("qcengine.")
        }
        harnesses = {**registered, **self.context.harnesses}
        found = host_description(complete=self.context.bodies or bool(registered))
        return evolve(self.context, harnesses=harnesses, host=found)

    def run(self, task: Task, alternative: int = 0) -> dict[str, Any]:
        """What came of one task, with the model chemistry as given, up its ladder, or with an alternative to it.

        Returns
        -------
        dict
            Some of the attributes of a :class:`TaskResult`.
        """
        labels = self.context.attempts(task.mc, alternative)
        for place, label in enumerate(labels):
            if place:
                self._tell_of_retry()
            values, error, body = self._with(task, label)
            if error is None or error.error_type != "convergence_error":
                break
        notes: tuple[str, ...] = ()
        if place and error is None:
            changed = self.context.specifications[label].keywords
            notes = (f"It did not converge as given, but on rung {place} of its ladder, with {changed!r}.",)
        step = 0 if label == task.mc else self.context.route(task.mc).index(label)
        return {"values": values, "error": error, "body": body, "notes": notes, "step": step}

    def _with(self, task: Task, label: str) -> tuple[dict[str, Any], TaskError | None, bytes | None]:
        """Numbers, error and body of one task with the model chemistry of that label."""
        from qcelemental.models.v2 import AtomicInput

        specification = self.context.specifications[label]
        harness = self.harness(specification.program)
        cluster = self.context.cluster
        bas = task.frag if label in self.context.stripped else task.bas
        molecule = cluster.fragment(task.frag, bas)
        request = AtomicInput(molecule=molecule, specification=own_copy(specification))
        start = time.time()
        config = self._configs.get(task.nbody, self._configs[0])
        outcome, retries = self._attempts(harness, request, config)
        wall_time = time.time() - start
        body = _body(harness, request, outcome, retries, wall_time) if self.context.bodies else None
        if outcome.error is not None:
            return {}, self._unless_killed(outcome.error), body
        values = numbers(outcome.answer, specification.driver.value, len(molecule.symbols))
        if self.context.properties:
            values |= further(outcome.answer, self.context.properties)
        return values if bas == task.bas else cluster.padded(values, task.frag, task.bas), None, body

    def _unless_killed(self, error: TaskError) -> TaskError:
        """The error; a random one if processes were killed for lack of memory meanwhile, most likely its program's."""
        before, self._kills = self._kills, memory_kills()
        if self._kills == before or error.error_type not in ("unknown_error", "random_error", "resource_error"):
            return error
        what = "The system ran out of memory and killed a process while this fragment ran. Its program said:"
        return TaskError("random_error", f"{what}\n{error.error_message}")

    def whole(self, molecule: Any) -> dict[str, Any]:
        """Numbers of a molecule as it is given, not cut out of the cluster, with the context's only model chemistry.

        Raises
        ------
        ProgramError
            In the program's words, if it fails.
        """
        from qcelemental.models.v2 import AtomicInput

        (specification,) = self.context.specifications.values()
        fixed = molecule.model_copy(update={"fix_com": True, "fix_orientation": True})
        request = AtomicInput(molecule=fixed, specification=own_copy(specification))
        outcome, _ = self._attempts(self.harness(specification.program), request, self._configs[0])
        if outcome.error is not None:
            raise ProgramError(outcome.error.error_message)
        return numbers(outcome.answer, specification.driver.value, len(molecule.symbols))

    def harness(self, program: str) -> Any:
        """The harness of a program."""
        return self._harnesses[program.lower()]

    def versions(self) -> dict[str, str]:
        """The version of each program, by name in lower case, with that of its harness and what it reads besides.

        Those that do not tell are left out.
        """
        found = {}
        for name, harness in self._harnesses.items():
            tell = getattr(harness, "get_version", None)
            if tell is not None and (told := tell()):
                read = surroundings(name)
                found[name] = f"{told}{_distribution(harness)}{f', with {read}' if read else ''}"
        return found

    def ghosts(self, program: str) -> str | None:
        """What the program's harness says of ghost atoms: "honoured", "stripped", or nothing.

        Raises
        ------
        ProgramError
            If it says anything else.
        """
        said: str | None = getattr(self.harness(program), "ghosts", None)
        if said not in (None, "honoured", "stripped"):
            raise ProgramError(
                f"The harness of {program!r} has ghosts = {said!r}; "
                "it must be 'honoured' or 'stripped', or be left out."
            )
        return said

    def _attempts(self, harness: Any, request: Any, config: Any) -> tuple[_Outcome, int]:
        """Call the program, again where QCEngine would."""
        retries = 0
        outcome = _call(harness, request, config)
        while outcome.error and outcome.error.error_type == "random_error" and retries < config.retries:
            self._rest(_BACKOFF * 2**retries)
            retries += 1
            outcome = _call(harness, request, config)
        return outcome, retries

    def _rest(self, seconds: float) -> None:
        """Wait before another attempt; whoever looks at the clock is told that none is running meanwhile."""
        end = time.monotonic() + seconds
        self._tell_of_retry()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, _NAP))
            self._tell_of_retry()

    def _tell_of_retry(self) -> None:
        if self.on_retry is not None:
            self.on_retry()


def _distribution(harness: Any) -> str:
    """The distribution that a harness is from, and its version; nothing for QCEngine's own and for scripts' ones."""
    package = type(harness).__module__.partition(".")[0]
    owner = "mbexec" if package == "mbexec" else package.replace("_", "-")
    try:
        return f", {owner} {version(owner)}" if package != "qcengine" else ""
    except PackageNotFoundError:
        return ""


def run_task(task: Task, programs: Programs, alternative: int = 0) -> TaskResult:
    """Run one fragment. Never raises for a fragment that fails; what a worker calls."""
    with Meter() as meter:
        try:
            found = programs.run(task, alternative)
        except Exception as unexpected:
            found = {"error": _task_error(unexpected)}
    return TaskResult(
        index=task.index,
        started=meter.started,
        ended=meter.ended,
        cpu_time=meter.cpu_time,
        lost=meter.lost,
        peak_memory=meter.peak_memory,
        worker=f"{_HOST}:{os.getpid()}:{threading.get_native_id()}",
        **found,
    )


def _call(harness: Any, request: Any, config: Any) -> _Outcome:
    try:
        answer = harness.compute(request, config)
        if isinstance(answer, Exception):  # QCEngine's harness of MOPAC returns some of its errors
            raise answer
        if answer is None:  # and that of CFOUR nothing at all
            raise ProgramError(f"{harness.name} ended with an error and gave no result.")
    except (Exception, SystemExit) as failure:  # a program has no say in whether the run goes on
        return _Outcome(None, _task_error(failure), getattr(failure, "extras", None))
    if not answer.success:
        return _Outcome(answer, TaskError(answer.error.error_type, answer.error.error_message))
    return _Outcome(answer)


def _task_error(failure: Exception | SystemExit) -> TaskError:
    """QCEngine's type and words where it has some; a traceback for what nobody expected."""
    if isinstance(failure, SystemExit):
        said = f"The program called for an exit with code {failure.code!r}, as sys.exit does, and gave no result."
        return TaskError("unknown_error", f"{said}\n{traceback.format_exc()}")
    error_type = getattr(failure, "error_type", None)
    if error_type is None:
        return TaskError("unknown_error", "QCEngine Execution Error:\n" + traceback.format_exc())
    return TaskError(error_type, getattr(failure, "error_message", str(failure)))


def _body(harness: Any, request: Any, outcome: _Outcome, retries: int, wall_time: float) -> bytes:
    """The result, or the FailedOperation, with the provenance that QCEngine adds, as QCSchema JSON."""
    answer, error = outcome.answer, outcome.error
    if is_engine(harness):
        from qcengine.util import handle_output_metadata

        metadata = {"stdout": None, "stderr": None, "success": True, "retries": retries, "wall_time": wall_time}
        if answer is None and error is not None:
            metadata |= {"success": False, "error_extras": outcome.extras, **asdict(error)}
        answer = handle_output_metadata(answer or request, metadata, return_dict=False, convert_version=2)
    elif error is not None:
        from qcelemental.models.v2 import FailedOperation

        answer = answer or FailedOperation(input_data=request, error=asdict(error))
    text: str = answer.serialize("json")
    return text.encode()
