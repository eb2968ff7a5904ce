"""What a worker of Parsl's does with messages: with a child process of its own."""

from __future__ import annotations

import os
import sys
import traceback
from multiprocessing import get_context
from textwrap import dedent

import pytest

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

HEAD = """
import os, pickle, signal, time
from pathlib import Path
from mbexec import TaskResult
from mbexec.testing.trial import Trial
from mbexec_parsl import worker
from mbexec_parsl.worker import Worker, execute


def context(trial, **more):
    given = {"key": trial.work.key, "blob": trial.work.blob, "directory": str(gate.parent), "path": ["/no/such/path"]}
    return {**given, "scratch": None, "distributions": ["parsl"], **more}


def tasks(trial, timeout=None, budget=60.0):
    found = [(task.index, task.mc, task.frag, task.bas) for task in trial.plan]
    return {"key": trial.work.key, "tasks": found, "timeouts": {2: timeout}, "budget": budget}


def results(answer):
    return [TaskResult(*pickle.loads(each)) for each in answer["results"]]


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


mine = Worker()
"""


def _exec(script, gate, problem):
    sys.stdout = os.fdopen(1, "w", closefd=False)  # as in a worker, without pytest's own
    try:
        exec(compile(script, "script", "exec"), {"__name__": "script", "gate": gate})
    except BaseException:
        problem.write_text(traceback.format_exc())
        raise


@pytest.fixture
def alone(tmp_path):
    """Run a script on a worker, in a process that has imported what this one has."""

    def run(script):
        gate, problem = tmp_path / "gate", tmp_path / "problem"
        gate.touch()
        process = get_context("fork").Process(target=_exec, args=(HEAD + dedent(script), gate, problem))
        process.start()
        process.join(60)
        assert process.exitcode == 0, problem.read_text() if problem.exists() else "It did not come to an end."

    return run


def test_a_worker_gets_ready_and_runs_tasks(alone):
    """It asks for the context first, tells the versions that it finds, and gives a result for each task."""
    alone("""
        trial = Trial(["plain"] * 4)
        ask = lambda message: pickle.loads(execute(pickle.dumps(message)))
        assert ask(tasks(trial))["need"]
        ready = ask(context(trial))
        assert not ready["need"] and {"Python", "mbexec", "parsl"} <= ready["versions"].keys()
        answer = ask(tasks(trial))
        assert answer["left"] == [] and answer["worker"] == ready["worker"]
        assert [r.values["energy"] for r in results(answer)] == [trial.work(t).values["energy"] for t in trial.plan]
        assert {int(r.worker.split(":")[1]) for r in results(answer)} != {os.getpid()}
    """)


def test_a_worker_that_gets_the_context_with_tasks_runs_them(alone):
    """At once, however often it comes; the context that it keeps, for a next child, is without them."""
    alone("""
        trial = Trial(["plain", "deadly", "plain"], {"deadly": {"kill": 1}})
        for _ in range(2):
            answer = mine.answer(context(trial, **tasks(trial)))
            assert "Python" in answer["versions"] and answer["left"] == [] and not answer["need"]
            assert [trial.label(r.index) for r in results(answer) if r.error] == ["deadly"]
        assert "tasks" not in mine._contexts[trial.work.key]
    """)


def test_a_worker_begins_nothing_when_the_time_is_up(alone):
    """The first task runs however long it takes; those that were not begun are told."""
    alone("""
        trial = Trial(["slow"] * 6, {"slow": {"sleep": 0.2}})
        mine.answer(context(trial))
        answer = mine.answer(tasks(trial, budget=0.3))
        assert 1 <= len(answer["results"]) <= 2
        assert answer["left"] == list(range(len(answer["results"]), 6))
    """)


def test_a_task_that_kills_its_process_fails_alone(alone):
    """The error says how; the others run in another process, and the scratch directories of the first are gone."""
    alone("""
        trial = Trial(["plain", "deadly", "plain", "plain"], {"deadly": {"kill": 1}})
        scratch = gate.with_name("scratch")
        scratch.mkdir()
        mine.answer(context(trial, scratch=str(scratch)))
        first = mine._child.pid
        (files,) = scratch.iterdir()
        found = results(mine.answer(tasks(trial)))
        (failed,) = [r for r in found if r.error]
        assert trial.label(failed.index) == "deadly"
        assert failed.error.error_type == "random_error"
        words = "The process that ran this fragment was killed by signal 9 (SIGKILL); perhaps memory ran out."
        assert failed.error.error_message == words
        assert failed.worker.split(":")[1] == str(first)
        assert len(found) == 4 and not files.exists()
    """)


def test_a_task_that_takes_too_long_is_killed_with_its_children(alone):
    """The others run, and the error names the setting."""
    alone("""
        trial = Trial(["plain", "hanging", "plain"], {"hanging": {"child": str(gate)}})
        mine.answer(context(trial))
        found = results(mine.answer(tasks(trial, timeout=1.0)))
        (failed,) = [r for r in found if r.error]
        assert trial.label(failed.index) == "hanging" and failed.error.error_type == "resource_error"
        assert failed.error.error_message == "This fragment took longer than task.timeout = 1 s and was killed."
        child = int(gate.read_text().split()[1])
        assert len(found) == 3 and not lives(child)
    """)


def test_a_retry_starts_the_clock_anew(alone):
    """`task.timeout` is for an attempt; the time between two does not count."""
    alone("""
        import attrs
        from mbexec.core.settings import TaskSettings
        from mbexec.testing.trial import work_of

        trial = Trial(["shy"], {"shy": {"sleep": 0.4, "fail": "random_error"}})
        trial.work = work_of(trial.plan, TaskSettings(ncores=1, memory=1.0, retries=1, timeout=1.0), 1)
        mine.answer(context(trial))
        (found,) = results(mine.answer(tasks(trial, timeout=1.0)))
        assert found.error.error_type == "random_error"  # after 0.4 + 0.5 + 0.4 s
    """)


def test_what_is_printed_comes_back(alone):
    """With the result of the task; the end of it in the error where the process died."""
    alone("""
        from mbexec.testing import programs

        programs._DEEDS = {**programs._DEEDS, "sleep": print}
        toys = {"loud": {"sleep": "hear"}, "louder": {"sleep": "x" * 99_999 + "end"}}
        toys["last"] = {"sleep": "y" * 3000 + "words", "kill": 1}
        trial = Trial(["loud", "louder", "plain", "last"], toys)
        mine.answer(context(trial))
        found = {trial.label(r.index): r for r in results(mine.answer(tasks(trial)))}
        assert found["loud"].output == "hear\\n" and found["plain"].output == ""
        assert found["louder"].output.startswith("...xx") and found["louder"].output.endswith("end\\n")
        assert found["last"].error.error_message.endswith(" The last that it printed:\\n..." + "y" * 1995 + "words")
    """)


def test_a_worker_knows_the_last_few_contexts(alone):
    """The one that it has known longest is asked for again; all that it knows give their own results."""
    alone("""
        trials = [Trial(["slow"] * 3, {"slow": {"sleep": n / 1000}}) for n in range(5)]
        for trial in trials:
            mine.answer(context(trial))
        assert mine.answer(tasks(trials[0]))["need"]
        for trial in trials[1:]:
            found = results(mine.answer(tasks(trial)))
            assert [r.values for r in found] == [dict(trial.work(task).values) for task in trial.plan]
    """)


def test_a_process_that_dies_between_tasks_is_replaced(alone):
    """No task is blamed for it."""
    alone("""
        trial = Trial(["plain"] * 3)
        mine.answer(context(trial))
        os.kill(mine._child.pid, 9)
        while not mine._child.connection.poll():
            time.sleep(0.01)
        assert [r.error for r in results(mine.answer(tasks(trial)))] == [None] * 3
    """)


def test_a_context_that_can_not_be_loaded_is_a_problem(alone):
    """It is told with the versions, so that the run can say what is wrong; a process that dies of it, too."""
    alone("""
        trial = Trial(["plain"])
        died = "was killed by signal 9 (SIGKILL); perhaps memory ran out"
        given = mine.answer({**context(trial), "key": "other", "blob": b"no pickle"})
        assert given["versions"]["problem"].startswith("UnpicklingError: ")

        class Deadly:
            def __reduce__(self):
                return signal.raise_signal, (9,)

        given = mine.answer({**context(trial), "blob": pickle.dumps(Deadly())})
        assert given["versions"] == {"problem": f"the process {died}"}
        try:
            mine.answer(tasks(trial))
        except RuntimeError as error:
            assert str(error) == f"No process for fragments can be started: the process {died}"
        else:
            raise AssertionError
    """)


def test_nothing_stays_when_the_worker_is_gone(alone):
    """What runs is killed with its children; directories go; a process that has nothing to do just ends."""
    alone("""
        import tempfile
        tempfile.tempdir = str(gate.parent)
        os.environ["TMPDIR"] = str(gate.parent)
        pids = []
        for labels in (["plain"], ["hanging"]):
            trial = Trial(labels, {"hanging": {"child": str(gate)}})
            there, here = os.pipe()
            pid = os.fork()
            if pid == 0:
                mine.answer(context(trial, scratch=str(gate.parent)))
                os.write(here, str(mine._child.pid).encode())
                if labels == ["plain"]:
                    os._exit(0)
                mine.answer(tasks(trial))
            pids.append(int(os.read(there, 20)))
            if labels == ["hanging"]:
                while not gate.read_text().endswith("\\n"):
                    time.sleep(0.01)
                pids.append(int(gate.read_text().split()[1]))
                os.kill(pid, 9)
            os.waitpid(pid, 0)
        while any(map(lives, pids)):
            time.sleep(0.01)
        while list(gate.parent.glob("mbexec-parsl-*")):
            time.sleep(0.01)
    """)
