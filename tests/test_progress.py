"""The progress reporter: what it counts, what it expects, and what a log file and a terminal show of it."""

from __future__ import annotations

import io
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr
from types import SimpleNamespace

import attrs
import numpy as np
import pytest
from attrs import define
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import mbexec
from mbexec import FragmentDone, FragmentHeld, FragmentStarted, RunStarted, Task, TaskError, TaskResult
from mbexec.core.cost import costs
from mbexec.plugins.progress import Progress
from mbexec.plugins.progress.display import drawn
from mbexec.plugins.progress.estimate import Estimate
from mbexec.plugins.progress.state import State
from mbexec.plugins.progress.words import short, span
from tests.systems import argon, job

# Words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (99.4, "99 s"),
        (100, "1 min 40 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 00 min"),
        (100000, "1 d 03 h"),
        (86400 * 12.5, "12 d 12 h"),
    ],
)
def test_times_are_short(seconds, words):
    """To two places at most."""
    assert span(seconds) == words.replace("1 d 03 h", "27 h 46 min")


@pytest.mark.parametrize(
    ("mc", "frag", "bas", "mcs", "words"),
    [
        ("(auto)", (1, 2, 3), (1, 2, 3), 1, "1-2-3"),
        ("(auto)", (2,), (1, 2, 3), 1, "2@1-2-3"),
        ("mp2", (2,), (2,), 2, "mp2:2"),
        ("(auto)", tuple(range(1, 31)), tuple(range(1, 31)), 1, "1-2-3-...-30"),
        ("(auto)", (7,), tuple(range(1, 31)), 1, "7@1-2-3-...-30"),
    ],
)
def test_labels_are_short(mc, frag, bas, mcs, words):
    """Fragments, and what tells them from others with the same ones."""
    assert short(Task(0, mc, frag, bas), mcs) == words


# What is expected

MIXED = "\n--\n".join(["Ar 0 0 0", "He 0 0 4", "Ne 0 4 0", "Kr 4 0 0", "He 4 4 0", "Ne 4 0 4"])


def planned(**more):
    """A plan of fragments of several sizes."""
    return mbexec.plan(job(MIXED, **{"max_nbody": 3, **more}))


def told(plan, times, *, workers=1, ran=(), running=None, now=None, worker="a"):
    """The outlook when tasks have run, one after the other, and others run since given times."""
    estimate, clock = Estimate(plan, costs(plan), workers), 0.0
    estimate._workers_seen.add("a")
    for index in ran:
        estimate.ran(index, worker, clock, clock + times[index])
        clock += times[index]
    for began in (running or {}).values():
        estimate.began(began)
    return estimate.outlook(clock if now is None else now, running or {})


def test_nothing_is_foretold_before_something_is_measured():
    """The share is that of the costs; what a store gave was not measured."""
    plan = planned()
    estimate = Estimate(plan, costs(plan), 2)
    estimate.reused(0)
    outlook = estimate.outlook(10.0, {})
    assert outlook.left is None
    assert outlook.share == pytest.approx(costs(plan)[0] / costs(plan).sum())
    assert estimate.expected(1) is None


@given(st.data())
def test_times_that_follow_the_law_are_foretold(data):
    """A factor for each class, any power of the cost: once all kinds have run, what is left is known exactly."""
    plan = planned()
    power = data.draw(st.floats(0.2, 1.5))
    times = costs(plan) ** power
    kinds = {cost: index for index, cost in enumerate(costs(plan).tolist())}
    ran = sorted(set(kinds.values()) | set(data.draw(st.lists(st.integers(0, len(plan) - 1)))))
    outlook = told(plan, times, ran=ran)
    left = np.delete(times, ran)
    assert outlook.left == pytest.approx(left.sum(), rel=0.35)  # the power is drawn towards 0.8
    assert 0 <= outlook.share <= 1


def test_seconds_per_unit_of_cost_are_those_of_the_class():
    """A class whose fragments all cost the same is expected to go on as it was, however it compares to others."""
    plan = mbexec.plan(job(argon(6), max_nbody=2))
    nbody = np.asarray(plan.expansion.nbody)
    times = np.where(nbody == 1, 7.0, 2.0)
    outlook = told(plan, times, ran=[0, 1, 6, 7])
    assert outlook.left == pytest.approx(4 * 7.0 + 13 * 2.0)
    assert outlook.shares[1] == pytest.approx(2 / 6)
    assert outlook.shares[2] == pytest.approx(2 / 15)
    assert outlook.share == pytest.approx((14 + 4) / (42 + 30))


def test_a_class_that_has_not_run_is_fitted():
    """The line through the other classes goes through it, near enough."""
    plan = mbexec.plan(job(argon(8), max_nbody=3))
    times = costs(plan) ** 0.8
    nbody = np.asarray(plan.expansion.nbody)
    ran = np.flatnonzero(nbody > 1)
    assert told(plan, times, ran=ran).left == pytest.approx(times[nbody == 1].sum(), rel=0.01)


def test_a_model_chemistry_that_has_not_run_takes_the_law_of_the_others():
    """Until something is known of it, and then its own."""
    program = {
        "high": {"program": "model-potential", "method": "lj-atm"},
        "low": {"program": "model-potential", "method": "lj"},
    }
    plan = mbexec.plan(job(argon(4), program=program, levels={1: "high", 2: "low"}))
    mc = np.asarray(plan.expansion.mc)
    times = np.where(mc == 0, 5.0, 1.0)
    ones = [int(np.flatnonzero(mc == which)[0]) for which in (0, 1)]
    assert told(plan, times, ran=ones[:1]).left > 0
    known = told(plan, times, ran=[*ones, int(np.flatnonzero((mc == 1) & (plan.expansion.nbody == 2))[0])])
    assert known.left == pytest.approx(np.delete(times, [*ones, 0]).sum() - 0.0, rel=0.2)


def test_what_is_left_is_divided_by_how_many_run_at_once():
    """By the workers if they are kept busy, by less if something else takes time; what has run already counts."""
    plan = mbexec.plan(job(argon(5), max_nbody=1))
    estimate = Estimate(plan, costs(plan), 2)
    estimate.ran(0, "a", 0.0, 10.0)
    estimate.ran(1, "b", 0.0, 10.0)
    assert estimate.outlook(10.0, {}).left == pytest.approx(3 * 10 / 2)
    assert estimate.outlook(14.0, {2: 10.0, 3: 10.0}).left == pytest.approx((6 + 6 + 10) / 2)
    idle = Estimate(plan, costs(plan), 2)
    idle.ran(0, "a", 0.0, 10.0)
    assert idle.outlook(20.0, {}).left == pytest.approx(4 * 10 / 0.5)


def test_the_first_fragment_of_a_worker_is_left_out():
    """It may have loaded a program; where there is no other, it counts."""
    plan = mbexec.plan(job(argon(6), max_nbody=1))
    estimate = Estimate(plan, costs(plan), 2)
    estimate.ran(0, "a", 0.0, 10.0)
    estimate.ran(1, "b", 0.0, 12.0)
    estimate.outlook(12.0, {})
    assert estimate.expected(5) == pytest.approx(11.0)
    estimate.ran(2, "a", 10.0, 12.0)
    estimate.outlook(12.0, {})
    assert estimate.expected(5) == pytest.approx(2.0)


def test_no_less_is_left_than_the_longest_takes():
    """However many workers there are."""
    plan = mbexec.plan(job(argon(5), max_nbody=1))
    assert told(plan, [10.0] * 5, workers=4, ran=[0, 1, 2], running={3: 30.0, 4: 30.0}, now=33.0).left >= 7
    assert told(plan, [10.0] * 5, workers=4, ran=range(5)).left == 0


def test_a_fragment_that_takes_too_long_is_not_counted_on():
    """Nobody knows when it ends; no time below zero is left."""
    plan = mbexec.plan(job(argon(3), max_nbody=1))
    assert told(plan, [1.0] * 3, ran=[0, 1], running={2: 2.0}, now=500.0).left == 0


def test_a_plan_without_tasks_and_times_of_zero():
    """Nothing is divided by nothing."""
    plan = mbexec.plan(job(argon(2), max_nbody=1))
    outlook = told(plan, [0.0, 0.0], ran=[0])
    assert outlook.left is None
    assert not math.isnan(outlook.share)


# What is counted


def _started(plan, workers=2, store=""):
    levels = tuple((level.nbody, len(level)) for level in plan.levels)
    return RunStarted("f00d", "threads", workers, levels, plan, None, costs(plan), store)


def _done(task, seconds=1.0, *, reused=False, error=None, ended=None):
    ended = time.time() if ended is None else ended
    failure = TaskError("unknown_error", error) if error else None
    result = TaskResult(task.index, {} if error else {"energy": -1.0}, failure)
    return FragmentDone(task, result, reused, *((0.0, 0.0, 0.0) if reused else (ended, ended - seconds, ended)))


@pytest.fixture
def halfway():
    """A run of four argon atoms up to pairs: four came from a store, two ran, one of which failed, two run."""
    plan = mbexec.plan(job(argon(4), max_nbody=2))
    state = State(_started(plan))
    now = time.time()
    for index in range(4):
        state.take(_done(plan[index], reused=True))
    state.take(FragmentStarted(plan[4], now - 20))
    state.take(FragmentStarted(plan[5], now - 20))
    state.take(_done(plan[4], 1.0))
    state.take(_done(plan[5], 1.0, error="no parameters"))
    state.take(FragmentStarted(plan[6], now - 15))
    state.take(FragmentStarted(plan[7], now - 1))
    return plan, state


def test_what_ran_and_what_was_reused_are_counted_apart(halfway):
    """By nbody and in all; of those that ran, the failed ones."""
    seen = halfway[1].seen(5)
    assert attrs.astuple(seen.counts[1]) == (4, 0, 4, 0, 0)
    assert attrs.astuple(seen.counts[2]) == (6, 2, 0, 1, 0)
    assert attrs.astuple(seen.all) == (10, 2, 4, 1, 0)
    assert seen.all.done == 6


def test_the_longest_running_come_first(halfway):
    """As many as asked for, with how long they were expected to take."""
    seen = halfway[1].seen(1, exact=True)
    assert seen.running == 2
    (longest,) = seen.longest
    assert longest.label == "1-4"
    assert longest.seconds == pytest.approx(15, abs=1)
    assert longest.expected == pytest.approx(1.0)


def test_a_fragment_that_waits_to_run_again_does_not_run(halfway):
    """Its first run kept a worker busy all the same; of several runs of a fragment at once the first counts."""
    plan, state = halfway
    now = time.time()
    state.take(FragmentStarted(plan[6], now))
    assert state.seen(5).longest[0].seconds == pytest.approx(15, abs=1)
    state.take(FragmentHeld(plan[6], TaskResult(6, error=TaskError("random_error", "x")), now - 15, now))
    assert [each.label for each in state.seen(5).longest] == ["2-3"]


def test_estimates_take_little_of_the_time(halfway, monkeypatch):
    """One that takes long is not made again soon; the counts are always those of the moment."""
    plan, state = halfway
    calls = []
    outlook = Estimate.outlook
    monkeypatch.setattr(Estimate, "outlook", lambda *given: calls.append(time.sleep(0.02)) or outlook(*given))
    for _ in range(5):
        state.seen(5)
    assert len(calls) == 1
    state.take(_done(plan[7]))
    assert state.seen(5).all.ran == 3
    state.seen(5, exact=True)
    assert len(calls) == 2


# What is drawn


def lines(state, width, *, elapsed=65.0, ended=False):
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system="standard")
    console.print(drawn(state.seen(5, exact=True), elapsed, 2, width, ended=ended))
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue()).splitlines()


@pytest.mark.parametrize("width", [60, 100, 160])
def test_a_bar_for_each_nbody(halfway, width):
    """Share of the time, fragments done of all, and each kind in a column of its own; no line is too long."""
    shown = lines(halfway[1], width)
    assert max(map(len, shown)) <= min(width, 100) - len("^C^C")
    assert shown[0].split() == ["share", "done", "run", "reused", "failed"]
    assert re.fullmatch(r"1-body +━+ +100% +4/4 +0 +4 +0 *", shown[1])
    assert re.fullmatch(r"2-body +[╸╺━]+ +33% +2/6 +2 +0 +1 *", shown[2])
    assert re.fullmatch(r"all +[╸╺━]+ +\d\d% +6/10 +2 +4 +1 *", shown[3])
    assert re.fullmatch(r"65 s elapsed, about \d+ s left; 2 running, 2 workers *", shown[4])
    assert shown[5].startswith("running  1-4 15 s (expected: 1 s), 2-3 1 s")


def test_columns_that_would_be_empty_are_left_out():
    """Nothing failed, nothing was reused; no time is foretold yet."""
    plan = mbexec.plan(job(argon(3), max_nbody=1))
    shown = lines(State(_started(plan)), 80)
    assert shown[0].split() == ["share", "done"]
    assert re.fullmatch(r"1-body +━+ +0% +0/3 *", shown[1])
    assert shown[2].strip() == "65 s elapsed, time left not known yet; 0 running, 2 workers"
    assert len(shown) == 3


def test_what_is_left_at_the_end(halfway):
    """Bars and time; nothing runs any more."""
    shown = lines(halfway[1], 80, ended=True)
    assert shown[-1].strip() == "65 s elapsed"
    assert "running" not in "".join(shown)


def test_all_is_not_said_before_it_is_so():
    """99% until the last one is done."""
    plan = mbexec.plan(job(argon(40), max_nbody=2))
    state = State(_started(plan))
    for index in range(1, len(plan)):
        state.take(_done(plan[index]))
    assert " 99% " in lines(state, 80)[3]


# A log file


@define
class Log:
    """A stream that is no terminal."""

    text: str = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return False


@pytest.fixture
def log(monkeypatch):
    """A stream to take the place of standard error, in a shell that asks for colours."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    return Log()


def test_a_log_file_has_lines(log):
    """Done of all, share, reused, failed, time left, and what has been running for long; no control characters."""
    plan = mbexec.plan(job(argon(4), max_nbody=2))
    with redirect_stderr(log), Progress(interval=0.0) as progress:
        progress.report_metrics(_started(plan, store="kept.store: 4 results"))
        now = time.time()
        for index in range(4):
            progress.report_metrics(_done(plan[index], reused=True))
        progress.report_metrics(FragmentStarted(plan[5], now - 130))
        progress.report_metrics(_done(plan[4], 10.0, error="no"))
    first, second, *_, last = log.text.splitlines()
    assert first == "Store kept.store: 4 results"
    assert second == "10 fragment calculations on threads, workers: 2"
    words = r"5 of 10 fragment calculations done \(\d+% of the time\), 4 reused, 1 failed"
    assert re.fullmatch(rf"{words}; about \d+ s left; running: 1-3 for 2 min 10 s", last)
    assert re.search(r"[^\x20-\x7e\n]", log.text) is None


def test_what_runs_for_less_than_the_interval_is_not_named(log):
    """It is nothing to worry about."""
    plan = mbexec.plan(job(argon(4), max_nbody=2))
    with redirect_stderr(log), Progress(interval=30.0) as progress:
        progress.report_metrics(_started(plan))
        progress.report_metrics(FragmentStarted(plan[5], time.time() - 29))
        progress.report_metrics(SimpleNamespace())
        progress.report_metrics(_done(plan[4]))
        assert "done" not in log.text
        progress._say()
    assert "running" not in log.text


class Clock(threading.Event):
    """The end of a run, which is waited for without any time going by, until it has been asked for four times."""

    def __init__(self):
        super().__init__()
        self.waits = []

    def wait(self, timeout=None):
        self.waits.append(timeout)
        if len(self.waits) == 4:
            self.set()
        return self.is_set()


def test_fragments_that_do_not_end_are_told_of(log):
    """Also when nothing else happens, less and less often."""
    plan = mbexec.plan(job(argon(2), max_nbody=1))
    with redirect_stderr(log), Progress(interval=5.0) as progress:
        progress._ended = clock = Clock()
        progress.report_metrics(_started(plan))
        progress._thread.join()
    assert clock.waits == [10.0, 20.0, 40.0, 80.0]
    assert log.text.count("0 of 2 fragment calculations done (0% of the time)\n") == 3


def test_a_dumb_terminal_gets_lines(log, monkeypatch):
    """It can't move its cursor."""
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(Log, "isatty", lambda self: True)
    with redirect_stderr(log):
        mbexec.run(job(argon(2), max_nbody=1), executor="serial", reporters=["progress"])
    assert log.text.splitlines() == [
        "2 fragment calculations on serial, workers: 1",
        "2 of 2 fragment calculations done",
    ]


def test_a_run_that_breaks_off_before_it_began(log):
    """Nothing to leave behind."""
    with redirect_stderr(log), Progress() as progress:
        progress.report_metrics(_done(Task(0, "x", (1,), (1,))))
    assert log.text == ""


# A terminal

MBEXEC = f"""{shlex.quote(sys.executable)} -c 'from mbexec.cli import main; main(prog_name="mbexec")'"""
JOB = f'''
[molecule]
geometry = """
{argon(4)}
"""
[mbe]
bsse_type = "nocp"
[program]
program = "gated"
method = "lj"
[run]
workers = 2
'''
GATED = """
    import os
    import time
    from itertools import count

    from mbexec.core.potential import ModelPotential

    begun = count()

    class Gated(ModelPotential):
        \"\"\"The model potential, whose fragments, from the fourth one on, wait while there is a gate.\"\"\"

        name = "gated"

        def compute(self, input_data, config):
            waits = next(begun) > 2
            while waits and os.path.exists("gate"):
                time.sleep(0.01)
            return super().compute(input_data, config)
"""


class Pane:
    """A terminal with a shell in it."""

    def __init__(self, socket, width):
        self.socket = socket
        environ = {**os.environ, "TERM": "xterm-256color"}
        environ.pop("TMUX", None)
        self._tmux(
            "new-session", "-d", "-x", str(width), "-y", "60", "PS1='$ ' exec bash --norc --noprofile", env=environ
        )
        self.until(lambda: self.lines() == ["$"])

    def _tmux(self, *words, env=None):
        command = ["tmux", "-f", "/dev/null", "-S", str(self.socket), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout

    def type(self, *keys):
        self._tmux("send-keys", *keys)

    def lines(self):
        """Of the screen, without what is empty at its end."""
        return self._tmux("capture-pane", "-p").rstrip("\n ").splitlines()

    def text(self):
        return "\n".join(self.lines())

    def modes(self):
        """Whether the cursor is shown, whether the screen is another than the shell's, and the column of the cursor."""
        return self._tmux("display-message", "-p", "#{cursor_flag} #{alternate_on} #{cursor_x}").split()

    def until(self, condition):
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, self.text()
            time.sleep(0.05)

    def close(self):
        self._tmux("kill-server")


@pytest.fixture
def pane(request, tmp_path):
    assert shutil.which("tmux"), "apt-get install tmux"
    opened = Pane(tmp_path / "tmux", getattr(request, "param", 100))
    yield opened
    opened.close()


@pytest.fixture
def command(tmp_path, install):
    """What to type to run the job with these words."""
    site = install("strange-things", {"gated": "Gated"}, source=GATED, group="mbexec.programs")
    (tmp_path / "job.toml").write_text(JOB)
    (tmp_path / "run.sh").write_text(f"export PYTHONPATH={site}\nexec {MBEXEC} run job.toml -e threads $@\n")
    return lambda *words: f"bash run.sh --set mbe.max_nbody={' '.join(words)}"


@pytest.fixture
def running(pane, tmp_path, command):
    """A run in a terminal: monomers were known, three of six dimers ran, and two wait for the gate to be opened."""
    subprocess.run(command("1", "-q"), shell=True, check=True, stdout=subprocess.DEVNULL)
    gate = tmp_path / "gate"
    gate.touch()

    def run(*words):
        pane.type(f"clear; {command('2', *words)}; echo code $?", "Enter")
        pane.until(lambda: re.search(r"running +\d-\d \d+ s \(expected", pane.text()))
        return gate

    yield run
    gate.unlink(missing_ok=True)


def bars(pane):
    return [line for line in pane.lines() if re.match(r"\d-body|all ", line)]


def ended(pane):
    return pane.lines()[-1:] == ["$"] and "\ncode " in pane.text()


@pytest.mark.parametrize("pane", [60, 100], indirect=True)
def test_a_run_in_a_terminal(pane, running):
    """Bars, what runs and for how long, and time left; at the end full bars, tables, and a screen as it was."""
    gate = running()
    middle = pane.text()
    assert pane.modes()[:2] == ["0", "0"]
    assert len(bars(pane)) == 3
    assert re.search(r"share +done +run +reused\n", middle)
    assert re.search(r"1-body +━+ +100% +4/4 +0 +4\n", middle)
    assert re.search(r"2-body +━+[╸╺]?━+ +50% +3/6 +3 +0\n", middle)
    assert re.search(r"all +━+[╸╺]?━+ +\d+% +7/10 +3 +4\n", middle)
    assert re.search(r"\d+ s elapsed, about \d+ s left; 2 running, 2 workers", middle)
    assert re.search(r"running  \d-\d \d+ s \(expected: 1 s\), \d-\d \d+ s", middle)
    gate.unlink()
    pane.until(lambda: ended(pane))
    end = pane.text()
    assert len(bars(pane)) == 3
    assert re.search(r"all +━+ +100% +10/10 +6 +4\n\d+ s elapsed\n", end)
    assert "running" not in end
    assert "6 fragment calculations run, 4 known before on threads" in end.replace("\n", " ")
    assert end.endswith("code 0\n$")
    assert pane.modes() == ["1", "0", "2"]


@pytest.mark.parametrize("pane", [60, 100], indirect=True)
def test_ctrl_c_in_a_terminal(pane, running):
    """What it says stands above the bars, which go on until what runs has ended; the screen is as it was."""
    gate = running()
    pane.type("C-c")
    pane.until(lambda: "Stopping (SIGINT)" in pane.text())
    pane.until(lambda: re.search(r"\d-body", pane.text()))
    assert len(bars(pane)) == 3
    gate.unlink()
    pane.until(lambda: ended(pane))
    assert len(bars(pane)) == 3
    assert "Interrupted: 9 of 10 fragment calculations are done." in pane.text().replace("\n", "")
    assert pane.text().endswith("code 130\n$")
    assert pane.modes() == ["1", "0", "2"]


def test_ctrl_c_twice_in_a_terminal(pane, running):
    """It ends at once; the last line stands below the bars, and the cursor is there."""
    running()
    pane.type("C-c")
    pane.until(lambda: "Stopping (SIGINT)" in pane.text())
    pane.type("C-c")
    pane.until(lambda: ended(pane))
    assert "Interrupted: 7 of 10 fragment calculations are done." in pane.text().replace("\n", "")
    assert pane.text().endswith("code 130\n$")
    assert pane.modes() == ["1", "0", "2"]


def test_log_lines_in_a_terminal(pane, running):
    """They stand above the bars, which are drawn once."""
    gate = running("--set", "run.reporters=[\\'progress\\',\\'structlog\\']")
    gate.unlink()
    pane.until(lambda: ended(pane))
    text = pane.text()
    assert "run_done" in text
    assert len(bars(pane)) == 3
    assert text.index("run_done") < text.index("1-body")
    assert pane.modes() == ["1", "0", "2"]


def test_quietly(command):
    """Nothing but the result."""
    done = subprocess.run(command("2", "-q"), shell=True, check=True, capture_output=True, text=True)
    assert "Energies" in done.stdout
    assert done.stderr == ""


def test_a_run_into_a_log_file(command, tmp_path):
    """Lines of plain text."""
    with (tmp_path / "log").open("w") as log:
        line = command("2", "--no-store")
        subprocess.run(line, shell=True, stderr=log, stdout=subprocess.DEVNULL, check=True)
    assert (tmp_path / "log").read_text() == (
        "10 fragment calculations on threads, workers: 2\n10 of 10 fragment calculations done\n"
    )
