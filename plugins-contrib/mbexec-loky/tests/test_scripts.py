"""Scripts as people write them: no main guard, things of their own in __main__, other start methods, killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import psutil
import pytest
from loky_cases import bits, job, running, scratch, soon

import mbexec

HEAD = """
import sys
import numpy as np
import mbexec
"""


@pytest.fixture
def script(tmp_path):
    """Write a script, and the command that runs it with this test's temporary directory."""

    def written(text):
        path = tmp_path / "script.py"
        path.write_text(HEAD + dedent(text))
        return [sys.executable, str(path)], {**os.environ, "TMPDIR": str(tmp_path / "tmp")}

    return written


@contextmanager
def started(command, **options):
    """A process that does not outlive the test, whatever comes of that."""
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_any_start_method_and_no_main_guard(method, script):
    """The script's own choice for multiprocessing changes nothing; others here leave it at fork."""
    command, environment = script(f"""
        import multiprocessing
        multiprocessing.set_start_method({method!r})
        found = mbexec.run({job()!r})
        print(found.result.return_result.hex(), found.energies.tobytes().hex())
    """)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    energies = mbexec.run(job(), executor="serial").energies
    assert done.stdout.split()[1] == energies.tobytes().hex()


REGISTERED = """
import qcengine
from mbexec.core.potential import ModelPotential
from qcengine.programs.model import ProgramHarness

scale = 2.0


def of_the_script(value):
    return scale * value


class Mine(ProgramHarness):
    _defaults = {"name": "mine", "scratch": False, "thread_safe": True, "thread_parallel": False,
                 "node_parallel": False, "managed_memory": False}

    @staticmethod
    def found(raise_error=False):
        return True

    def get_version(self):
        return "1.0"

    def compute(self, request, config):
        import qcengine.config
        assert "cpu_brand" in qcengine.config._global_values
        answer = ModelPotential().compute(request, config)
        properties = answer.properties.model_copy(update={"return_energy": of_the_script(answer.return_result)})
        return answer.model_copy(update={"properties": properties})


qcengine.register_program(Mine())
"""


def test_a_harness_of_the_script_reaches_the_workers(script):
    """Its class and what it uses are in __main__, registered with QCEngine at run time."""
    tables = job(program={"program": "mine", "method": "lj"})
    command, environment = script(
        REGISTERED + f"found = mbexec.run({tables!r})\nprint(found.energies.tobytes().hex())\n"
        "print(len({*sys.modules} & {'cpuinfo'}))\n"
    )
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    energies = 2.0 * mbexec.run(job(), executor="serial").energies
    assert done.stdout.split()[0] == energies.tobytes().hex()


@pytest.mark.parametrize("end", ["killed", "left"])
def test_nothing_outlives_a_parent_that_ends_at_once(end, toys, script, tmp_path):
    """By signal 9, or by os._exit: the helper, workers, what they had started and their files go by themselves."""
    command, environment = script(f"""
        import os, threading
        threading.Thread(target=lambda: sys.stdin.readline() and os._exit(3), daemon=True).start()
        mbexec.run({toys.job({"[0, 1]": "hang", "[1, 2]": "hang"})!r})
    """)
    environment["PYTHONPATH"] = str(tmp_path / "site-packages")
    with started(command, env=environment, stdin=subprocess.PIPE, text=True) as parent:
        assert soon(lambda: toys.left.exists() and len(toys.left.read_text().split()) == 4, 30)
        family = [process.pid for process in psutil.Process(parent.pid).children(recursive=True)]
        assert len(family) >= 1 + 2 + 4
        if end == "killed":
            parent.send_signal(signal.SIGKILL)
        else:
            parent.stdin.write("leave\n")
            parent.stdin.flush()
        assert parent.wait(10) == (-signal.SIGKILL if end == "killed" else 3)
        begin = time.monotonic()
        assert soon(lambda: not any(map(running, family)))
        print(f"gone after {time.monotonic() - begin:.2f} s")
    assert toys.orphans() == []
    assert soon(lambda: not scratch())


def test_an_interrupt_of_the_group_reaches_the_parent_only(toys, script, tmp_path):
    """As Ctrl-C at a terminal does: no worker prints a traceback, and nothing is left."""
    command, environment = script(
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where a shell's "&" began
        f"mbexec.run({toys.job({'[0, 1]': 'hang'})!r})"
    )
    environment["PYTHONPATH"] = str(tmp_path / "site-packages")
    with started(command, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True) as parent:
        assert soon(lambda: toys.left.exists() and len(toys.left.read_text().split()) == 2, 30)
        os.killpg(parent.pid, signal.SIGINT)
        _, said = parent.communicate(timeout=30)
    assert said.count("Traceback") == 1
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert toys.orphans() == scratch() == []


def test_a_script_leaves_nothing(script):
    """When it ends, workers do, and their files are gone."""
    command, environment = script(f"""
        import psutil
        mbexec.run({job()!r})
        print(*[child.pid for child in psutil.Process().children(recursive=True)])
    """)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) >= 3
    assert soon(lambda: not any(map(running, pids)))
    assert scratch() == []
    assert Path(environment["TMPDIR"]).is_dir()
    assert bits(mbexec.run(job())) == bits(mbexec.run(job(), executor="serial"))


def test_a_forked_child_has_workers_of_its_own(script):
    """A child of the script leaves its parent's workers alone, and can start some."""
    command, environment = script(f"""
        import os
        first = mbexec.run({job()!r}).energies
        child = os.fork()
        second = mbexec.run({job()!r}).energies
        assert first.tobytes() == second.tobytes()
        if child:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        print("done")
    """)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["done"] * 2
