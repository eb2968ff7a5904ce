"""What executors with child processes share: sending results, catching what is printed, ending what was started."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys

import attrs
import psutil
import pytest

from mbexec import TaskError, TaskResult
from mbexec.processes import MARK, ending, gone, kill_tree, last_words, packed, runs

SLEEP = [sys.executable, "-S", "-c", "import time; time.sleep(1000)"]
FAMILY = f"""
import subprocess, time
for session in (False, True):
    print(subprocess.Popen({SLEEP}, start_new_session=session).pid, flush=True)
time.sleep(1000)
"""
CAUGHT = """
import ctypes, os, subprocess, sys
from mbexec.processes import catch_output, take_output

said = os.dup(1)
catch_output(sys.argv[1])
libc = ctypes.CDLL(None)
print("in Python")
libc.printf(b"in C\\n")
subprocess.run(["echo", "from a child"], check=True)
os.write(said, repr(sorted(take_output().splitlines())).encode())
assert take_output() == ""
print("x" * 70_000 + "end", end="")
much = take_output()
assert len(much) == 3 + 65_536 and much.startswith("...") and much.endswith("end")
print("last in Python")
libc.printf(b"last in C\\n")
os.kill(os.getpid(), 9)
"""


def test_a_result_arrives_as_it_was():
    """Every field, in whatever order they are declared."""
    error = TaskError("random_error", "it may go better the next time")
    given = TaskResult(7, {"energy": 0.1}, error, 1.0, 2.0, 0.5, "host:1:2", b"{}", ("a note",), "said", 1, 0.25, 1024)
    again = TaskResult(*pickle.loads(packed(given)))
    assert attrs.asdict(again, recurse=False) == attrs.asdict(given, recurse=False)


def test_what_is_printed_is_caught(tmp_path):
    """From Python, C and child processes, in pieces; what a process printed last outlives it, unflushed or not."""
    done = subprocess.run([sys.executable, "-c", CAUGHT, tmp_path], stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "['from a child', 'in C', 'in Python']")
    assert sorted(last_words(str(tmp_path)).splitlines()) == ["last in C", "last in Python"]


def test_no_words(tmp_path):
    """Of a process that printed nothing, or whose files are gone; of much, the end."""
    assert last_words(str(tmp_path)) == ""
    (tmp_path / "output").write_text("x" * 3000)
    assert last_words(str(tmp_path)) == "..." + "x" * 2000


@pytest.fixture
def family():
    """A process with a child in its group and one in a session of its own, all of them marked."""
    mark = f"test-{os.getpid()}"
    environment = {**os.environ, MARK: mark}
    words = [sys.executable, "-c", FAMILY]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True, env=environment) as process:
        members = [psutil.Process(process.pid), *(psutil.Process(int(process.stdout.readline())) for _ in range(2))]
        yield process, mark, members
        for each in members:
            if runs(each):
                each.kill()


@pytest.mark.parametrize("dead", [False, True])
def test_a_process_is_killed_with_all_that_it_started(family, dead):
    """Also what is in a session of its own, and also where the process is dead already and nobody's parent."""
    process, mark, members = family
    if dead:
        process.kill()
        process.wait()
    kill_tree(process.pid, mark)
    process.wait()
    assert [each.pid for each in members if runs(each)] == []


def test_a_process_may_be_spared(family):
    """As one that ends all that it started before itself; others' are not touched."""
    process, mark, members = family
    kill_tree(process.pid, "another mark", spare=True)
    assert [runs(each) for each in members] == [True, False, False]
    kill_tree(process.pid, mark, spare=True)
    assert runs(members[0])


def test_processes_that_stay_are_not_waited_for_for_ever(family):
    """Whether they have ended is told when patience is over."""
    process, _, members = family
    assert not gone(members, 0.05)
    os.killpg(process.pid, signal.SIGKILL)
    members[2].kill()
    assert gone(members, 60.0)


def test_endings_in_words():
    """Memory is what most often is behind signal 9."""
    assert ending(3) == "exited with code 3"
    assert ending(-11) == "was killed by signal 11 (SIGSEGV)"
    assert ending(-9) == "was killed by signal 9 (SIGKILL); perhaps memory ran out"
    assert ending(-63) == "was killed by signal 63 (unknown to Python)"
    assert ending(None) == "ended"
