"""The data that goes from hook to hook: frozen, and pickled by plain pickle where it crosses a process boundary."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import Factory, evolve, field, fields, frozen

from mbexec.core.expansion import Expansion
from mbexec.core.symmetry import Symmetry

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from qcmanybody.models.v2 import ManyBodyInput

__all__ = ["Level", "Plan", "PlannedLevel", "Task", "TaskError", "TaskResult"]

_MADE = 256  # tasks that are made at a time
_quoted = lru_cache(json.dumps)


@frozen
class Task:
    """One fragment calculation.

    Attributes
    ----------
    index
        Place in the plan.
    mc
        Label of the model chemistry.
    frag, bas
        1-based numbers of the fragments that are real, and of those whose basis functions are present.
    """

    index: int
    mc: str
    frag: tuple[int, ...]
    bas: tuple[int, ...]

    @property
    def nbody(self) -> int:
        """How many fragments are real."""
        return len(self.frag)

    @property
    def label(self) -> str:
        """The name QCManyBody gives this calculation, such as ``["(auto)", [2], [1, 2, 3]]``."""
        frag = f"{[*self.frag]}"
        return f"[{_quoted(self.mc)}, {frag}, {frag if self.bas is self.frag else [*self.bas]}]"  # like json.dumps


@frozen
class TaskError:
    """Why a fragment calculation gave no result.

    Attributes
    ----------
    error_type
        QCEngine's: input_error, resource_error, convergence_error, random_error, unknown_error.
    error_message
        The program's own words.
    """

    error_type: str
    error_message: str


def _read_only(values: Any) -> Any:
    return MappingProxyType(values) if isinstance(values, dict) else values


def _behind(values: Any) -> Any:
    return values.copy() if type(values) is MappingProxyType else values


@frozen(eq=False)
class TaskResult:
    """What came of one task.

    Attributes
    ----------
    index
        The task's place in the plan.
    values
        "energy" in E_h, and where there is one "gradient", (nat, 3) float array in E_h/a0, and "hessian",
        (3 nat, 3 nat) float array in E_h/a0^2; nat counts the atoms of the fragment, ghosts included. Then the
        plan's `properties`, as QCSchema defines them. None of them can be replaced.
    error
        Set if the fragment failed; `values` is empty then.
    started, ended
        Seconds since the epoch, on the worker's clock.
    cpu_time
        Seconds of processor time: of the worker's thread, of child processes (in equal parts with other fragments that
        ran in its process when they ended), and, if there were none of those, of other threads there.
    worker
        ``host:pid:thread``.
    body
        The whole ``AtomicResult`` as QCSchema JSON, if someone asked for it; of a failed fragment the
        ``FailedOperation``.
    notes
        What people should know of how it came about, such as that another program than the given one was used.
    output
        What was printed while it ran, if the executor catches that.
    step
        Which of the model chemistries that are tried one after another gave it, from 0: see ``Context.route``.
    lost
        How many seconds sooner, at most, it would have ended alone: what it waited for a processor, and for other
        fragments in its process. None if that was not measured.
    peak_memory
        The most that the worker's process, or a child process of it, had held so far, bytes; 0 if not measured.
    """

    index: int
    values: Mapping[str, Any] = field(factory=dict, converter=_read_only, repr=lambda values: repr(_behind(values)))
    error: TaskError | None = None
    started: float = 0.0
    ended: float = 0.0
    cpu_time: float = 0.0
    worker: str = ""
    body: bytes | None = None
    notes: tuple[str, ...] = ()
    output: str = ""
    step: int = 0
    lost: float | None = None
    peak_memory: int = 0

    def noted(self, note: str) -> TaskResult:
        """The same result with one more note."""
        return evolve(self, notes=(*self.notes, note))

    def __reduce__(self) -> tuple[type[TaskResult], tuple[Any, ...]]:
        """How it is pickled: by its values, those in a dict."""
        index, values, *others = _parts(self)
        return TaskResult, (index, _behind(values), *others)

    @property
    def wall_time(self) -> float:
        """Seconds from start to end."""
        return self.ended - self.started


_parts = attrgetter(*(each.name for each in fields(TaskResult)))


@frozen
class PlannedLevel:
    """The tasks of one nbody: places `start` to `stop` (exclusive) of the plan; of these, `duplicates` don't run."""

    nbody: int
    start: int
    stop: int
    duplicates: int = 0

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def ntasks(self) -> int:
        """How many run."""
        return len(self) - self.duplicates


@frozen(eq=False)
class Plan:
    """What is to be computed: the input, and the fragment calculations that it needs, as arrays.

    Attributes
    ----------
    spec
        The many-body input; molecule and model chemistries of the fragments are taken from it.
    expansion
        Tasks and coefficients.
    properties
        Atomic properties of QCSchema that each result must give besides those of the driver, and their shapes.
    undecided : (ntask,) bool array
        Tasks that wait until all others have given a result: the planner's `choose_tasks` then says which of them
        need not run. None of them if left out.
    symmetry
        Which tasks are the same as others up to a rigid motion, and need not run; None if all do. Only results of
        those that run go to the merger. A plan with undecided tasks has none.
    """

    spec: ManyBodyInput
    expansion: Expansion
    properties: Mapping[str, tuple[int, ...]] = field(factory=dict)
    undecided: NDArray[np.bool_] = Factory(lambda plan: np.zeros(len(plan.expansion), dtype=bool), takes_self=True)
    symmetry: Symmetry | None = None

    def __len__(self) -> int:
        return len(self.expansion)

    def __getitem__(self, index: int) -> Task:
        e = self.expansion
        return Task(index, e.mcs[e.mc[index]], e.sets[int(e.frag[index])], e.sets[int(e.bas[index])])

    def __iter__(self) -> Iterator[Task]:
        return self.tasks(np.arange(len(self)))

    def tasks(self, places: NDArray[np.int64]) -> Iterator[Task]:
        """The tasks at these places, in their order; made many at a time, which takes a fraction of the time."""
        e = self.expansion
        for start in range(0, len(places), _MADE):
            here = places[start : start + _MADE]
            mcs = [e.mcs[mc] for mc in e.mc[here].tolist()]
            frags = e.sets.at(e.frag[here])
            same = bool((e.frag[here] == e.bas[here]).all())
            yield from map(Task, here.tolist(), mcs, frags, frags if same else e.sets.at(e.bas[here]))

    @property
    def runs(self) -> NDArray[np.bool_]:
        """Which tasks run, (ntask,): all but duplicates."""
        return np.ones(len(self), dtype=bool) if self.symmetry is None else self.symmetry.runs

    @property
    def levels(self) -> tuple[PlannedLevel, ...]:
        """The tasks by nbody, in rising order."""
        nbody, start = np.unique(self.expansion.nbody, return_index=True)
        stops = [*start[1:].tolist(), len(self)]
        duplicates = np.diff(np.append(0, np.cumsum(~self.runs))[[*start, len(self)]])
        return tuple(map(PlannedLevel, nbody.tolist(), start.tolist(), stops, duplicates.tolist()))

    def amplification(self, treatment: str, through: int, start: int = 1, mc: str | None = None) -> tuple[float, float]:
        """How errors grow, see :meth:`Expansion.amplification`; a task's counts for all that it stands for."""
        standing = None if self.symmetry is None else self.symmetry.representative
        return self.expansion.amplification(treatment, through, start, mc, standing)


class Level:
    """Tasks that may run together, in the order in which to start them. Iterate it once; tasks are made as asked for.

    It ends early when the run is being stopped: start nothing new, finish what runs and yield it; a task that takes
    several calculations, of which not all have begun, may be put back. Its length is how many tasks it has in all,
    which may become less: those that need not run after all are left out.

    Parameters
    ----------
    plan
        Where the tasks come from.
    order : (n,) int array
        Places in the plan.
    draining
        Says whether nothing new is to start.
    needless
        Says of a task that is about to be handed out whether it need not run.
    """

    def __init__(
        self,
        plan: Plan,
        order: NDArray[np.int64],
        draining: Callable[[], bool],
        needless: Callable[[Task], bool] = lambda task: False,
    ) -> None:
        self._plan = plan
        self._length = len(order)
        self._left = plan.tasks(order)
        self._draining = draining
        self._needless = needless
        self._running: dict[int, tuple[Task, float]] = {}

    @property
    def draining(self) -> bool:
        """Whether the run is being stopped."""
        return self._draining()

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Level:
        return self

    def __next__(self) -> Task:
        while not self.draining:
            task = next(self._left)
            if not self._needless(task):
                self._running[task.index] = task, time.time()
                return task
            self._length -= 1
        raise StopIteration

    def done(self, index: int) -> tuple[Task, float] | None:
        """The task at that place of the plan, and when it was pulled; None if nobody pulled it or it was done."""
        return self._running.pop(index, None)

    def put_back(self, task: Task) -> None:
        """Give a task that was pulled no result, since the run is being stopped: another run has to begin it anew.

        A run that goes on does not let that pass: its executor owes it the result.
        """
        if self.draining:
            self._running.pop(task.index, None)

    def unfinished(self) -> list[Task]:
        """Tasks that must still give a result: those pulled and not done; all the others too, unless draining."""
        left = [] if self.draining else self._left
        return [*(task for task, _ in self._running.values()), *left]
