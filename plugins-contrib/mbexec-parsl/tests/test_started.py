"""How programs of Parsl's are run, so that they end when they should: each in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import psutil
import pytest
from mbexec_parsl import started
from mbexec_parsl.groups import kill_group

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

PROGRAM = """
import multiprocessing, os, sys, tempfile, time
from pathlib import Path

print("said", flush=True)
if __name__ == "__main__" and sys.argv[1] == "wait":
    helper = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
    helper.start()
    Path(sys.argv[2]).write_text(f"{os.getpid()} {os.getsid(0)} {helper.pid} ")
    while True:
        time.sleep(0.01)
"""


def begin(parent, file, folder, *words):
    os.setpgid(0, 0)
    started._PERIOD = 0.05
    started.main(parent, file, folder, "program_of_parsls", words)


def idle():
    time.sleep(1000)


def soon(condition):
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def lives(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Start the program; its process, and what it wrote: its id, its session, and its child."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "program_of_parsls.py").write_text(PROGRAM)
    context, processes = get_context("fork"), []

    def start(parent, file="-", folder="-"):
        noted = tmp_path / "noted"
        process = context.Process(target=begin, args=(parent, file, str(folder), "wait", str(noted)))
        process.start()
        processes.append(process)
        assert soon(lambda: noted.exists() and noted.read_text().count(" ") == 3)
        return process, [int(word) for word in noted.read_text().split()]

    yield start
    for process in processes:
        process.kill()


def test_a_program_ends_with_the_run(run, tmp_path):
    """It, and what it has started, when the process of the run is gone, which leaves it a folder to remove."""
    (folder := tmp_path / "folder").mkdir()
    (folder / "key").touch()
    parent = get_context("fork").Process(target=idle)
    parent.start()
    process, (pid, session, child) = run(parent.pid, folder=folder)
    assert session == os.getsid(0)
    assert lives(pid)
    parent.kill()
    parent.join()
    process.join(60)
    assert process.exitcode == 0
    assert soon(lambda: not lives(child))
    assert not folder.exists()


def test_a_program_ends_when_a_worker_of_it_dies(run, tmp_path):
    """On other machines too, where the process of the run can't be seen; the folder stays, which the run may need."""
    (folder := tmp_path / "folder").mkdir()
    process, (_, _, child) = run(0, folder=folder)
    os.kill(child, signal.SIGKILL)
    process.join(60)
    assert process.exitcode == 0
    assert folder.exists()


def test_a_program_in_a_session_of_its_own(tmp_path, monkeypatch):
    """What it prints goes to a file."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "program_of_parsls.py").write_text(PROGRAM)
    file = tmp_path / "said"

    def leave():
        sys.stdout = os.fdopen(1, "w", closefd=False)
        started.main(os.getpid(), str(file), "-", "program_of_parsls", ["end"])
        assert os.getsid(0) == os.getpid()

    process = get_context("fork").Process(target=leave)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert file.read_text() == "said\n"


def test_a_group_that_does_not_end_is_killed():
    """When patience is over; a group that is gone is no error."""

    def deaf():
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path("ready").touch()
        time.sleep(1000)

    process = get_context("fork").Process(target=deaf)
    process.start()
    assert soon(Path("ready").exists)
    kill_group(process.pid, "nobody", 0.2)
    process.join(10)
    assert process.exitcode == -signal.SIGKILL
    kill_group(process.pid, "nobody", 0.2)
