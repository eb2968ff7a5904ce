"""What executors with child processes share: sending results, catching what is printed, ending what was started."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from multiprocessing.connection import Pipe

import attrs
import psutil
import pytest

from mbexec import TaskError, TaskResult
from mbexec.processes import MARK, Surroundings, ending, gone, kill_tree, last_words, packed, runs

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
TOLD = f"""
import os, subprocess, sys, tempfile, time
from multiprocessing.connection import Connection
from mbexec.processes import Inbox

inbox = Inbox(Connection(int(sys.argv[1])), "a mark", [sys.argv[2]])
inbox.open()
while (message := inbox.take()) is not None:
    if message == "wait":
        assert inbox.take(0.05) is None
        inbox.connection.send("nothing came")
    elif message == "work":
        children = [subprocess.Popen({SLEEP}, start_new_session=session).pid for session in (False, True)]
        inbox.connection.send(children)
        time.sleep(1000)
    else:
        message.take_over(sys.argv[2], inbox.mark)
        inbox.connection.send((os.getcwd(), dict(os.environ), sys.path, tempfile.gettempdir()))
inbox.close()
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
def told(tmp_path):
    """A process with an inbox, the pipe to it, and its directory."""
    (folder := tmp_path / "own").mkdir()
    ours, theirs = Pipe()
    words = [sys.executable, "-c", TOLD, str(theirs.fileno()), str(folder)]
    with ours, subprocess.Popen(words, pass_fds=[theirs.fileno()], start_new_session=True) as process:
        theirs.close()
        yield process, ours, folder
        process.kill()


def test_surroundings_are_taken_over(told, tmp_path):
    """But for the directory of temporary files, and the mark; what the other process has not is taken away."""
    process, pipe, folder = told
    there = Surroundings(str(tmp_path), {"PATH": os.environ["PATH"], MARK: "another", "NEW": "1"}, ("/a", "/b"))
    pipe.send(there)
    environment = {"PATH": os.environ["PATH"], MARK: "a mark", "NEW": "1", "TMPDIR": str(folder)}
    assert pipe.recv() == (str(tmp_path), environment, ["/a", "/b"], str(folder))
    pipe.send("wait")
    assert pipe.recv() == "nothing came"
    pipe.close()
    assert process.wait(60) == 0
    assert not folder.exists()


def test_the_empty_entry_of_the_path_is_where_the_process_is(monkeypatch, tmp_path):
    """The other process may be elsewhere when it imports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/a"])
    assert Surroundings.here() == Surroundings(str(tmp_path), dict(os.environ), (str(tmp_path), "/a"))


def test_nobody_works_for_a_process_that_is_gone(told):
    """What runs has a second; then it is killed, with what it has started in whatever session."""
    process, pipe, folder = told
    pipe.send("work")
    children = [psutil.Process(pid) for pid in pipe.recv()]
    pipe.close()
    assert process.wait(60) == -signal.SIGKILL
    assert gone(children, 60.0)
    assert not folder.exists()


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
