"""The run loop: what it asks of plugins, what it makes of what they do, and what it leaves behind."""

import asyncio
import math
import os
import threading
import time
import warnings
from itertools import combinations

import attrs
import numpy as np
import pytest
import structlog
from structlog.testing import capture_logs

import mbexec
from mbexec import (
    ExecutorError,
    Expansion,
    FragmentDone,
    FragmentSets,
    FragmentStarted,
    InputError,
    Level,
    LevelDone,
    LevelStarted,
    Plan,
    PluginError,
    ProgramError,
    RunDone,
    RunStarted,
    TaskError,
    TaskResult,
    hookimpl,
)
from mbexec.core.potential import ModelPotential
from mbexec.testing.waiting import until
from tests.systems import WATER_TRIMER, argon, job

EVERYTHING = ["nocp", "cp", "vmfc"]


class Serial:
    """An executor to build on: one fragment after the other."""

    @hookimpl
    def submit_level(self, level, work):
        for task in level:
            yield work(task)


def executor(submit_level):
    """An executor made of a function of level and work."""
    return type("Mine", (), {"submit_level": hookimpl(lambda self, level, work: submit_level(level, work))})


@pytest.fixture
def run_on(tables, install):
    """Run the job on an executor made of a function."""

    def run(submit_level, **settings):
        install("strange-executor", {"mine": executor(submit_level)})
        return mbexec.run(tables, executor="mine", **settings)

    return run


@pytest.fixture
def uranium():
    """A job of three fragments, the second of which the model potential has no parameters for."""
    return job("Ar 0 0 0\n--\nU 0 0 9\n--\nAr 0 0 18", max_nbody=2, run={"executor": "serial"})


# Fragments that fail


def test_fragments_that_fail_are_listed(uranium):
    """A FailedOperation with label, type and message of each, and the input."""
    found = mbexec.run(uranium)
    assert not found.result.success
    assert found.result.input_data == found.plan.spec
    failed = found.result.error.extras["failed"]
    labels = [entry["label"] for entry in failed]
    assert labels == ['["(auto)", [2], [2]]', '["(auto)", [1, 2], [1, 2]]', '["(auto)", [2, 3], [2, 3]]']
    assert {entry["error_type"] for entry in failed} == {found.result.error.error_type} == {"input_error"}
    assert all(entry["error_message"].startswith("The model potential lacks parameters for") for entry in failed)
    assert found.result.error.error_message.startswith(
        f"3 of 6 fragment calculations gave no result. The first, {labels[0]}: The model potential lacks"
    )


def test_the_other_fragments_are_run(uranium):
    """All results that there are come with the failure."""
    found = mbexec.run(uranium)
    there = [task.frag for task, energy in zip(found.plan, found.energies, strict=True) if not math.isnan(energy)]
    assert there == [(1,), (3,), (1, 3)]
    assert (found.report.ntasks, found.report.failed) == (6, 3)
    assert [(level.executed, level.failed) for level in found.report.levels] == [(3, 1), (3, 2)]
    assert found.contributions["nocp"].keys() == {(1,), (3,), (1, 3)}


def test_any_error_of_a_fragment_is_data(tables, run_on):
    """An executor may say that a fragment failed in its own words."""

    def submit_level(level, work):
        for task in level:
            failed = TaskResult(task.index, error=TaskError("random_error", "a cosmic ray"))
            yield failed if task.frag == (1, 2) else work(task)

    found = run_on(submit_level)
    assert found.result.error.extras["failed"] == [
        {"label": '["(auto)", [1, 2], [1, 2]]', "error_type": "random_error", "error_message": "a cosmic ray"}
    ]


# Executors that break


def test_an_executor_that_raises(run_on):
    """The sentence names it and what it raised, which is its cause."""

    def submit_level(level, work):
        yield work(next(level))
        raise OSError("the cable is cut")

    with pytest.raises(ExecutorError) as error:
        run_on(submit_level)
    assert str(error.value) == "The executor 'mine' broke: OSError: the cable is cut"
    assert isinstance(error.value.__cause__, OSError)


def test_an_executor_that_raises_at_once(run_on):
    """Before it has given an iterator."""
    with pytest.raises(ExecutorError, match=r"^The executor 'mine' broke: ZeroDivisionError: division by zero$"):
        run_on(lambda level, work: 1 / 0)


def test_an_executor_that_gives_nothing_to_iterate(run_on):
    """None, say, for want of a yield."""
    with pytest.raises(
        ExecutorError, match=r"^The executor 'mine' broke: TypeError: 'NoneType' object is not iterable"
    ):
        run_on(lambda level, work: None)


def test_an_executor_that_explains_itself(run_on):
    """An ExecutorError of its own passes as it is."""

    def submit_level(level, work):
        raise ExecutorError("The queue of the cluster is closed.")
        yield

    with pytest.raises(ExecutorError, match=r"^The queue of the cluster is closed\.$"):
        run_on(submit_level)


def test_a_result_that_comes_twice(run_on):
    """Each task has one result."""

    def submit_level(level, work):
        for task in level:
            yield work(task)
            yield work(task)

    with pytest.raises(ExecutorError, match=r"^The executor 'mine' gave TaskResult\(index=\d, .*a second result"):
        run_on(submit_level)


@pytest.mark.parametrize("result", [TaskResult(99), TaskResult(-1), None, "done"], ids=["99", "-1", "None", "text"])
def test_a_result_of_no_task(run_on, result):
    """For a task that there is not, or no result at all."""

    def submit_level(level, work):
        for _ in level:
            yield result

    with pytest.raises(ExecutorError) as error:
        run_on(submit_level)
    assert str(error.value) == (
        f"The executor 'mine' gave {result!r:.80}, which is a second result, "
        "one for a task that it did not pull, or none at all."
    )


def test_a_result_of_a_task_that_was_not_pulled(run_on):
    """Results are of tasks that were asked for."""
    with pytest.raises(ExecutorError, match=r"^The executor 'mine' gave TaskResult\(index=0, "):
        run_on(lambda level, work: iter([TaskResult(0)]))


def test_a_result_that_is_lost(run_on):
    """The sentence names the first task that has none."""

    def submit_level(level, work):
        for task in level:
            if task.frag != (2, 3):
                yield work(task)

    with pytest.raises(ExecutorError) as error:
        run_on(submit_level)
    assert str(error.value) == "The executor 'mine' gave no result for [\"(auto)\", [2, 3], [2, 3]]."


def test_tasks_that_are_never_pulled(run_on):
    """An executor that stops early is broken too."""
    with pytest.raises(ExecutorError, match=r"^The executor 'mine' gave no result for"):
        run_on(lambda level, work: iter([work(next(level))]))


def test_an_iterator_is_closed_when_the_run_fails(tables, install):
    """Whatever the reason, the executor hears that nobody wants its results."""
    closed = []

    class Results:
        """An iterator that is no generator."""

        def __init__(self, level, work):
            self.level, self.work = level, work

        def __iter__(self):
            return self

        def __next__(self):
            return self.work(next(self.level))

        def close(self):
            closed.append(True)

    class Broken:
        @hookimpl
        def recall_results(self, tasks, keys):
            return ()

        @hookimpl
        def keep_result(self, task, key, result):
            raise OSError("disk full")

    install("strange-executor", {"mine": executor(Results), "broken": Broken})
    with pytest.raises(PluginError):
        mbexec.run(tables, executor="mine", store="broken")
    assert closed == [True]


# Planners that break


def planner(**methods):
    """A planner that does as manybody does, but for what is given."""
    from mbexec.plugins.manybody import ManyBody

    return type("Mine", (ManyBody,), {name: hookimpl(method) for name, method in methods.items()})


def test_a_planner_that_raises(tables, install):
    """The sentence names it; nothing runs."""

    def build_tasks(self, spec, config):
        return {}["plan"]

    install("strange-planner", {"mine": planner(build_tasks=build_tasks)})
    for command in (mbexec.run, mbexec.plan):
        with pytest.raises(PluginError) as error:
            command(tables, planner="mine")
        assert str(error.value) == "The planner 'mine' broke: KeyError: 'plan'"
        assert isinstance(error.value.__cause__, KeyError)


def test_a_planner_that_refuses(tables, install):
    """An InputError of a planner passes as it is."""

    def build_tasks(self, spec, config):
        raise InputError("Argon is too boring.")

    install("strange-planner", {"mine": planner(build_tasks=build_tasks)})
    with pytest.raises(InputError, match=r"^Argon is too boring\.$"):
        mbexec.run(tables, planner="mine")


def test_a_planner_that_makes_no_plan(tables, install):
    """What came instead is shown."""
    install("strange-planner", {"mine": planner(build_tasks=lambda self, spec, config: None)})
    with pytest.raises(PluginError) as error:
        mbexec.plan(tables, planner="mine")
    assert str(error.value) == "The planner 'mine' gave None as its plan; build_tasks must return a Plan."


def test_a_merger_that_raises(tables, install):
    """The sentence names the planner; the executor is told to stop."""
    left = []

    def merge_results(self, plan, results):
        next(iter(results))
        raise ArithmeticError("too many digits")

    def submit_level(level, work):
        try:
            for task in level:
                yield work(task)
        finally:
            left.append(len(list(level)))

    install("strange-things", {"mine": planner(merge_results=merge_results), "other": executor(submit_level)})
    with pytest.raises(PluginError) as error:
        mbexec.run(tables, planner="mine", executor="other")
    assert str(error.value) == "The planner 'mine' broke: ArithmeticError: too many digits"
    assert left == [5]


def test_a_merger_that_gives_no_result(tables, install):
    """What came instead is shown, and what should."""
    install("strange-planner", {"mine": planner(merge_results=lambda self, plan, results: sum(1 for _ in results))})
    with pytest.raises(PluginError) as error:
        mbexec.run(tables, planner="mine")
    assert str(error.value) == (
        "The planner 'mine' gave 6 as the result; merge_results must return a ManyBodyResult or a FailedOperation."
    )


def test_a_plan_without_tasks(tables, install):
    """Nothing to do is done; the merger says what that means."""

    def build_tasks(self, spec, config):
        return Plan(spec, Expansion.from_tasks(3, []))

    def merge_results(self, plan, results):
        from qcelemental.models.v2 import FailedOperation

        assert list(results) == []
        return FailedOperation(input_data=plan.spec, error={"error_type": "input_error", "error_message": "nothing"})

    install("strange-planner", {"mine": planner(build_tasks=build_tasks, merge_results=merge_results)})
    found = mbexec.run(tables, planner="mine")
    assert found.result.error.error_message == "nothing"
    assert found.report.ntasks == 0


# Reporters


def test_a_reporter_hears_everything(tables, events):
    """The run, its levels and its fragments, in order."""
    found = mbexec.run(tables, reporters=["listener"], schedule="nbody")
    assert [type(event) for event in events if not isinstance(event, FragmentStarted)] == [
        RunStarted,
        *[LevelStarted, *[FragmentDone] * 3, LevelDone] * 2,
        RunDone,
    ]
    started, done = events[0], events[-1]
    assert (started.run_id, started.executor, started.workers) == (done.report.run_id, "serial", 1)
    assert started.levels == ((1, 3), (2, 3))
    assert [event.nbody for event in events if isinstance(event, LevelStarted)] == [1, 2]
    assert [event.task for event in events if isinstance(event, FragmentDone)] == list(found.plan)
    assert [event.level for event in events if isinstance(event, LevelDone)] == list(done.report.levels)
    assert (started.plan, started.config) == (found.plan, found.config)
    assert started.costs.shape == (6,)
    assert not started.costs.flags.writeable
    assert (done.report, done.result) == (found.report, found.result)


def test_a_reporter_hears_of_fragments_that_take_their_time(tables, events, monkeypatch):
    """That they have begun, while they run; each of them once, and none after its end."""
    compute = ModelPotential.compute

    def patient(self, request, config):
        name = request.molecule.name
        assert until(lambda: any(is_about(event, name) for event in list(events)), 10)
        return compute(self, request, config)

    def is_about(event, name):
        zero_based = f"({[i - 1 for i in event.task.frag]}," if isinstance(event, FragmentStarted) else "nothing"
        return zero_based in name

    monkeypatch.setattr(ModelPotential, "compute", patient)
    before = time.time()
    found = mbexec.run(tables, reporters=["listener"])
    started = [event for event in events if isinstance(event, FragmentStarted)]
    assert sorted(event.task.index for event in started) == list(range(len(found.plan)))
    assert all(before <= event.time <= time.time() for event in started)
    for event in started:
        (done,) = [other for other in events if isinstance(other, FragmentDone) and other.task == event.task]
        assert events.index(event) < events.index(done)


def test_a_reporter_does_not_hear_of_what_has_ended(tables, events):
    """Fragments that took no time are not said to run."""
    mbexec.run(tables, reporters=["listener"])
    last = {}
    for event in events:
        if isinstance(event, (FragmentStarted, FragmentDone)):
            last[event.task.index] = type(event)
    assert set(last.values()) == {FragmentDone}


def test_levels_overlap_where_nothing_waits(tables, events):
    """With the usual schedule the costliest level begins first."""
    mbexec.run(tables, reporters=["listener"])
    assert [event.nbody for event in events if isinstance(event, LevelStarted)] == [2, 1]


def test_a_reporter_that_raises_is_left_out(tables, install, events):
    """It is logged, once; the others and the run go on."""
    heard = []

    class Broken:
        @hookimpl
        def report_metrics(self, event):
            heard.append(event)
            raise OSError("no paper")

    install("broken-reporter", {"broken": Broken})
    with capture_logs() as logs:
        found = mbexec.run(tables, reporters=["broken", "listener", "structlog"])
    assert found.result.success
    assert len(heard) == 1
    assert len(events) == 1 + 6 + 2 * 2 + 1
    assert [log for log in logs if log["event"] == "reporter_left_out"] == [
        {"event": "reporter_left_out", "log_level": "warning", "reporter": "broken", "error": "OSError('no paper')"}
    ]
    assert [log["event"] for log in logs][-1] == "run_done"


def test_a_failing_run_is_reported_to_its_end(uranium, events):
    """Failed fragments are fragments that are done."""
    mbexec.run(uranium, reporters=["listener"])
    errors = [event.result.error for event in events if isinstance(event, FragmentDone)]
    assert sum(error is not None for error in errors) == 3
    assert isinstance(events[-1], RunDone)
    assert events[-1].report.failed == 3


# Stores


class Memory:
    """A store that keeps results in a dict by label."""

    def __init__(self):
        self.asked = []
        self.kept = {}

    def plugin(self):
        """The class to install; its instances keep theirs here."""
        memory = self

        class Store:
            @hookimpl
            def recall_results(self, tasks, keys):
                memory.asked.append([task.label for task in tasks])
                pairs = [(task, memory.kept.get(key)) for task, key in zip(tasks, keys, strict=True)]
                return [attrs.evolve(result, index=task.index) for task, result in pairs if result is not None]

            @hookimpl
            def keep_result(self, task, key, result):
                assert task.index == result.index
                memory.kept[key] = result

        return Store


@pytest.fixture
def memory(install):
    """What the store named "memory" knows."""
    memory = Memory()
    install("strange-store", {"memory": memory.plugin()})
    return memory


def test_what_the_store_knows_never_reaches_the_executor(tables, install, memory):
    """The second run pulls only what the first did not keep."""
    pulled = []

    def submit_level(level, work):
        for task in level:
            pulled.append(task.label)
            yield work(task)

    install("strange-executor", {"mine": executor(submit_level)})
    first = mbexec.run(tables, executor="mine", store="memory")
    assert sorted(pulled) == sorted(task.label for task in first.plan)
    pulled.clear()
    forgotten = first.plan[4].label
    (key,) = [key for key, result in memory.kept.items() if result.index == 4]
    del memory.kept[key]
    second = mbexec.run(tables, executor="mine", store="memory")
    assert pulled == [forgotten]
    assert second.energies.tobytes() == first.energies.tobytes()
    assert [(level.executed, level.reused) for level in second.report.levels] == [(0, 3), (1, 2)]


def test_an_executor_is_not_called_for_nothing(tables, install, memory):
    """Nothing is submitted when everything is known."""
    first = mbexec.run(tables, store="memory")
    install("strange-executor", {"mine": executor(lambda level, work: 1 / 0)})
    second = mbexec.run(tables, executor="mine", store="memory")
    assert second.result.return_result == first.result.return_result
    assert (second.report.failed, [level.executed for level in second.report.levels]) == (0, [0, 0])


def test_recalled_results_are_not_kept_again(tables, install):
    """The store is told what it does not know."""
    kept = []

    class Store:
        @hookimpl
        def recall_results(self, tasks, keys):
            return [TaskResult(task.index, {"energy": 0.0}) for task in tasks if task.nbody == 1]

        @hookimpl
        def keep_result(self, task, key, result):
            kept.append(task.nbody)

    install("strange-store", {"memory": Store})
    mbexec.run(tables, store="memory")
    assert kept == [2, 2, 2]


def test_each_result_is_kept_at_once(tables, install, memory):
    """Before the executor goes on to the next."""

    def submit_level(level, work):
        for count, task in enumerate(level):
            assert len(memory.kept) == count
            yield work(task)

    install("strange-executor", {"mine": executor(submit_level)})
    assert mbexec.run(tables, executor="mine", store="memory").result.success


def test_failures_are_kept_too(uranium, memory):
    """What a store makes of them is its own choice."""
    mbexec.run(uranium, store="memory")
    assert sum(result.error is not None for result in memory.kept.values()) == 3


def test_reused_results_are_reported_as_such(tables, memory, events):
    """Reporters can tell them from those that ran."""
    mbexec.run(tables, store="memory", reporters=["listener"])
    assert {event.reused for event in events if isinstance(event, FragmentDone)} == {False}
    events.clear()
    mbexec.run(tables, store="memory", reporters=["listener"])
    assert [event.reused for event in events if isinstance(event, FragmentDone)] == [True] * 6
    assert [type(event) for event in events].count(LevelDone) == 2


def test_a_store_is_asked_in_batches(install, memory):
    """About a thousand tasks at a time, also for gradients and Hessians; and for each task as it is about to run."""
    tables = job(argon(50), max_nbody=2)
    mbexec.run(tables, executor="serial", store="memory")
    assert [len(labels) for labels in memory.asked] == [1000, 1000, 1000, 275, 275, 275] + [1] * 1275


def test_a_store_is_asked_level_by_level(tables, memory):
    """Before each submission, where levels wait for each other."""
    mbexec.run(tables, store="memory", schedule="nbody")
    assert [len(labels) for labels in memory.asked] == [3, 3, 3, 1, 1, 1] * 2


def test_a_store_that_cannot_keep_stops_the_run(tables, install):
    """Going on would waste what it was chosen for."""
    pulled = []

    def submit_level(level, work):
        for task in level:
            pulled.append(task)
            yield work(task)

    class Full(Memory().plugin()):
        @hookimpl
        def keep_result(self, task, key, result):
            raise OSError("disk full")

    install("strange-things", {"full": Full, "mine": executor(submit_level)})
    with pytest.raises(PluginError) as error:
        mbexec.run(tables, executor="mine", store="full")
    assert str(error.value) == "The store 'full' broke: OSError: disk full"
    assert isinstance(error.value.__cause__, OSError)
    assert len(pulled) == 1


def test_a_store_that_cannot_recall_stops_the_run(tables, install):
    """A generator that raises, too."""

    class Unreadable(Memory().plugin()):
        @hookimpl
        def recall_results(self, tasks, keys):
            yield TaskResult(tasks[0].index, {"energy": 0.0})
            raise OSError("disk gone")

    install("strange-things", {"unreadable": Unreadable})
    with pytest.raises(PluginError, match=r"^The store 'unreadable' broke: OSError: disk gone$"):
        mbexec.run(tables, store="unreadable")


@pytest.mark.parametrize(
    "given",
    [[TaskResult(99)], [TaskResult(0, {"energy": 0.0})] * 2, [None]],
    ids=["unknown task", "twice", "no result"],
)
def test_a_store_that_recalls_nonsense(tables, install, given):
    """What it gave is shown."""

    class Confused(Memory().plugin()):
        @hookimpl
        def recall_results(self, tasks, keys):
            return given

    install("strange-things", {"confused": Confused})
    with pytest.raises(PluginError) as error:
        mbexec.run(tables, store="confused")
    assert str(error.value) == (
        f"The store 'confused' gave {given[-1]!r:.80}, which is a second result, "
        "one for a task that it was not asked, or none at all."
    )


def test_a_store_may_know_nothing(tables, install):
    """None is nothing."""

    class Empty(Memory().plugin()):
        @hookimpl
        def recall_results(self, tasks, keys):
            return None

    install("strange-things", {"empty": Empty})
    assert mbexec.run(tables, store="empty").result.success


# Entering and leaving


def context(name, diary, base=Serial, fail=None):
    """A plugin that writes down when it is entered and left."""

    class Mine(base):
        def __enter__(self):
            diary.append(f"enter {name}")
            if fail:
                raise fail

        def __exit__(self, kind, error, trace):
            diary.append(f"leave {name}{f' for {kind.__name__}' if kind else ''}")

    return Mine


class Quiet:
    """A reporter that does nothing."""

    @hookimpl
    def report_metrics(self, event):
        pass


def test_plugins_are_entered_and_left(tables, install):
    """In the order of their roles, and back."""
    diary = []
    install("strange-things", {"one": context("one", diary), "two": context("two", diary, Quiet)})
    mbexec.run(tables, executor="one", reporters=["two"])
    assert diary == ["enter one", "enter two", "leave two", "leave one"]


def test_plugins_are_left_when_the_run_fails(tables, install):
    """They see why."""
    diary = []

    class Broken(Serial):
        @hookimpl
        def submit_level(self, level, work):
            raise OSError("the cable is cut")

    install("strange-things", {"one": context("one", diary, Broken), "two": context("two", diary, Quiet)})
    with pytest.raises(ExecutorError):
        mbexec.run(tables, executor="one", reporters=["two"])
    assert diary == ["enter one", "enter two", "leave two for ExecutorError", "leave one for ExecutorError"]


def test_plugins_are_left_when_the_run_is_interrupted(tables, install):
    """Ctrl-C passes as it is."""
    diary = []

    class Interrupted(Serial):
        @hookimpl
        def submit_level(self, level, work):
            raise KeyboardInterrupt

    install("strange-things", {"one": context("one", diary, Interrupted)})
    with pytest.raises(KeyboardInterrupt):
        mbexec.run(tables, executor="one")
    assert diary == ["enter one", "leave one for KeyboardInterrupt"]


def test_a_plugin_that_cannot_be_entered(tables, install):
    """It is named, and those entered before are left."""
    diary = []
    closed = context("two", diary, Quiet, fail=ConnectionError("no server"))
    install("strange-things", {"one": context("one", diary), "two": closed})
    with pytest.raises(PluginError) as error:
        mbexec.run(tables, executor="one", reporters=["two"])
    assert str(error.value) == "The plugin 'two' broke: ConnectionError: no server"
    assert diary == ["enter one", "enter two", "leave one for PluginError"]


def test_nothing_runs_without_its_program(tables, run_on):
    """A program that is not there is found out before the executor is called."""
    tables["program"]["program"] = "nonesuch"
    with pytest.raises(ProgramError, match=r"^No program named 'nonesuch' is known\."):
        run_on(lambda level, work: 1 / 0)


# Without blocking


def test_arun_equals_run(tables):
    """The same result, to the last bit."""
    found = asyncio.run(mbexec.arun(tables, workers=2, executor="threads"))
    expected = mbexec.run(tables)
    assert found.energies.tobytes() == expected.energies.tobytes()
    assert found.result.properties == expected.result.properties
    assert found.report.executor == "threads"


def test_arun_leaves_the_loop_free(tables, install):
    """Something else can happen in the loop, even what the run waits for."""

    async def both():
        loop, ready = asyncio.get_running_loop(), threading.Event()

        def submit_level(level, work):
            loop.call_soon_threadsafe(ready.set)
            assert ready.wait(30)
            for task in level:
                yield work(task)

        install("strange-executor", {"mine": executor(submit_level)})
        return await mbexec.arun(tables, executor="mine")

    assert asyncio.run(both()).result.success


def test_arun_raises_what_run_raises(tables):
    """Bad input, for one."""
    with pytest.raises(InputError, match="max_nbody = 9"):
        asyncio.run(mbexec.arun(tables, **{"mbe.max_nbody": 9}))


def test_arun_keeps_the_context(tables, install):
    """Variables that the caller bound for its logs reach the reporters."""
    seen = []

    class Listener:
        @hookimpl
        def report_metrics(self, event):
            seen.append(structlog.contextvars.get_contextvars())

    install("strange-reporter", {"listener": Listener})

    async def bound():
        structlog.contextvars.bind_contextvars(request=7)
        await mbexec.arun(tables, reporters=["listener"])

    asyncio.run(bound())
    assert seen[0] == {"request": 7}


@pytest.mark.parametrize("breaks", [False, True], ids=["finishes", "breaks"])
def test_cancelling_arun_starts_nothing_new(tables, install, breaks):
    """What runs is finished, the rest is not begun, and no thread is left, whatever comes of the run."""
    pulled = []
    before = set(threading.enumerate())

    async def cancelled():
        loop = asyncio.get_running_loop()

        def submit_level(level, work):
            for task in level:
                pulled.append(task)
                loop.call_soon_threadsafe(running.cancel)
                assert level._stop.wait(30)
                yield work(task)
                if breaks:
                    raise OSError("the cable is cut")

        install("strange-executor", {"mine": executor(submit_level)})
        loop.set_exception_handler(lambda _, problem: pulled.append(problem))
        running = asyncio.create_task(mbexec.arun(tables, executor="mine"))
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(cancelled())
    assert len(pulled) == 1
    assert set(threading.enumerate()) <= before


def test_runs_at_once_do_not_mix(tables):
    """Each has its own plugins, levels and results."""
    others = [job(argon(nfr), max_nbody=2, run={"executor": "serial"}) for nfr in (2, 3, 4, 5)]

    async def together():
        return await asyncio.gather(*(mbexec.arun(other) for other in others))

    for other, found in zip(others, asyncio.run(together()), strict=True):
        assert found.energies.tobytes() == mbexec.run(other).energies.tobytes()


# Levels


@pytest.fixture
def plan(tables):
    return mbexec.plan(tables)


def level_of(plan, order, stop=None):
    return Level(plan, np.array(order), (stop or threading.Event()).is_set)


def test_a_level_makes_tasks_when_asked(plan, monkeypatch):
    """Not before, and a few hundred at a time."""
    made = []
    make = FragmentSets.at
    monkeypatch.setattr(FragmentSets, "at", lambda sets, indices: made.extend(indices) or make(sets, indices))
    order = [4, 2, 0] * 1000
    level = level_of(plan, order)
    assert len(level) == 3000
    assert made == []
    assert next(level).index == 4
    assert 1 <= len(made) < 600
    assert [task.index for task in level] == order[1:]
    assert list(level) == []


def test_a_plan_makes_many_tasks_as_it_makes_one(plan):
    """In the order that is asked for."""
    order = [5, 0, 3, 3]
    assert list(plan.tasks(np.array(order))) == [plan[index] for index in order]
    assert list(plan) == [plan[index] for index in range(len(plan))]


def test_a_level_ends_early_when_the_run_is_stopped(plan):
    """Nothing new starts; what was pulled must still come."""
    stop = threading.Event()
    level = level_of(plan, [4, 2, 0], stop)
    before = time.time()
    task = next(level)
    assert not level.draining
    stop.set()
    assert level.draining
    assert list(level) == []
    assert level.unfinished() == [task]
    done, pulled = level.done(task.index)
    assert done is task
    assert before <= pulled <= time.time()
    assert level.done(task.index) is None
    assert level.unfinished() == []


def test_costliest_first(tables, run_on):
    """One submission, those with most fragments in their basis first."""
    submissions = []

    def submit_level(level, work):
        tasks = list(level)
        submissions.append([task.frag for task in tasks])
        return map(work, tasks)

    tables["mbe"]["max_nbody"] = 3
    run_on(submit_level)
    assert submissions == [[(1, 2, 3), (1, 2), (1, 3), (2, 3), (1,), (2,), (3,)]]


def test_level_by_level(tables, run_on):
    """Monomers, dimers, trimers: each a submission of its own that waits for the one before."""
    submissions = []

    def submit_level(level, work):
        tasks = list(level)
        submissions.append([task.frag for task in tasks])
        return map(work, tasks)

    tables["mbe"]["max_nbody"] = 3
    run_on(submit_level, schedule="nbody")
    assert submissions == [[(1,), (2,), (3,)], [(1, 2), (1, 3), (2, 3)], [(1, 2, 3)]]


# Results


def by_hand(plan, energies, treatment):
    """What each set adds beyond its subsets, by the definition: a sum over all subsets with alternating signs."""
    known = {(task.frag, task.bas): energy for task, energy in zip(plan, energies, strict=True)}
    everyone = (1, 2, 3)
    found = {}
    for size in (1, 2, 3):
        for whole in combinations(everyone, size):
            found[whole] = 0.0
            for k in range(1, size + 1):
                for part in combinations(whole, k):
                    counterpoise = everyone if size > 1 else part
                    basis = {"nocp": part, "cp": counterpoise, "vmfc": whole}[treatment]
                    found[whole] += (-1) ** (size - k) * known[part, basis]
    return found


@pytest.mark.parametrize("treatment", EVERYTHING)
def test_contributions_are_inclusion_and_exclusion(treatment):
    """By fragment set, as the definition has it."""
    found = mbexec.run(job(WATER_TRIMER, bsse=EVERYTHING, return_total_data=True), executor="serial")
    expected = by_hand(found.plan, found.energies, treatment)
    assert list(found.contributions[treatment]) == list(expected)
    assert found.contributions[treatment] == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("treatment", EVERYTHING)
def test_contributions_add_up_to_the_interaction_energy(treatment):
    """Those of two and more fragments; with one, to the total."""
    found = mbexec.run(job(WATER_TRIMER, bsse=EVERYTHING, return_total_data=True), executor="serial")
    properties = found.result.properties.model_dump()
    added = found.contributions[treatment]
    interaction = math.fsum(energy for fragments, energy in added.items() if len(fragments) > 1)
    assert interaction == pytest.approx(properties[f"{treatment}_corrected_interaction_energy"], rel=1e-12)
    assert math.fsum(added.values()) == pytest.approx(properties[f"{treatment}_corrected_total_energy"], rel=1e-12)
    pairs = math.fsum(energy for fragments, energy in added.items() if len(fragments) == 2)
    assert pairs == pytest.approx(properties[f"{treatment}_corrected_2_body_contribution_to_energy"], rel=1e-12)


def test_four_bodies_add_nothing():
    """The model potential has pairs and triples."""
    found = mbexec.run(job(argon(4)), executor="serial")
    added = found.contributions["nocp"]
    assert added[1, 2, 3, 4] == pytest.approx(0, abs=1e-15)
    assert abs(added[1, 2, 3]) > 1e-8


def test_the_report_adds_up(tables):
    """Times of levels are those of their fragments."""
    found = mbexec.run(tables)
    report = found.report
    assert [(level.nbody, level.ntasks, level.executed, level.reused, level.failed) for level in report.levels] == [
        (1, 3, 3, 0, 0),
        (2, 3, 3, 0, 0),
    ]
    for level in report.levels:
        assert 0 < level.shortest <= level.typical <= level.longest <= level.wall_time
    assert report.wall_time >= sum(level.wall_time for level in report.levels)
    assert report.ntasks == len(found.plan)


# What is left behind


@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
def test_the_environment_is_as_it_was(tables, install, monkeypatch, fails):
    """During a run a task's cores are in the environment; afterwards what was there before."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    seen = []

    def submit_level(level, work):
        seen.append((os.environ["OMP_NUM_THREADS"], os.environ["MKL_NUM_THREADS"]))
        if fails:
            raise OSError("the cable is cut")
        return map(work, level)

    install("strange-executor", {"mine": executor(submit_level)})
    before = dict(os.environ)
    if fails:
        with pytest.raises(ExecutorError):
            mbexec.run(tables, executor="mine", **{"task.ncores": 2})
    else:
        mbexec.run(tables, executor="mine", **{"task.ncores": 2})
    assert seen == [("2", "2")]
    assert dict(os.environ) == before


def test_threads_are_left_alone_where_tasks_run_in_other_processes(tables, install, monkeypatch):
    """An executor that declares isolates_processes: workers limit their own, and runs may differ in ncores."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    seen = []

    def submit_level(level, work):
        seen.append(os.environ["OMP_NUM_THREADS"])
        yield from map(work, level)

    for name, isolates in (("here", False), ("elsewhere", True)):
        mine = type(name, (executor(submit_level),), {"isolates_processes": isolates})
        install(f"strange-{name}", {name: mine})
        mbexec.run(tables, executor=name, **{"task.ncores": 1})
    assert seen == ["1", "7"]


def test_an_executor_is_started_before_the_input_is_read(tables, install):
    """Whatever comes of that, and only for a run; which executor it is may be said anywhere."""
    started = []

    class Slow(Serial):
        @staticmethod
        def start():
            started.append("early")
            raise RuntimeError("it starts later, then")

    install("strange-slow", {"slow": Slow})
    mbexec.plan(tables, executor="slow")
    assert started == []
    broken = {**tables, "molecule": {"geometry": "no geometry"}}
    with pytest.raises(InputError):
        mbexec.run({**broken, "run": {"executor": "slow"}})
    assert started == ["early"]
    assert mbexec.run(tables, executor="slow").result.success
    assert started == ["early"] * 2


def test_a_timeout_that_nobody_keeps(tables):
    """An executor that can't kill makes task.timeout a promise without a keeper, so it is said."""
    sentence = r"^task\.timeout = 60 has no effect: the executor 'serial' cannot stop a fragment that runs\.$"
    with pytest.warns(UserWarning, match=sentence):
        mbexec.run(tables, **{"task.timeout": 60})


def test_a_timeout_that_the_executor_keeps(tables, install):
    """can_kill is how an executor says that it can."""
    install("strange-executor", {"mine": type("Mine", (Serial,), {"can_kill": True})})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert mbexec.run(tables, executor="mine", **{"task.timeout": 60}).result.success


@pytest.mark.parametrize(("asked", "granted"), [(1, 1), (8, 3)])
def test_an_executor_is_granted_what_it_can_use(tables, install, asked, granted):
    """max_workers is how an executor says how many that is."""
    seen = []

    class Three(Serial):
        max_workers = 3

        @hookimpl
        def submit_level(self, level, work):
            seen.append(work.workers)
            return map(work, level)

    install("strange-executor", {"mine": Three})
    assert mbexec.run(tables, executor="mine", workers=asked).report.workers == granted
    assert seen == [granted]


def test_a_planner_that_does_not_wait_for_its_results_is_named(install, tables):
    """A merger that returns early leaves fragments unrun, which nobody would notice."""
    from qcelemental.models.v2 import FailedOperation

    from mbexec.plugins.manybody import ManyBody

    class Hasty:
        @mbexec.hookimpl
        def build_tasks(self, spec, config):
            return ManyBody().build_tasks(spec, config)

        @mbexec.hookimpl
        def merge_results(self, plan, results):
            next(results)
            return FailedOperation(error={"error_type": "random_error", "error_message": "enough"})

    install("hasty-dist", {"hasty": Hasty})
    with pytest.raises(PluginError, match=r"The planner 'hasty' gave a result when \d+ of \d+ tasks had given none"):
        mbexec.run(tables, planner="hasty", executor="serial")
