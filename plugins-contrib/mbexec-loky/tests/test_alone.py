"""A worker by itself, in a process that has nobody to fork it: what it answers, and what it does when nobody asks."""

from __future__ import annotations

import signal
import subprocess
import sys
from textwrap import dedent

import pytest
from loky_cases import running

HEAD = """
import os, sys, threading, time
from multiprocessing.connection import Pipe
from pathlib import Path
from mbexec.processes import Surroundings
from mbexec.testing.trial import Trial
from mbexec_loky import worker
from mbexec_loky.pipe import Answers

folder = Path(sys.argv[1])
ours, theirs = Pipe()
given = Answers(ours.fileno())
mark = "alone"
temporary = folder / "temporary"
scratch = folder / "scratch"
for directory in (temporary, scratch):
    directory.mkdir()


def begin(key, blob):
    there = (str(temporary), str(scratch), 60, Surroundings.here())
    ours.send(worker.Begin(key, blob, *there))


def begin_tasks(label, toys):
    trial = Trial([label], toys)
    begin(trial.work.key, trial.work.blob)
    task = trial.plan[0]
    ours.send([(task.index, task.mc, task.frag, task.bas)])
"""


@pytest.fixture
def alone(tmp_path):
    """Run a script on a worker; what it wrote to the file `told`, and its exit code."""

    def run(script):
        path = tmp_path / "script.py"
        path.write_text(HEAD + dedent(script))
        done = subprocess.run([sys.executable, path, tmp_path], capture_output=True, text=True, timeout=60)
        assert "Traceback" not in done.stderr, done.stderr
        return (tmp_path / "told").read_text().split("\n"), done.returncode

    return run


def test_a_worker_whose_parent_is_gone_does_not_finish_its_task(alone, tmp_path):
    """It kills what the task has started, removes its files and then kills its own group, itself among it."""
    told, code = alone("""
        gate = folder / "gate"
        gate.touch()
        begin_tasks("hanging", {"hanging": {"child": str(gate)}})

        def leave():
            while not gate.read_text().endswith("\\n"):
                time.sleep(0.01)
            ours.close()

        killed = threading.Event()

        def kill(group, number):  # in place of the end, of which nobody could tell
            (folder / "told").write_text(f"{group == os.getpid()} {number}")
            killed.set()

        os.killpg = kill
        threading.Thread(target=leave).start()
        worker.serve(theirs, mark)
        killed.wait(30)
    """)
    assert (told, code) == ([f"True {int(signal.SIGKILL)}"], 0)
    child = int((tmp_path / "gate").read_text().split()[1])
    assert not running(child)
    assert not (tmp_path / "temporary").exists()
    assert not (tmp_path / "scratch").exists()


def test_a_worker_whose_parent_is_gone_before_it_answers_ends(alone, tmp_path):
    """Without a word, as nobody would hear it; its files go."""
    told, code = alone("""
        begin_tasks("plain", {})
        ours.close()
        worker.serve(theirs, mark)
        (folder / "told").write_text("ended")
    """)
    assert (told, code) == (["ended"], 0)
    assert not (tmp_path / "temporary").exists()


def test_a_worker_tells_of_what_it_can_not_load_and_goes_on(alone):
    """The error goes to the parent as it is; the next message is taken as if nothing had happened."""
    told, code = alone("""
        answers = []

        def parent():
            begin("first", b"no pickle")
            answers.extend(given.take()[0])
            begin("second", None)
            answers.extend(given.take()[0])
            ours.close()

        thread = threading.Thread(target=parent)
        thread.start()
        worker.serve(theirs, mark)
        thread.join()
        (folder / "told").write_text("\\n".join(f"{a[0]} {type(a[-1]).__name__}" for a in answers))
    """)
    assert told == ["failed UnpicklingError", "need str"]
    assert code == 0


def test_a_worker_that_waits_too_long_ends(alone, tmp_path):
    """`idle_timeout` seconds after the last message."""
    told, code = alone("""
        def begin(key, blob):
            there = (str(temporary), str(scratch), 0.2, Surroundings.here())
            ours.send(worker.Begin(key, blob, *there))

        begin("unknown", None)
        worker.serve(theirs, mark)
        (folder / "told").write_text(given.take()[0][0][0])
    """)
    assert (told, code) == (["need"], 0)
    assert not (tmp_path / "temporary").exists()
