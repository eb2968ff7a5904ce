"""The conformance kit for executors: it accepts good ones, and each rule rejects those that break it."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
import unittest
from functools import partial
from importlib.metadata import entry_points
from typing import ClassVar

import psutil
import pytest

import mbexec
from mbexec import hookimpl, hookspecs, testing
from mbexec.core.manager import find_plugin
from mbexec.testing import EXECUTOR_RULES, __main__, check_executor, executors, processes, stopping
from mbexec.testing.rules import rule
from mbexec.testing.trial import Trial
from tests import executors as tried

BUILT_IN = ["asyncio", "serial", "threads"]
OF_CAPABILITIES = {
    "declarations_hold",
    "closing_cancels",
    "an_interrupt_passes",
    "a_dead_worker_is_not_waited_for",
    "a_dead_worker_costs_its_task_alone",
    "a_hanging_task_is_killed",
    "closing_kills",
    "no_process_is_left",
}
CONTRACT = " ".join(hookspecs.submit_level.__doc__.split())

BREAKING = {
    "declarations_hold": [
        (tried.Vague, "declares can_kill = 'perhaps', which is neither True nor False"),
        (tried.Idle, "declares max_workers = 0, which is no whole number from 1 up"),
        (tried.Boastful, "declares can_kill but not isolates_processes, without which it can't be"),
        (tried.InsideAfterAll, "declares isolates_processes, and runs tasks in the process of the run"),
        (tried.Secretive, "runs tasks in processes of their own, and does not declare isolates_processes"),
    ],
    "each_task_gives_one_result": [
        (tried.Twice, r"gave 2 results for the task \["),
        (tried.Forgetful, r"gave no result for \d+ of 30 tasks"),
        (tried.Strange, r"gave a result for place 1\d\d\d of the plan, which it did not pull"),
        (tried.Nothing, "gave None, which is no TaskResult"),
    ],
    "results_belong_to_their_tasks": [
        (tried.Swapping, r"gave the result of \[.*\], whose index is \d+, the index \d+, which is that of \[")
    ],
    "the_same_bits_as_serial": [(tried.Rounding, "the gradient array.*, which is not the array")],
    "a_failing_task_is_a_result": [
        (tried.Nervous, "raised RuntimeError: The toy fails as it was asked to"),
        (tried.InOwnWords, r"the error TaskError\(error_type='unknown_error', .* for TaskError\(error_type='conv"),
        (tried.GivesUp, "gave no result for 14 of 16 tasks"),
    ],
    "an_empty_level_gives_nothing": [
        (tried.Presuming, "raised RuntimeError: generator raised StopIteration"),
        (tried.Inventive, "gave 1 results for a level without tasks"),
    ],
    "a_level_may_shrink": [
        (tried.Counting, "raised RuntimeError: generator raised StopIteration"),
    ],
    "tasks_are_pulled_as_needed": [(tried.Greedy, "had pulled 4096 tasks without giving their results")],
    "one_thread_pulls": [(tried.PullsElsewhere, "pulled tasks in a thread of its own")],
    "no_more_tasks_at_once_than_workers": [(tried.Crowded, r"ran \d tasks at once where work.workers is 2")],
    "short_tasks_do_not_wait_for_long_ones": [
        (tried.InOrder, "gave 0 of 15 results of short tasks while a long one ran"),
        (tried.InBatches, "gave 0 of 15 results of short tasks while a long one ran"),
    ],
    "draining_finishes_what_was_pulled": [(tried.Hasty, r"gave no result for \d of \d tasks")],
    "closing_cancels": [
        (tried.Stubborn, r"began \d+ tasks after its iterator was closed"),
        (tried.Absent, r"began \d+ tasks after its iterator was closed"),
    ],
    "an_interrupt_passes": [(tried.Deaf, "went on after an interrupt")],
    "an_executor_serves_many_levels": [
        (tried.Faithful, "the gradient None, which is not the"),
        (tried.OnceOnly, "raised RuntimeError: This work has been done"),
    ],
    "surroundings_are_left_as_they_were": [
        (tried.redecorating(tried.change_environment), "left the variable MBEXEC_TESTED as 'yes' where it was None"),
        (tried.redecorating(tried.change_folder), "left the working directory as '/'"),
        (tried.redecorating(tried.change_handler), "left the handler of SIGTERM as"),
        (tried.redecorating(tried.change_start_method), "left multiprocessing's start method as 'spawn' where it was"),
    ],
    "a_dead_worker_is_not_waited_for": [
        (tried.Indifferent, "ended the level as if nothing had happened"),
        (tried.Dropping, "ended the level as if nothing had happened"),
    ],
    "a_dead_worker_costs_its_task_alone": [
        (tried.Unjust, "an error, though only another task is deadly"),
        (tried.Indifferent, r"gave the deadly task \[.*\] a result without an error"),
        (tried.Dropping, r"gave no result for \[.*\], one of 12 tasks of which one is deadly"),
    ],
    "a_hanging_task_is_killed": [
        (tried.Childless, "left a process that a killed task had started behind, with the process id"),
        (tried.Late, r"gave the hanging task \[.*\] a result without an error"),
    ],
    "closing_kills": [
        (tried.Childless, "left a process that a task had started behind"),
        (
            tried.Leisurely,
            "began none of 6 other tasks in 1 idle seconds after its first result, so there was nothing to kill",
        ),
    ],
    "no_process_is_left": [(tried.Haunted, "left a worker behind, with the process id")],
}
HANGING = {
    "a_level_may_shrink": tried.Expecting,
    "a_dead_worker_is_not_waited_for": tried.Waiting,
    "a_hanging_task_is_killed": tried.Patient,
    "closing_kills": tried.Patient,
}
RULES = {rule.__name__: rule for rule in EXECUTOR_RULES}


@pytest.fixture
def _short_waits(monkeypatch):
    """Rules that wait whoever they try wait for less long than with strangers."""
    monkeypatch.setattr(processes, "_TIMEOUT", 1.5)
    monkeypatch.setattr(stopping, "_SETTLED", 0.5)


@pytest.fixture
def _short_grace(_short_waits, monkeypatch):
    """What is left behind or never done is told on sooner; good executors are not to be blamed on a busy machine."""
    monkeypatch.setattr(processes, "_BEGIN", 1.0)
    monkeypatch.setattr(processes, "_GRACE", 1.0)
    monkeypatch.setattr(executors, "_STALLED", 1.0)


@pytest.fixture
def _surroundings(monkeypatch, tmp_path):
    """Put back what executors here change."""
    monkeypatch.setenv("MBEXEC_TESTED", "")
    monkeypatch.delenv("MBEXEC_TESTED")
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    tried.OnceOnly.keys.clear()
    yield
    signal.signal(signal.SIGTERM, before)
    multiprocessing.set_start_method(None, force=True)


@pytest.mark.usefixtures("_short_waits")
@pytest.mark.parametrize("rule", EXECUTOR_RULES)
@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_executors_keep_every_rule(name, rule):
    """Those of mbexec, found by name."""
    rule(find_plugin(name, "executor"))


def test_every_built_in_executor_is_tried():
    """No executor of the distribution is left out."""
    points = [point for point in entry_points(group="mbexec") if point.dist.name == "mbexec"]
    assert [point.name for point in points if hasattr(point.load(), "submit_level")] == BUILT_IN


@pytest.mark.usefixtures("_short_waits")
@pytest.mark.parametrize("rule", sorted(OF_CAPABILITIES))
def test_an_executor_that_can_do_everything_keeps_the_rules_about_it(rule):
    """One process for each task, which can be killed."""
    RULES[rule](tried.OneEach)


@pytest.mark.usefixtures("_short_grace", "_surroundings")
@pytest.mark.parametrize(
    ("rule", "executor", "did"), [(rule, *case) for rule, cases in BREAKING.items() for case in cases]
)
def test_a_rule_rejects_who_breaks_it(rule, executor, did):
    """The sentence says what the executor did, what its contract says, and how to mend it."""
    with pytest.raises(AssertionError) as error:
        RULES[rule](executor)
    said, contract, mend = re.fullmatch(
        r'The executor (.*)\. Its contract says: "(.*)"\. (.*\.)', str(error.value), re.DOTALL
    ).groups()
    assert re.match(f"(.*){did}", said, re.DOTALL)
    assert contract in CONTRACT
    assert len(mend) > 20


@pytest.mark.usefixtures("_short_grace")
@pytest.mark.parametrize("rule", HANGING)
def test_a_rule_may_time_out(rule):
    """The sentence says so, and speaks of patience and a busy machine, not of what the rule asks."""
    with pytest.raises(AssertionError) as error:
        RULES[rule](HANGING[rule], patience=2)
    assert re.fullmatch(
        r"The executor timed out: it did not come to an end within 2 s, the patience of the kit; it waits at .*:\d+\. "
        r"Perhaps it waits for ever\. Perhaps the machine is busy \(load average \d+\.\d\), and it is not to blame: "
        r"have more patience, by check_executor\(\.\.\., patience=20\) or python -m mbexec\.testing --patience 20\.",
        str(error.value),
    )


@pytest.mark.usefixtures("_short_waits")
def test_tasks_may_begin_in_any_order():
    """What is closed after its first result need not have begun with the first task."""
    RULES["closing_cancels"](tried.FirstLast, patience=20)


class Struggling(tried.Pool):
    """Gives results late, for it computes for long before each, as one does who has a tenth of a core."""

    @hookimpl
    def submit_level(self, level, work):
        for place, result in enumerate(super().submit_level(level, work)):
            end = time.thread_time() + 0.2
            while place < 8 and time.thread_time() < end:
                pass
            yield result


@pytest.mark.usefixtures("_short_grace")
def test_nobody_is_blamed_for_taking_long():
    """As long as anything is computed, however slowly, a rule waits: until eight results are there."""
    RULES["short_tasks_do_not_wait_for_long_ones"](Struggling)


class Starting(tried.OneEach):
    """Hears of its first task too late, and of all others in time."""

    deaf: ClassVar[list] = []

    def start(self, task, work):
        connection, running = super().start(task, work)
        if self.deaf:
            return connection, running
        self.deaf.extend(multiprocessing.Pipe())
        return self.deaf[0], running


@pytest.mark.usefixtures("_short_waits")
def test_a_task_that_was_slow_once_may_try_again(monkeypatch):
    """Where a quick task takes too long, the timeout is longer at a second trial."""
    monkeypatch.setattr(processes, "_TIMEOUT", 1.0)
    monkeypatch.setattr(Starting, "deaf", [])
    begin = time.monotonic()
    RULES["a_hanging_task_is_killed"](Starting)
    assert time.monotonic() - begin > 1.0 + 5.0
    for end in Starting.deaf:
        end.close()


@pytest.mark.parametrize("rule", sorted(RULES.keys() - OF_CAPABILITIES - {"imports_are_declared"}))
def test_no_workers_at_all(rule):
    """Whichever rule meets it, the sentence is about what the class says, and not what comes of it."""

    class Nobody(tried.Pool):
        max_workers = 0

    with pytest.raises(AssertionError, match=r"^The executor declares max_workers = 0, which is no whole number"):
        RULES[rule](Nobody)


def test_every_rule_has_someone_who_breaks_it():
    """A rule that nobody can break proves nothing; that of imports has tests of its own."""
    assert BREAKING.keys() == RULES.keys() - {"imports_are_declared"}


SOURCE = """
    import loky
    from mbexec.plugins.serial import Serial

    class Mine(Serial):
        pass
"""


def test_an_import_that_no_distribution_requires_is_found(install, tmp_path):
    """The sentence names it; a requirement, also of a requirement, makes it right."""
    site = install("mine-executor", {"mine": "Mine"}, source=SOURCE)
    metadata = site / "mine_executor-1.0.dist-info" / "METADATA"
    own = metadata.read_text() + "Requires-Dist: mbexec\nRequires-Dist: no-such-thing; python_version < '3'\n"
    metadata.write_text(own)
    mine = find_plugin("mine", "executor")
    with pytest.raises(AssertionError, match=r"^The executor imported loky\. Its contract says: \"import"):
        RULES["imports_are_declared"](mine)
    metadata.write_text(own + "Requires-Dist: mbexec-loky>=0.1\n")
    RULES["imports_are_declared"](mine)


def test_what_a_required_distribution_imports_is_its_own_affair(install):
    """Many import something if it is there, and what that needs; who requires them can't require that."""
    for name, source in [("able", "import chosen"), ("chosen", "import loky")]:
        site = install(name, {}, source=source)
        (site / f"{name}-1.0.dist-info" / "top_level.txt").write_text(f"{name}\n")
    source = "import able\nfrom mbexec.plugins.serial import Serial\n\n\nclass Mine(Serial):\n    pass\n"
    site = install("mine-executor", {"mine": "Mine"}, source=source)
    metadata = site / "mine_executor-1.0.dist-info" / "METADATA"
    own = metadata.read_text() + "Requires-Dist: mbexec\n"
    metadata.write_text(own + "Requires-Dist: able\n")
    mine = find_plugin("mine", "executor")
    RULES["imports_are_declared"](mine)
    metadata.write_text(own + "Requires-Dist: chosen\n")
    with pytest.raises(AssertionError, match=r"^The executor imported able\."):
        RULES["imports_are_declared"](mine)


def test_imports_of_a_class_of_no_distribution_are_not_judged():
    """The reason is given."""
    with pytest.raises(unittest.SkipTest, match="no installed distribution lists its class"):
        RULES["imports_are_declared"](tried.Serial)


def test_an_executor_that_fails_in_a_fresh_process(tmp_path):
    """The last line of what that process said stands in the sentence."""
    with pytest.raises(AssertionError, match=r"failed in a fresh process: .*ZeroDivisionError"):
        RULES["no_process_is_left"](lambda: 1 / 0)


@pytest.mark.parametrize("capability", ["isolates_processes", "survives_worker_death", "can_kill"])
def test_a_rule_for_a_capability_is_skipped_without_it(capability):
    """The reason names the capability."""
    rule = {
        "isolates_processes": "a_dead_worker_is_not_waited_for",
        "survives_worker_death": "a_dead_worker_costs_its_task_alone",
        "can_kill": "closing_kills",
    }[capability]
    with pytest.raises(unittest.SkipTest, match=f"^it does not declare {capability}$"):
        RULES[rule](tried.Serial)


@pytest.mark.usefixtures("_short_grace")
def test_what_runs_one_task_at_a_time_may_have_nothing_to_kill():
    """The rule is skipped, and says why, where nothing runs while a result is looked at."""

    class OneAtATime(tried.Leisurely):
        max_workers = 1

    with pytest.raises(unittest.SkipTest, match=r"^it runs one task at a time, and none while a result is looked at$"):
        RULES["closing_kills"](OneAtATime)


def test_interrupts_are_tried_in_the_main_thread_only():
    """Elsewhere the rule is skipped, as nobody can interrupt another thread."""
    raised = []

    def call():
        try:
            RULES["an_interrupt_passes"](tried.Serial)
        except unittest.SkipTest as why:
            raised.append(str(why))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert raised == ["interrupts reach the main thread only, and this is another"]


@pytest.fixture
def _three_rules(monkeypatch):
    """Quick ones; all of them are tried one by one above."""
    chosen = ("each_task_gives_one_result", "tasks_are_pulled_as_needed", "closing_kills")
    monkeypatch.setattr(testing, "EXECUTOR_RULES", tuple(RULES[name] for name in chosen))


@pytest.mark.usefixtures("_three_rules")
def test_check_executor_says_how_each_rule_went(capsys):
    """A line for each rule, with the reason of those that were skipped."""
    check_executor(find_plugin("serial", "executor"))
    assert capsys.readouterr().out.splitlines() == [
        "kept     each_task_gives_one_result",
        "kept     tasks_are_pulled_as_needed",
        "skipped  closing_kills: it does not declare can_kill",
    ]


@pytest.mark.usefixtures("_three_rules")
def test_check_executor_raises_for_all_that_is_broken(capsys):
    """One error about all rules that were broken, once all have been tried."""
    with pytest.raises(
        AssertionError, match=r"^tasks_are_pulled_as_needed: The executor had pulled 4096 tasks"
    ) as error:
        check_executor(tried.Greedy)
    assert len(str(error.value).splitlines()) == 1
    assert "BROKEN   tasks_are_pulled_as_needed: The executor had pulled" in capsys.readouterr().out


def test_the_place_where_an_executor_waits_is_told():
    """File and line, innermost first."""
    waiting = threading.Event()

    class Waiting(tried.Serial):
        def changed(self, result, work):
            waiting.wait()
            return [result]

    with pytest.raises(
        AssertionError, match=r"within 0\.5 s, the patience of the kit; it waits at .*threading\.py:\d+ <- .*"
    ):
        RULES["each_task_gives_one_result"](Waiting, patience=0.5)
    waiting.set()


def test_an_executor_that_is_a_context_manager_is_entered_and_left():
    """As in a run."""
    seen = []

    class Careful(tried.Serial):
        def __enter__(self):
            seen.append("entered")

        def __exit__(self, *_):
            seen.append("left")

    RULES["each_task_gives_one_result"](Careful)
    assert seen == ["entered", "left"]


def test_a_factory_will_do_for_a_class():
    """Whatever makes the executor, with settings say."""
    RULES["each_task_gives_one_result"](partial(tried.Pool))


def test_a_hook_may_leave_out_arguments_and_return_any_iterator():
    """The kit calls it as a run does."""

    class Plain:
        max_workers = 1

        @hookimpl
        def submit_level(self, work, level):
            return map(work, level)

    RULES["each_task_gives_one_result"](Plain)


def test_a_class_without_the_hook():
    """The mark is forgotten easily."""

    class Unmarked:
        def submit_level(self, level, work):
            return map(work, level)

    with pytest.raises(AssertionError, match=r"has no hook submit_level; mark the method with mbexec\.hookimpl"):
        RULES["each_task_gives_one_result"](Unmarked)


def test_toys_are_let_go_when_a_rule_has_failed():
    """The file that they wait at is gone, also when the verdict is that an executor hangs."""
    gates = []

    @rule("executor", "be quick", "Hurry.")
    def waits(make, gate):
        gates.append(gate)
        while gate.exists():
            time.sleep(0.01)

    with pytest.raises(AssertionError, match=r"did not come to an end within 0\.1 s"):
        waits(tried.Serial, patience=0.1)
    assert not gates[0].exists()


def test_the_toy_spares_the_process_of_the_run():
    """Who asks for a kill where nothing is isolated gets an error."""
    trial = Trial(["deadly"], {"deadly": {"kill": os.getpid()}})
    result = trial.work(trial.plan[0])
    assert "that is the process of the run itself" in result.error.error_message


def test_the_toy_starts_a_child_that_ends_when_the_file_is_gone(tmp_path):
    """Its process id stands in the file until then."""
    path, seen = tmp_path / "gate", []
    trial = Trial(["parent"], {"parent": {"child": str(path)}})

    def open_gate():
        while not path.exists() or not path.read_text().endswith("\n"):
            time.sleep(0.01)
        seen.append(path.read_text())
        path.unlink()

    opener = threading.Thread(target=open_gate, daemon=True)
    opener.start()
    assert trial.work(trial.plan[0]).error is None
    opener.join()
    child, parent = re.fullmatch(r"child (\d+) of (\d+)\n", seen[0]).groups()
    assert int(parent) == os.getpid()
    assert not psutil.pid_exists(int(child))


def test_the_toy_by_name_in_a_job(tables):
    """Anyone can ask for it."""
    tables["program"] = {"program": "toy-potential", "method": "lj-atm", "keywords": {"fail": "random_error"}}
    found = mbexec.run(tables)
    assert {error["error_type"] for error in found.result.error.extras["failed"]} == {"random_error"}
    assert found.result.error.error_message.endswith("The toy fails as it was asked to: random_error.")


ELSEWHERE = {"imports_are_declared", "no_process_is_left"}  # tried in a fresh process, whatever the method here


@pytest.mark.usefixtures("_short_waits", "_surroundings")
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_whatever_start_method_the_parent_has(method, monkeypatch, capsys):
    """The built-in executors keep every rule in a process that is set to another one than fork."""
    chosen = tuple(rule for name, rule in RULES.items() if name not in ELSEWHERE)
    monkeypatch.setattr(testing, "EXECUTOR_RULES", chosen)
    multiprocessing.set_start_method(method, force=True)
    assert __main__.main(BUILT_IN) is None
    assert capsys.readouterr().out.count("kept     the_same_bits_as_serial") == 3
    assert multiprocessing.get_start_method() == method


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_nothing_is_left_by_a_kit_that_is_stopped(number, tmp_path):
    """No folder, whatever rule was tried at that time."""
    command = [sys.executable, "-u", "-m", "mbexec.testing", "threads"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as kit:
        assert kit.stdout.readline() == "threads, executor\n"
        while not list(tmp_path.glob("mbexec-testing-*")):
            time.sleep(0.001)
        kit.send_signal(number)
        _, said = kit.communicate()
    assert (kit.returncode, said) == (128 + number, "")
    assert list(tmp_path.glob("mbexec-testing-*")) == []


def test_the_kit_has_help(capsys):
    """It names the option, and what it is for."""
    with pytest.raises(SystemExit) as left:
        __main__.main(["--help"])
    assert left.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--patience SECONDS how long a rule may take before it has timed out (60); more where the machine" in said


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "long"])
def test_patience_that_is_none(given, capsys):
    """The command says what it was given."""
    with pytest.raises(SystemExit):
        __main__.main(["--patience", given, "serial"])
    assert f"argument --patience: '{given}' must be a number of seconds above 0." in capsys.readouterr().err


@pytest.mark.usefixtures("_three_rules")
def test_patience_on_the_command_line(install, capsys):
    """It is handed on to the rules."""
    install("nap", {"nap": Napping})
    assert __main__.main(["--patience", "0.25", "nap"]) is not None
    said = capsys.readouterr().out
    assert (
        "TIMEOUT  each_task_gives_one_result: The executor timed out: it did not come to an end within 0.25 s," in said
    )


class Napping(tried.Serial):
    def changed(self, result, work):
        time.sleep(0.5)
        return [result]
