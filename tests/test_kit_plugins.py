"""The conformance kits for planners, reporters and stores: each rule accepts good plugins and rejects bad ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from itertools import cycle
from typing import ClassVar

import attrs
import numpy as np
import pytest

from mbexec import FragmentDone, Plan, RunDone, RunStarted, TaskResult, hookimpl, hookspecs
from mbexec.plugins.jsonl import Jsonl
from mbexec.plugins.manybody import ManyBody
from mbexec.plugins.progress import Progress
from mbexec.plugins.sqlite import Sqlite
from mbexec.plugins.structlog import Structlog
from mbexec.plugins.trace import Trace
from mbexec.testing import (
    PLANNER_RULES,
    REPORTER_RULES,
    STORE_RULES,
    __main__,
    check_planner,
    check_reporter,
    check_store,
)
from tests.systems import argon, job
from tests.test_screening import screened

RULES = {rule.__name__: rule for rule in (*PLANNER_RULES, *REPORTER_RULES, *STORE_RULES)}
CONTRACT = {
    role: " ".join(" ".join(getattr(hookspecs, hook).__doc__ for hook in hooks).split())
    for role, hooks in {
        "planner": ("build_tasks", "choose_tasks", "merge_results"),
        "reporter": ("report_metrics",),
        "store": ("recall_results", "keep_result"),
    }.items()
}


def rejected(role, rule, make):
    """What the rule says that the plugin did; its contract is quoted from the hook's."""
    with pytest.raises(AssertionError) as error:
        RULES[rule](make)
    pattern = rf'The {role} (.*)\. Its contract says: "(.*)"\. (.{{20,}}\.)'
    said, contract, _ = re.fullmatch(pattern, str(error.value), re.DOTALL).groups()
    assert contract in CONTRACT[role]
    return said


# Planners


class NoPlan(ManyBody):
    @hookimpl
    def build_tasks(self, spec, config):
        return [1, 2, 3]


class Remade(ManyBody):
    """A planner whose expansion is changed afterwards."""

    @staticmethod
    def remade(expansion):
        return expansion

    @hookimpl
    def build_tasks(self, spec, config):
        plan = super().build_tasks(spec, config)
        return Plan(spec, self.remade(plan.expansion))


def remade(change):
    return type("Remade", (Remade,), {"remade": staticmethod(change)})


def taken(e, places):
    rows = {name: getattr(e, name)[places] for name in ("mc", "frag", "bas", "coefficients")}
    return attrs.evolve(e, **rows)


class Moody(Remade):
    """Plans in another order each time."""

    order: ClassVar[list[int]] = [0, 1, 2, 3]

    @staticmethod
    def remade(e):
        Moody.order.reverse()
        return taken(e, np.array([*Moody.order, *range(4, len(e))]))


class Merging(ManyBody):
    """A planner that changes what comes in before it is merged."""

    def passed(self, plan, results):
        return results

    @hookimpl
    def merge_results(self, plan, results):
        return super().merge_results(plan, self.passed(plan, results))


class ByArrival(Merging):
    """Takes the first result for the first task."""

    def passed(self, plan, results):
        return (attrs.evolve(result, index=place) for place, result in enumerate(results))


class Hoarding(Merging):
    def passed(self, plan, results):
        return iter(list(results))


class Incurious(Merging):
    """Looks at a few results only."""

    @hookimpl
    def merge_results(self, plan, results):
        next(iter(results))


class Optimistic(Merging):
    """What failed it takes for nothing."""

    def passed(self, plan, results):
        good = {result.index: result for result in results if result.error is None}
        return (good.get(task.index, TaskResult(task.index, {"energy": 0.0})) for task in plan)


class Pessimistic(Merging):
    def passed(self, plan, results):
        return list(results)[1:]


class Hesitant(ManyBody):
    """Leaves pairs open, and chooses as it is told; it adds nothing up without them."""

    answer = staticmethod(lambda plan: plan.undecided)

    @hookimpl
    def build_tasks(self, spec, config):
        plan = super().build_tasks(spec, config)
        return attrs.evolve(plan, undecided=plan.expansion.nbody == 2)

    @hookimpl
    def choose_tasks(self, plan, energies):
        return self.answer(plan)


def hesitant(answer):
    return type("Hesitant", (Hesitant,), {"answer": staticmethod(answer)})


coin = cycle([0, 1])


INPUTS = {
    "default": None,
    "gradient": job(argon(3), bsse=["cp", "nocp", "vmfc"], driver="gradient"),
    "screened": screened({"3": 4e-7}, nfr=5, bsse=["nocp", "cp"], driver="gradient"),
}


@pytest.mark.parametrize("rule", PLANNER_RULES)
@pytest.mark.parametrize("name", INPUTS)
def test_manybody_keeps_every_rule(rule, name):
    """For the kit's own input and for others."""
    rule(ManyBody, spec=INPUTS[name])


@pytest.mark.parametrize(
    ("rule", "planner", "did"),
    [
        ("a_plan_is_made_of_arrays", NoPlan, r"gave \[1, 2, 3\] as its plan, which is no Plan"),
        (
            "a_plan_is_made_of_arrays",
            remade(lambda e: attrs.evolve(e, mc=e.mc.astype(float))),
            "gave its expansion a mc that is no array of whole numbers",
        ),
        (
            "a_plan_is_made_of_arrays",
            remade(lambda e: attrs.evolve(e, coefficients=e.coefficients[1:])),
            "gave its expansion 9 rows of coefficients for 10 tasks",
        ),
        (
            "a_plan_is_made_of_arrays",
            remade(lambda e: taken(e, np.arange(len(e))[::-1])),
            "a task of more fragments stands before one of fewer",
        ),
        (
            "a_plan_is_made_of_arrays",
            remade(lambda e: attrs.evolve(e, bas=np.zeros_like(e.bas))),
            r"planned \[.*\], whose basis leaves out a fragment that is real",
        ),
        ("tasks_are_planned_once", remade(lambda e: taken(e, np.arange(len(e)) // 2 * 2)), r"planned \[.*\] 2 times"),
        ("the_same_input_gives_the_same_plan", Moody, r"at place 0 once, and \[.* another time"),
        (
            "the_same_energies_give_the_same_choice",
            hesitant(lambda plan: plan.undecided & (np.arange(len(plan)) % 2 == next(coin))),
            r"left out \[.*\] one time, and not another",
        ),
        (
            "the_same_energies_give_the_same_choice",
            hesitant(lambda plan: ~plan.undecided),
            r"left out \[.*\], which its plan decides on",
        ),
        (
            "the_same_energies_give_the_same_choice",
            hesitant(lambda plan: [5]),
            r"gave \[5\] as what it leaves out of 10 tasks",
        ),
        ("the_order_of_arrival_does_not_matter", Hesitant, "as the result where nothing had failed"),
        ("the_order_of_arrival_does_not_matter", ByArrival, "gave different results for 4 orders of arrival"),
        ("the_order_of_arrival_does_not_matter", Pessimistic, "as the result where nothing had failed"),
        ("results_are_let_go", Hoarding, "held on to 10 of 10 results while more came"),
        ("results_are_let_go", Incurious, "consumed 0 of 10 results"),
        ("missing_results_are_a_failure", Optimistic, r"gave a result although that of \[.*\] failed"),
    ],
)
def test_a_rule_rejects_planners_that_break_it(rule, planner, did):
    """The sentence says what the planner did."""
    assert re.search(did, rejected("planner", rule, planner), re.DOTALL)


# Reporters


class Telling:
    """A reporter to build on."""

    def __enter__(self):
        self.begun = 0
        return self

    def __exit__(self, *_):
        pass

    @hookimpl
    def report_metrics(self, event):
        self.begun += isinstance(event, RunStarted)
        self.begun -= isinstance(event, RunDone)


class Choosy(Telling):
    """Knows nothing of failures."""

    @hookimpl
    def report_metrics(self, event):
        if isinstance(event, FragmentDone):
            event.result.values["energy"]


class Scribbling(Telling):
    """Counts gradients in thousands."""

    @hookimpl
    def report_metrics(self, event):
        if isinstance(event, FragmentDone) and "gradient" in event.result.values:
            gradient = event.result.values["gradient"]
            gradient *= 1000


class Completist(Telling):
    """Can't bear a run that breaks off."""

    def __exit__(self, *_):
        if self.begun:
            raise ValueError("where is the end?")


@pytest.mark.parametrize("rule", REPORTER_RULES)
@pytest.mark.parametrize("reporter", [lambda: Jsonl("run.jsonl"), Progress, Structlog, Trace, Telling])
def test_reporters_keep_every_rule(rule, reporter):
    """The built-in ones, and the start of the bad ones."""
    rule(reporter)


@pytest.mark.parametrize(
    ("rule", "reporter", "did"),
    [
        ("every_event_is_taken", Choosy, r"raised KeyError: 'energy' for FragmentDone\("),
        ("every_event_is_taken", Scribbling, "raised ValueError: output array is read-only"),
        ("events_are_left_as_they_are", Scribbling, r"changed FragmentDone\("),
        ("a_run_may_break_off", Completist, r"raised ValueError: where is the end\?"),
    ],
)
def test_a_rule_rejects_reporters_that_break_it(rule, reporter, did):
    """The sentence says what the reporter did."""
    assert re.search(did, rejected("reporter", rule, reporter))


# Stores


class Keeping:
    """A good store: results in memory for each folder."""

    shelves: ClassVar[dict] = {}

    def __init__(self, folder):
        self.folder = folder

    @property
    def shelf(self):
        return self.shelves.setdefault(self.folder, {})

    @hookimpl
    def recall_results(self, tasks, keys):
        found = [(task, self.shelf.get(key)) for task, key in zip(tasks, keys, strict=True)]
        return [attrs.evolve(result, index=task.index) for task, result in found if result is not None]

    @hookimpl
    def keep_result(self, task, key, result):
        if result.error is None or key not in self.shelf:
            self.shelf[key] = result


def changed(change):
    """A store that gives back something else than it kept."""

    class Changed(Keeping):
        @hookimpl
        def recall_results(self, tasks, keys):
            return change(super().recall_results(tasks, keys))

    return Changed


class Short(Keeping):
    """Of memory: what another instance kept it does not know."""

    @property
    def shelf(self):
        return self.__dict__.setdefault("own", {})


class ByLabel(Keeping):
    """Takes a key for a formality."""

    @hookimpl
    def recall_results(self, tasks, keys):
        return super().recall_results(tasks, [task.label for task in tasks])

    @hookimpl
    def keep_result(self, task, key, result):
        super().keep_result(task, task.label, result)


class ByBoth(Keeping):
    """Asks for more than the key."""

    @hookimpl
    def recall_results(self, tasks, keys):
        return super().recall_results(tasks, [task.label + key for task, key in zip(tasks, keys, strict=True)])

    @hookimpl
    def keep_result(self, task, key, result):
        super().keep_result(task, task.label + key, result)


class Latest(Keeping):
    """Whatever came last counts."""

    @hookimpl
    def keep_result(self, task, key, result):
        self.shelf[key] = result


class First(Keeping):
    """What is there stays."""

    @hookimpl
    def keep_result(self, task, key, result):
        self.shelf.setdefault(key, result)


class Selfish(Keeping):
    """The first to be there keeps for itself."""

    def __init__(self, folder):
        super().__init__(folder)
        self.seen = None

    @property
    def shelf(self):
        if self.seen is None:
            self.seen = dict(super().shelf)
        return self.seen

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.shelves[self.folder] = self.shelf


class Rounded(Keeping):
    """Writes eight digits."""

    @hookimpl
    def keep_result(self, task, key, result):
        values = {
            name: json.loads(f"{value:.8e}") if name == "energy" else value for name, value in result.values.items()
        }
        super().keep_result(task, key, attrs.evolve(result, values=values))


class Forgiving(Keeping):
    """What failed comes back as a success."""

    @hookimpl
    def keep_result(self, task, key, result):
        super().keep_result(task, key, attrs.evolve(result, error=None))


class Refusing(Keeping):
    """To take errors."""

    @hookimpl
    def keep_result(self, task, key, result):
        super().keep_result(task, key, attrs.evolve(result, values={"energy": result.values["energy"]}))


@pytest.mark.parametrize("rule", STORE_RULES)
@pytest.mark.parametrize("store", [Keeping, lambda folder: Sqlite(folder / "results.store")], ids=["memory", "sqlite"])
def test_stores_keep_every_rule(rule, store):
    """The built-in one, and the start of the bad ones."""
    rule(store)


@pytest.mark.parametrize(
    ("rule", "store", "did"),
    [
        ("what_was_kept_comes_back", Short, r"did not give back the result of \[.*\] that it had kept"),
        ("what_was_kept_comes_back", Rounded, r"gave back the energy -?\d.* for -?\d"),
        (
            "what_was_kept_comes_back",
            changed(lambda found: [attrs.evolve(result, body=None) for result in found]),
            "gave back the body None for b'",
        ),
        (
            "what_was_kept_comes_back",
            changed(lambda found: [attrs.evolve(result, values={}) for result in found]),
            r"gave back TaskResult\(index=0, values={}, .* for TaskResult",
        ),
        (
            "what_was_kept_comes_back",
            changed(lambda found: [attrs.evolve(result, index=result.index + 50) for result in found]),
            "gave a result for a task that it was not asked",
        ),
        ("what_was_kept_comes_back", changed(lambda found: [*found, *found]), "gave two results for one task"),
        ("what_was_kept_comes_back", changed(lambda found: [None]), "gave None, which is no TaskResult"),
        (
            "unknown_tasks_give_nothing",
            changed(lambda found: [TaskResult(0, {"energy": 0.0})]),
            "before it had kept any",
        ),
        ("errors_are_kept", Forgiving, r"for a task that had failed with TaskError\(error_type='random_error'"),
        ("errors_are_kept", Refusing, "raised KeyError: 'energy'"),
        ("several_instances_share_a_place", Selfish, r"did not give back the result of \[.*\] that it had kept"),
        ("keys_decide", ByLabel, "gave results for another model chemistry than that of which it had kept them"),
        ("keys_decide", ByBoth, "gave 0 results for 6 tasks with new labels and indices under known keys"),
        ("a_success_stays", Latest, r"gave back TaskResult\(index=0, values={}, error=TaskError\("),
        ("a_success_stays", First, r"gave back TaskResult\(index=1, values={}, error=TaskError\("),
    ],
)
def test_a_rule_rejects_stores_that_break_it(rule, store, did):
    """The sentence says what the store did."""
    assert re.search(did, rejected("store", rule, store), re.DOTALL)


def test_a_store_that_gives_more_than_was_kept_is_rejected():
    """A result for a task that nobody kept."""

    class Guessing(Keeping):
        @hookimpl
        def recall_results(self, tasks, keys):
            known = super().recall_results(tasks, keys)
            have = {result.index for result in known}
            guesses = [TaskResult(task.index, {"energy": 0.0}) for task in tasks if task.index not in have]
            return known + guesses if known else []

    said = rejected("store", "unknown_tasks_give_nothing", Guessing)
    assert said == "gave 4 results for four tasks of which it had kept one"


# All rules at once


@pytest.mark.parametrize(
    ("check", "make", "rules"),
    [
        (check_planner, ManyBody, PLANNER_RULES),
        (check_reporter, Telling, REPORTER_RULES),
        (check_store, Keeping, STORE_RULES),
    ],
)
def test_a_kit_says_how_each_rule_went(check, make, rules, capsys):
    """A line for each."""
    check(make)
    assert capsys.readouterr().out.splitlines() == [f"kept     {rule.__name__}" for rule in rules]


def test_every_rule_has_a_plugin_that_breaks_it():
    """The tables above leave none out."""
    tests = (
        test_a_rule_rejects_planners_that_break_it,
        test_a_rule_rejects_reporters_that_break_it,
        test_a_rule_rejects_stores_that_break_it,
    )
    assert {case[0] for test in tests for case in test.pytestmark[0].args[1]} == set(RULES)


def test_plugins_are_tried_by_name(capsys):
    """In each of their roles."""
    assert __main__.main(["manybody", "structlog"]) is None
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith("kept")] == ["manybody, planner", "structlog, reporter"]


def test_a_broken_plugin_tried_by_name(install, capsys):
    """The number of rules that it breaks is told at the end."""
    install("strange-reporters", {"choosy": Choosy, "completist": Completist})
    assert __main__.main(["choosy"]) == "3 rules broken"
    assert __main__.main(["completist"]) == "1 rule broken"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "Name one or more plugins: python -m mbexec.testing NAME"),
        (["nobody"], "No plugin named 'nobody' is installed."),
    ],
)
def test_a_plugin_that_is_not_there_to_be_tried(names, said):
    """What to do is told."""
    assert __main__.main(names).startswith(said)


def test_a_store_is_not_tried_by_name(install, capsys):
    """It needs a folder."""
    install("keeping-store", {"keeping": Keeping})
    said = "A store can't be tried by name; call mbexec.testing.check_store in a test."
    assert __main__.main(["keeping"]) == said


def test_the_kits_need_no_test_runner():
    """Importing them imports neither pytest nor QCEngine."""
    script = "import sys, mbexec.testing\nprint(*{'pytest', '_pytest', 'qcengine'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_module_is_a_command():
    """Its exit code says whether anything is wrong."""
    done = subprocess.run([sys.executable, "-m", "mbexec.testing"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "Name one or more plugins: python -m mbexec.testing NAME\n")
