"""What rules try a plugin on: toy tasks, a level that remembers who pulled, and a plugin entered as a run enters it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pluggy
from attrs import define, field

from mbexec import hookspecs
from mbexec.core.context import Cluster, Context
from mbexec.core.expansion import Expansion
from mbexec.core.manager import harnesses
from mbexec.core.settings import TaskSettings
from mbexec.core.types import Level, Plan, Task, TaskResult
from mbexec.core.work import Work
from mbexec.testing.rules import Make, broken

if TYPE_CHECKING:
    from qcmanybody.models.v2 import ManyBodyInput

__all__ = ["Plugged", "Trial", "WatchedLevel", "declared_workers", "plugged", "work_of"]

_TOY = "toy-potential"


@define(eq=False)
class Plugged:
    """A plugin, and the hooks through which a run calls it."""

    plugin: Any
    hook: Any


@contextmanager
def plugged(make: Make, *others: Any) -> Iterator[Plugged]:
    """Make a plugin, plug it in, beside others if need be, and enter it if it is a context manager."""
    plugin = make()
    manager = pluggy.PluginManager("mbexec")
    manager.add_hookspecs(hookspecs)
    for each in (*others, plugin):
        manager.register(each)
    with plugin if isinstance(plugin, AbstractContextManager) else nullcontext():
        yield Plugged(plugin, manager.hook)


class WatchedLevel(Level):
    """A level that remembers which tasks were pulled, and in which threads."""

    def __init__(self, plan: Plan, order: Any, stop: threading.Event, needless: Collection[int]) -> None:
        super().__init__(plan, order, stop.is_set, lambda task: task.index in needless)
        self.pulled: list[int] = []
        self.threads: set[int] = set()

    def __next__(self) -> Task:
        self.threads.add(threading.get_ident())
        task = super().__next__()
        self.pulled.append(task.index)
        return task


def declared_workers(executor: Any, otherwise: int) -> int:
    """The most workers that an executor says it can use."""
    most = getattr(executor, "max_workers", otherwise)
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise broken(f"declares max_workers = {most!r}, which is no whole number from 1 up")
    return most


def work_of(plan: Plan, task: TaskSettings, workers: int) -> Work:
    """What executors of a plan are given besides the tasks."""
    many = plan.spec.specification
    atomic = {mc: each.model_copy(update={"driver": many.driver}) for mc, each in many.specification.items()}
    programs = harnesses(each.program for each in atomic.values())
    return Work(Context(Cluster.of(plan.spec.molecule), atomic, programs, task), workers)


@define(eq=False)
class Trial:
    """Toy tasks, and the levels of them that executors were given.

    Attributes
    ----------
    labels
        What each task is, in the order in which to start them.
    toys
        Keywords of :class:`~mbexec.testing.programs.Toy` for each label that does more than compute.
    driver
        energy, gradient or hessian.
    workers
        How many may run at once, if the executor can use as many.
    timeout
        Seconds that a task may take.
    needless
        Places in the plan of tasks that turn out to be needless when they are about to be handed out.
    """

    labels: Sequence[str]
    toys: Mapping[str, Mapping[str, Any]] = field(factory=dict)
    driver: str = "energy"
    workers: int = 2
    timeout: float | None = None
    needless: Collection[int] = ()
    plan: Plan = field(init=False)
    work: Work = field(init=False)
    level: WatchedLevel = field(init=False)
    stop: threading.Event = field(factory=threading.Event, init=False)
    _order: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.plan, self._order = _planned(self.labels, self.toys, self.driver)
        self.work = work_of(self.plan, TaskSettings(ncores=1, memory=1.0, timeout=self.timeout), self.workers)
        self.level = self._new_level()

    def _new_level(self) -> WatchedLevel:
        return WatchedLevel(self.plan, self._order, self.stop, self.needless)

    def submit(self, executor: Plugged) -> Generator[TaskResult, None, None]:
        """Give the executor a level of the tasks; close what it gives when the generator is closed."""
        if not executor.hook.submit_level.get_hookimpls():
            raise broken("has no hook submit_level; mark the method with mbexec.hookimpl")
        self.level = self._new_level()
        self.work.workers = min(self.workers, declared_workers(executor.plugin, self.workers))
        given = executor.hook.submit_level(level=self.level, work=self.work)
        return self._passed(given)

    @staticmethod
    def _passed(given: Any) -> Generator[TaskResult, None, None]:
        with closing(given) if hasattr(given, "close") else nullcontext():
            yield from given

    def run(self, executor: Plugged) -> list[TaskResult]:
        """Everything that the executor gives."""
        with closing(self.submit(executor)) as results:
            return list(results)

    def label(self, index: int) -> str:
        """What the task at that place is."""
        return self.plan[index].mc


def _planned(labels: Sequence[str], toys: Mapping[str, Any], driver: str) -> tuple[Plan, Any]:
    """A pair of argon atoms for each label, and the places of the labels in the plan."""
    nfr = 2
    while nfr * (nfr - 1) < 2 * len(labels):
        nfr += 1
    pairs = list(zip(labels, combinations(range(1, nfr + 1), 2), strict=False))
    spec = _spec(nfr, {label: dict(toys.get(label, {})) for label in labels}, driver)
    plan = Plan(spec, Expansion.from_tasks(nfr, [(label, pair, pair) for label, pair in pairs]))
    places = {task.frag: task.index for task in plan}
    return plan, np.array([places[pair] for _, pair in pairs], dtype=np.int64)


def _spec(nfr: int, keywords: Mapping[str, Mapping[str, Any]], driver: str) -> ManyBodyInput:
    from qcelemental.models.v2 import Molecule
    from qcmanybody.models.v2 import ManyBodyInput

    steps = np.random.default_rng(11).uniform(6.0, 8.0, size=(nfr, 3))  # no two pairs at the same distance
    molecule = Molecule(
        symbols=["Ar"] * nfr,
        geometry=np.cumsum(steps, axis=0),
        fragments=[[i] for i in range(nfr)],
        fragment_charges=[0.0] * nfr,
        fragment_multiplicities=[1] * nfr,
        molecular_charge=0.0,
        molecular_multiplicity=1,
    )
    atomic = {
        label: {"program": _TOY, "driver": driver, "model": {"method": "lj"}, "keywords": given}
        for label, given in (keywords or {"plain": {}}).items()
    }
    specification = {"driver": driver, "keywords": {"bsse_type": ["nocp"]}, "specification": atomic}
    return ManyBodyInput(molecule=molecule, specification=specification)
