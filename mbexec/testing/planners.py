"""Rules for planners: the plan that they make, and what they make of the results."""

from __future__ import annotations

import gc
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from mbexec.core.engine import read_job
from mbexec.core.settings import RunConfig
from mbexec.core.types import Plan, Task, TaskError, TaskResult
from mbexec.testing.rules import Make, broken, rule
from mbexec.testing.trial import Plugged, plugged, work_of

__all__ = [
    "a_plan_is_made_of_arrays",
    "missing_results_are_a_failure",
    "results_are_let_go",
    "tasks_are_planned_once",
    "the_order_of_arrival_does_not_matter",
    "the_same_energies_give_the_same_choice",
    "the_same_input_gives_the_same_plan",
]

_CLUSTER = {
    "molecule": {"geometry": "Ar 0 0 0\n--\nAr 0 0 3.8\n--\nAr 0 3.9 0.1\n--\nAr 3.7 0.2 0.3"},
    "mbe": {"bsse_type": "nocp", "max_nbody": 2},
    "program": {"program": "model-potential", "method": "lj-atm"},
}
_ORDERS = 4
_ALIVE = 4
_PLACES = 12


def _planned(planner: Plugged, spec: Any) -> tuple[Plan, RunConfig]:
    """The plan for an input, or for four argon atoms."""
    many, config = read_job(spec if spec is not None else _CLUSTER, {})
    plan = planner.hook.build_tasks(spec=many, config=config)
    if not isinstance(plan, Plan):
        raise broken(f"gave {plan!r:.80} as its plan, which is no Plan")
    return plan, config


def _results(planner: Plugged, plan: Plan, config: RunConfig) -> list[TaskResult]:
    """A result of each task that the planner does not leave out."""
    work = work_of(plan, config.task, 1)
    decided = [work(task) for task in _decided(plan)]
    needless = _left_out(planner, plan, decided) if plan.undecided.any() else plan.undecided
    more = [work(task) for task in plan.tasks(np.flatnonzero(plan.runs & plan.undecided & ~needless))]
    return sorted(decided + more, key=lambda result: result.index)


def _decided(plan: Plan) -> Iterator[Task]:
    """The tasks that must run, whatever the planner leaves out."""
    return plan.tasks(np.flatnonzero(plan.runs & ~plan.undecided))


def _left_out(planner: Plugged, plan: Plan, decided: Iterable[TaskResult]) -> NDArray[np.bool_]:
    """What the planner leaves out of a plan once it has these results."""
    energies = np.full(len(plan), np.nan)
    for result in decided:
        energies[result.index] = result.values["energy"]
    found = planner.hook.choose_tasks(plan=plan, energies=energies)
    if found is None:
        return np.zeros(len(plan), dtype=bool)
    if not isinstance(found, np.ndarray) or found.dtype != bool or found.shape != (len(plan),):
        raise broken(f"gave {found!r:.80} as what it leaves out of {len(plan)} tasks")
    if (found & ~plan.undecided).any():
        raise broken(f"left out {plan[int(np.argmax(found & ~plan.undecided))].label}, which its plan decides on")
    return found


def _merged(planner: Plugged, plan: Plan, results: Iterable[TaskResult]) -> Any:
    return planner.hook.merge_results(plan=plan, results=results)


@rule(
    "planner",
    "The plan has each task once, in the order of nbody",
    "Make the expansion with mbexec.expand or Expansion.from_tasks, which see to it.",
)
def a_plan_is_made_of_arrays(make: Make, gate: Path, spec: Any = None) -> None:
    """A plan is a Plan, whose arrays are of whole numbers and one length, in the order of nbody."""
    with plugged(make) as planner:
        plan, _ = _planned(planner, spec)
    e = plan.expansion
    for name in ("mc", "frag", "bas", "coefficients"):
        array = getattr(e, name)
        if not isinstance(array, np.ndarray) or array.dtype.kind != "i":
            raise broken(f"gave its expansion a {name} that is no array of whole numbers, but {array!r:.80}")
        if len(array) != len(e.mc):
            raise broken(f"gave its expansion {len(array)} rows of {name} for {len(e.mc)} tasks")
    if (np.diff(e.nbody) < 0).any():
        raise broken("gave a plan in which a task of more fragments stands before one of fewer")
    for task in plan:
        if not set(task.frag) <= set(task.bas):
            raise broken(f"planned {task.label}, whose basis leaves out a fragment that is real")


@rule(
    "planner",
    "The plan has each task once, in the order of nbody",
    "Make the expansion with mbexec.expand or Expansion.from_tasks, which see to it.",
)
def tasks_are_planned_once(make: Make, gate: Path, spec: Any = None) -> None:
    """No two tasks of a plan have the same label."""
    with plugged(make) as planner:
        plan, _ = _planned(planner, spec)
    (label, count), *_ = Counter(task.label for task in plan).most_common(1) or [("", 0)]
    if count > 1:
        raise broken(f"planned {label} {count} times")


@rule(
    "planner",
    "The same input gives the same plan",
    "Sort what comes from a set or a dict, and leave out what depends on time or chance.",
)
def the_same_input_gives_the_same_plan(make: Make, gate: Path, spec: Any = None) -> None:
    """Two planners make the same plan of one input, task by task."""
    labels = []
    for _ in range(2):
        with plugged(make) as planner:
            labels.append([task.label for task in _planned(planner, spec)[0]])
    if labels[0] != labels[1]:
        place = next(i for i, pair in enumerate(zip(*labels, strict=False)) if pair[0] != pair[1])
        raise broken(f"planned {labels[0][place]} at place {place} once, and {labels[1][place]} another time")


@rule(
    "planner",
    "The same energies give the same choice",
    "Choose by the energies and the plan alone, and leave out only what the plan has as undecided.",
)
def the_same_energies_give_the_same_choice(make: Make, gate: Path, spec: Any = None) -> None:
    """Two planners leave out the same tasks, given the same energies, and only tasks that are undecided."""
    chosen = []
    for _ in range(2):
        with plugged(make) as planner:
            plan, config = _planned(planner, spec)
            work = work_of(plan, config.task, 1)
            chosen.append(_left_out(planner, plan, [work(task) for task in _decided(plan)]))
    if (chosen[0] != chosen[1]).any():
        label = plan[int(np.argmax(chosen[0] != chosen[1]))].label
        raise broken(f"left out {label} one time, and not another")


@rule(
    "planner",
    "The order of arrival does not change a bit of the result",
    "Sum with mbexec.exact_dot or mbexec.ArraySum, and find a result's place by its index.",
)
def the_order_of_arrival_does_not_matter(make: Make, gate: Path, spec: Any = None) -> None:
    """Results that arrive in another order give the same bits."""
    from qcmanybody.models.v2 import ManyBodyResult

    found = []
    for seed in range(_ORDERS):
        with plugged(make) as planner:
            plan, config = _planned(planner, spec)
            results = _results(planner, plan, config)
            order = np.random.default_rng(seed).permutation(len(results)) if seed else range(len(results))
            result = _merged(planner, plan, iter([results[i] for i in order]))
        if not isinstance(result, ManyBodyResult):
            raise broken(f"gave {result!r:.200} as the result where nothing had failed")
        found.append((np.asarray(result.return_result).tobytes(), result.properties.serialize("json")))
    if len(set(found)) > 1:
        raise broken(f"gave different results for {_ORDERS} orders of arrival")


@rule(
    "planner",
    "Take what you need of each and let it go",
    "Take the numbers out of each result as it comes; don't make a list or dict of the results.",
)
def results_are_let_go(make: Make, gate: Path, spec: Any = None) -> None:
    """Results are consumed one by one and to the end, and not held on to."""
    alive: weakref.WeakSet[TaskResult] = weakref.WeakSet()
    seen = {"most": 0, "given": 0}

    def _passing(results: list[TaskResult]) -> Iterator[TaskResult]:
        for result in results:
            fresh = attrs.evolve(result)
            alive.add(fresh)
            yield fresh
            del fresh
            seen["given"] += 1
            if len(alive) > _ALIVE:
                gc.collect()
            seen["most"] = max(seen["most"], len(alive))

    with plugged(make) as planner:
        plan, config = _planned(planner, spec)
        results = _results(planner, plan, config)
        _merged(planner, plan, _passing(results))
    if seen["given"] < len(results):
        raise broken(f"consumed {seen['given']} of {len(results)} results")
    if seen["most"] > _ALIVE:
        raise broken(f"held on to {seen['most']} of {len(results)} results while more came")


@rule(
    "planner",
    "FailedOperation",
    "Look at result.error of each, count what arrives, and return a FailedOperation where the result is not known.",
)
def missing_results_are_a_failure(make: Make, gate: Path, spec: Any = None) -> None:
    """Whichever result is an error, or never comes, the outcome is a FailedOperation."""
    from qcelemental.models.v2 import FailedOperation

    with plugged(make) as planner:
        plan, config = _planned(planner, spec)
        results = _results(planner, plan, config)
    for place in range(0, len(results), max(1, len(results) // _PLACES)):
        index = results[place].index
        label = plan[index].label
        failed = TaskResult(results[place].index, error=TaskError("random_error", "the toy failed"))
        rest = results[:place] + results[place + 1 :]
        may_choose_otherwise = plan.undecided.any() and not plan.undecided[index]
        for what, given in (("failed", [*rest, failed]), ("never came", rest))[bool(may_choose_otherwise) :]:
            with plugged(make) as planner:
                plan, _ = _planned(planner, spec)
                if not isinstance(_merged(planner, plan, iter(given)), FailedOperation):
                    raise broken(f"gave a result although that of {label} {what}")
