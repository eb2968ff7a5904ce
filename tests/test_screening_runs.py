"""Runs in two passes: what runs when, what is left out and how it is counted, stopping, being killed, going on."""

import io
import json
import re
import signal
import threading
from collections import Counter

import numpy as np
import pytest
import structlog
from rich.console import Console

import mbexec
from mbexec import FragmentDone, InputError, LevelDone, PluginError, RunDone, RunStarted, TasksLeftOut, hookimpl
from mbexec.core.engine import execute, read_job
from mbexec.plugins.manybody import ManyBody
from mbexec.plugins.progress.state import State
from mbexec.reports import read_record
from mbexec.reports.data import json_text
from mbexec.reports.markdown import markdown
from mbexec.reports.page import page
from mbexec.tables import results
from tests.restarts import Job, install_all
from tests.systems import argon, job
from tests.test_screening import CHEAP, HIGH, bits, screened

DONE, FAILED = 0, 1
THRESHOLD = {"3": 4e-7}

# The same from everyone


@pytest.fixture(scope="module")
def expected():
    return mbexec.run(screened(THRESHOLD, bsse=["nocp", "cp", "vmfc"], driver="gradient"), executor="serial", workers=1)


@pytest.mark.parametrize("schedule", ["cost", "nbody"])
@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio", "loky"])
def test_every_executor_gives_the_same_bits(executor, schedule, expected):
    """Also the same choice."""
    given = screened(THRESHOLD, bsse=["nocp", "cp", "vmfc"], driver="gradient")
    found = mbexec.run(given, executor=executor, workers=2, schedule=schedule)
    assert bits(found.result) == bits(expected.result)
    assert found.energies.tobytes() == expected.energies.tobytes()
    assert found.result.extras == expected.result.extras
    assert found.report.left_out == expected.report.left_out > 0


@pytest.mark.parametrize("schedule", ["cost", "nbody"])
def test_what_depends_on_the_choice_comes_last(schedule, events):
    """Dear monomers and pairs run with the cheap program's calculations; then it is said what is left out."""
    found = mbexec.run(screened(THRESHOLD, run={"schedule": schedule, "reporters": ["listener"]}))
    (place,) = [i for i, event in enumerate(events) if isinstance(event, TasksLeftOut)]
    before, after = (
        [event.task for event in some if isinstance(event, FragmentDone)] for some in (events[:place], events[place:])
    )
    assert Counter(task.mc for task in before) == {"cheap": 41, "high": 21}
    assert {(task.mc, task.nbody) for task in after} == {("high", 3)}
    assert {task.index for task in (*before, *after)} | set(events[place].indices.tolist()) == set(
        range(len(found.plan))
    )
    assert not {task.index for task in after} & set(events[place].indices.tolist())


# How it is counted


def test_what_is_left_out_is_counted_as_that(events):
    """Neither as executed nor as reused nor as failed; levels end when nothing is left of them."""
    found = mbexec.run(screened(THRESHOLD, run={"reporters": ["listener"]}))
    report, (left_out,) = found.report, [event for event in events if isinstance(event, TasksLeftOut)]
    assert report.left_out == len(left_out.indices) == int(np.isnan(found.energies).sum())
    assert left_out.levels == ((3, report.left_out),)
    assert report.ntasks == 82 == report.executed + report.left_out
    assert (report.reused, report.failed) == (0, 0)
    assert [level.left_out for level in report.levels] == [0, 0, report.left_out]
    assert sorted(event.level.nbody for event in events if isinstance(event, LevelDone)) == [1, 2, 3]
    assert found.result.properties.calcinfo_nmbe == report.executed
    assert report.as_dict()["left_out"] == report.left_out


@pytest.mark.parametrize("executor", ["threads", "asyncio"])
def test_workers_of_the_second_pass_are_those_of_the_first(events, executor):
    """Threads stay, so that a run has no more workers than it says, and its imbalance is that of the whole."""
    found = mbexec.run(screened(THRESHOLD), executor=executor, workers=2, reporters=["listener"])
    assert [event.report.workers for event in events if isinstance(event, RunDone)] == [2]
    ran = [event.result for event in events if isinstance(event, FragmentDone)]
    busy = Counter()
    for result in ran:
        busy[result.worker] += result.wall_time
    assert len(busy) <= 2
    assert found.report.imbalance == pytest.approx(2 * max(busy.values()) / sum(busy.values()) - 1)


def test_a_level_may_end_by_what_is_left_out(events):
    """Nothing of the third order runs after the choice, so that is when it ends."""
    mbexec.run(screened({"3": 1.0}, run={"reporters": ["listener"]}))
    place = next(i for i, event in enumerate(events) if isinstance(event, TasksLeftOut))
    assert [type(event) for event in events[place:]] == [TasksLeftOut, LevelDone, RunDone]
    assert events[place + 1].level.left_out == 20


def test_a_plain_run_says_nothing_of_it(events):
    """Nor is the planner asked."""
    found = mbexec.run(job(argon(4), max_nbody=3, run={"reporters": ["listener"]}))
    assert not [event for event in events if isinstance(event, TasksLeftOut)]
    assert found.report.left_out == 0


def test_progress_counts_what_is_needed(events):
    """As long as it is not known, the time left is a limit; then what is left out is out of every count."""
    mbexec.run(screened(THRESHOLD, run={"reporters": ["listener"]}))
    state = State(next(event for event in events if isinstance(event, RunStarted)))
    place = next(i for i, event in enumerate(events) if isinstance(event, TasksLeftOut))
    for event in events[:place]:
        state.take(event)
    seen = state.seen(5, exact=True)
    assert (seen.undecided, seen.all.total, seen.all.done) == (True, 82, 62)
    left_out = len(events[place].indices)
    state.take(events[place])
    after = state.seen(5, exact=True)
    assert (after.undecided, after.all.total, after.all.left_out) == (False, 82 - left_out, left_out)
    assert after.outlook.share > seen.outlook.share
    assert after.outlook.left < seen.outlook.left
    for event in events[place + 1 :]:
        state.take(event)
    end = state.seen(5, exact=True)
    assert (end.all.done, end.outlook.share, end.outlook.left) == (82 - left_out, 1.0, 0.0)


def test_lines_of_progress(capsys):
    """Where there is no terminal."""
    found = mbexec.run(screened(THRESHOLD), reporters=["progress"], **{"plugin.progress.interval": 0})
    lines = capsys.readouterr().err.splitlines()
    left_out = found.report.left_out
    assert any("; at most about " in line for line in lines)
    assert lines[-1] == f"{82 - left_out} of {82 - left_out} fragment calculations done, {left_out} left out"


def test_log(events):
    """An event of its own, and a figure of level and run."""
    with structlog.testing.capture_logs() as log:
        found = mbexec.run(screened(THRESHOLD), reporters=["structlog"])
    told = {line["event"]: line for line in log}
    assert told["tasks_left_out"]["ntasks"] == found.report.left_out
    assert told["run_done"]["left_out"] == found.report.left_out


def test_reports(tmp_path):
    """The record tells it all, and every kind of report shows it; also of a run that broke off."""
    path = tmp_path / "run.jsonl"
    found = mbexec.run(screened(THRESHOLD), reporters=["jsonl"], **{"plugin.jsonl.path": str(path)})
    record, n = read_record(path), found.report.left_out
    (order,) = record.result["screening"]["orders"]
    assert (order["dropped"], order["candidates"]) == (n, 20)
    assert f"All {82 - n} fragment calculations gave results; {n} more were left out by screening." in markdown(record)
    assert f"{order['dropped_sum']:.10f}" in markdown(record)
    shown = page(record)
    assert f"All {82 - n} fragment calculations gave results; {n} more were left out by screening." in shown
    assert f"{order['dropped_sum']:.10f}" in shown
    assert json.loads(json_text(record))["left_out"] == record.left_out
    words = f"sets that add at least (E_h, by cheap): 3-body {THRESHOLD['3']:g}; what it says counts for the others"
    assert words in markdown(record)
    assert words in shown
    whole = record.levels
    lines = [line for line in path.read_text().splitlines() if '"event":"run_done"' not in line]
    path.write_text("\n".join(lines) + "\n")
    broken = read_record(path)
    assert [level["left_out"] for level in broken.levels] == [level["left_out"] for level in whole] == [0, 0, n]
    assert "## Screening" not in markdown(broken)
    assert page(broken)


def test_what_a_supersystem_holds(tmp_path):
    """Where it counts what is left out, tables and reports say so."""
    path = tmp_path / "run.jsonl"
    given = screened({"2": 1e-4, "3": 2e-7}, levels={3: "high", "supersystem": "cheap"}, dropped="ignore")
    found = mbexec.run(given, reporters=["jsonl"], **{"plugin.jsonl.path": str(path)})
    record = read_record(path)
    words = "do not count in their order. The supersystem's contribution holds them, in its own model chemistry."
    console = Console(file=io.StringIO(), width=200)
    console.print(results(found.plan, found.result))
    for seen in (markdown(record), page(record), console.file.getvalue()):
        assert words in seen.replace("&#x27;", "'").replace("&#39;", "'")
        assert "do not count in the result" not in seen


# On the command line, killed and going on

SCREEN = """
[program.high]
program = "counted"
method = "lj-atm"
keywords = {c9 = {Ar = 700.0}}
[program.cheap]
program = "model-potential"
method = "lj-atm"
"""
RUN = """
[mbe.screen]
program = "cheap"
thresholds = {3 = 1e-8}
"""


@pytest.fixture
def counted(tmp_path, install):
    """A job of which the dear program's calculations are counted, and one like it."""
    sites = install_all(install)
    made = [Job(tmp_path / name, sites) for name in ("job", "other")]
    for each in made:
        each.write(6, max_nbody=3, program=SCREEN, run=RUN)
    return made


def outcome(of):
    """Numbers of the result that was written."""
    found = json.loads(of.output.read_text())
    return found["properties"], found["extras"]


def status_of(counted):
    """What status says of all levels: calculations, done, failed, left out, to do."""
    code, out, _ = counted.call("status")
    (row,) = [line.split()[1:] for line in out.splitlines() if line.split()[:1] == ["all"]]
    return code, list(map(int, row))


@pytest.mark.parametrize("place", ["new 3", "new 60", "new 62", "new 63", "new 65"])
def test_a_killed_run_goes_on_with_the_same_choice(counted, place):
    """Within a pass or between them: the same bits, and no dear calculation that was kept runs again."""
    killed, whole = counted
    assert whole.call("run")[0] == DONE
    assert killed.start("run", die=place).wait() == -signal.SIGKILL
    before = killed.kept()
    assert killed.call("run")[0] == DONE
    assert outcome(killed) == outcome(whole)
    assert killed.counts().keys() == whole.counts().keys()
    assert sum(killed.counts().values()) - sum(whole.counts().values()) <= 2 * 2  # what ran, and was not kept yet
    assert before <= killed.kept() == whole.kept()
    code, (ntasks, done, failed, left_out, to_do) = status_of(killed)
    assert (code, ntasks, failed, to_do) == (DONE, 82, 0, 0)
    assert done + left_out == 82
    assert left_out > 0
    begun = killed.begun()
    assert killed.call("run")[0] == DONE
    assert killed.begun() == begun


def test_status_before_the_choice(counted):
    """As long as it can't be known what is left out, all candidates are to do."""
    counted[0].start("run", die="new 3").wait()
    code, out, _ = counted[0].call("status")
    assert code == FAILED
    assert "left out" not in out
    assert out.split()[-3:] == ["3", "0", "79"]


def test_stopping_in_the_first_pass(events):
    """Nothing is chosen, nothing of the second pass runs, and the result says what is missing."""
    program = {"high": {"program": "model-potential", "method": "nonsense"}, "cheap": CHEAP}
    found = mbexec.run(screened(THRESHOLD, program=program, run={"on_error": "stop", "reporters": ["listener"]}))
    assert not found.result.success
    assert not [event for event in events if isinstance(event, TasksLeftOut)]
    assert found.report.left_out == 0
    assert "screening" not in found.result.error.extras
    missing = 82 - found.report.executed + found.report.failed
    assert found.result.error.error_message.startswith(f"{missing} of 82 fragment calculations gave no result.")


@pytest.mark.parametrize(("place", "chosen"), [(1, False), (61, False), (62, True), (64, True)])
def test_a_stop_at_any_time(place, chosen):
    """Asked to stop after so many results: none of the second pass runs unless all of the first were in."""
    stop, seen = threading.Event(), []

    def watch(event):
        seen.append(event)
        if sum(isinstance(each, FragmentDone) for each in seen) == place:
            stop.set()

    found = execute(*read_job(screened(THRESHOLD), {"executor": "serial", "workers": 1}), stop, watch)
    assert not found.result.success
    assert [isinstance(event, TasksLeftOut) for event in seen].count(True) == chosen
    assert (found.report.left_out > 0) == chosen == ("screening" in found.result.error.extras)
    assert found.report.executed == place
    missing = 82 - place - found.report.left_out
    assert found.result.error.error_message.startswith(f"{missing} of {82 - found.report.left_out} fragment")
    assert found.result.error.extras["partial"]["not_run"]["count"] == missing


def test_a_failed_cheap_calculation_keeps_what_it_is_part_of(install):
    """The run gives a result all the same, counts the failure, and warns before it goes on."""
    install("toy", {"picky": "Picky"}, source=PICKY, group="mbexec.programs")
    program = {"high": HIGH, "cheap": {"program": "picky", "method": "lj-atm"}}
    told = re.escape(
        "1 of 41 calculations of 'cheap', which screens, failed, and all that they are part of is computed. "
        'The first, ["cheap", [1, 2], [1, 2]]: ValueError: not these two'
    )
    with pytest.warns(UserWarning, match=f"^{told}$"):
        found = mbexec.run(screened({"3": 1.0}, program=program))
    assert found.result.success
    assert found.report.failed == 1
    kept = {task.frag for task in found.plan if task.mc == "high" and not np.isnan(found.energies[task.index])}
    assert {frag for frag in kept if len(frag) == 3} == {(1, 2, n) for n in range(3, 7)}
    (failed,) = found.result.extras["mbexec"]["failed"]
    assert failed["label"] == '["cheap", [1, 2], [1, 2]]'


PICKY = """
    from mbexec.core.potential import ModelPotential

    class Picky(ModelPotential):
        name = "picky"

        def compute(self, input_data, config):
            if "([0, 1]" in input_data.molecule.name:
                raise ValueError("not these two")
            return super().compute(input_data, config)
"""


# Other planners


class Stranger(ManyBody):
    """The built-in planner with a choice of its own."""

    answer = staticmethod(lambda plan, energies: None)

    @hookimpl
    def choose_tasks(self, plan, energies):
        return self.answer(plan, energies)


@pytest.fixture
def stranger(install, monkeypatch):
    """Choose as the given function does."""
    install("strange-planner", {"stranger": Stranger})

    def choosing(answer):
        monkeypatch.setattr(Stranger, "answer", staticmethod(answer))
        return mbexec.run(screened(THRESHOLD), planner="stranger")

    return choosing


def test_a_planner_that_leaves_nothing_out(stranger):
    """No answer means that everything is needed; what runs in vain does not change the result."""
    found = stranger(lambda plan, energies: None)
    assert found.report.executed == 82
    assert bits(found.result) == bits(mbexec.run(screened(THRESHOLD)).result)


def test_what_a_planner_is_told(stranger):
    """The energies of what has run, and no more; it can't change them."""
    told = []
    found = stranger(lambda plan, energies: told.append(energies))
    (energies,) = told
    assert np.isnan(energies).tolist() == found.plan.undecided.tolist()
    assert not energies.flags.writeable


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            lambda plan, energies: [1, 2],
            r"gave \[1, 2\] as what it leaves out; choose_tasks must return an array of true",
        ),
        (lambda plan, energies: np.zeros(3, dtype=bool), "one for each task of the plan"),
        (lambda plan, energies: np.zeros(len(plan)), "must return an array of true or false"),
        (
            lambda plan, energies: np.ones(len(plan), dtype=bool),
            r'left out \["high", \[1\], \[1\]\], which its plan does not',
        ),
        (lambda plan, energies: 1 / 0, "The planner 'stranger' broke: ZeroDivisionError"),
    ],
)
def test_choices_that_cannot_be(stranger, answer, said):
    """The message names the planner."""
    with pytest.raises(PluginError, match=said):
        stranger(answer)


def test_a_choice_may_be_refused(stranger):
    """What a planner says in mbexec's own words passes."""

    def refuse(plan, energies):
        raise InputError("no")

    with pytest.raises(InputError, match=r"^no$"):
        stranger(refuse)
