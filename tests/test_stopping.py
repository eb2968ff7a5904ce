"""Ctrl-C, SIGTERM and SIGHUP on the command line, with real processes and signals."""

import os
import signal
import subprocess
import time

import psutil
import pytest

from mbexec.cli.count import Count
from mbexec.core import engine
from tests.commands import COMMAND
from tests.systems import argon, job

INTERRUPTED = 130
JOB = f'''
[molecule]
geometry = """
{argon(3)}
"""
[mbe]
bsse_type = "nocp"
[program]
program = "waiter"
[run]
reporters = []
workers = 1
'''
WAITER = """
    import os
    import subprocess
    import sys

    from qcelemental.models.v2 import AtomicInput

    from mbexec.core.potential import ModelPotential

    CHILD = "import sys; print('running', flush=True); sys.stdin.readline()"

    class Waiter:
        \"\"\"The model potential, once a line has come on standard input: in Python, or read by a child process.\"\"\"

        name = "waiter"
        thread_safe = True

        @staticmethod
        def found(raise_error=False):
            return True

        def get_version(self):
            if "EARLY" in os.environ:
                print("running", flush=True)
                sys.stdin.readline()
            return "1"

        def compute(self, input_data, config):
            open(os.environ["BEGUN"], "w").close()
            if input_data.specification.model.method == "child":
                subprocess.run([sys.executable, "-c", CHILD], check=True)
            elif input_data.specification.model.method == "stubborn":
                while subprocess.run([sys.executable, "-c", CHILD]).returncode:
                    pass
            else:
                print("running", flush=True)
                sys.stdin.readline()
            model = {"method": "lj"}
            plain = input_data.specification.model_dump() | {"program": "model-potential", "model": model}
            return ModelPotential().compute(AtomicInput(molecule=input_data.molecule, specification=plain), config)
"""


def told(name, grace=25):
    return f"Stopping ({name}): nothing new is started, what runs has {grace} s to finish. Ctrl-C kills it.\n"


@pytest.fixture
def waiting(tmp_path, install):
    """Start a run in a process group of its own, as a shell does, and give it once a fragment runs."""
    site = install("strange-things", {"waiter": "Waiter"}, source=WAITER, group="mbexec.programs")
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    started = []

    def start(method, executor="threads", grace=25, **more):
        words = ["run", path, "-e", executor, "--set", f"program.method={method}", "--set", f"run.grace={grace}"]
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        begun = tmp_path / "begun"
        environ = {**os.environ, "PYTHONPATH": str(site), "BEGUN": str(begun), **more}
        running = subprocess.Popen(
            [*COMMAND, *map(str, words)], env=environ, text=True, start_new_session=True, **pipes
        )
        started.append(running)
        if executor == "loky":  # whose workers' output is not that of the run
            while not begun.exists():
                time.sleep(0.01)
                assert running.poll() is None
        else:
            assert running.stdout.readline() == "running\n"
        return running

    yield start
    for running in started:
        running.kill()
        running.communicate()


def children(running):
    return psutil.Process(running.pid).children(recursive=True)


def done(number):
    return f"Interrupted: {number} of 7 fragment calculations are done. The same command goes on from there.\n"


@pytest.mark.parametrize(
    ("executor", "method", "name"),
    [
        ("serial", "python", "SIGINT"),
        ("serial", "child", "SIGTERM"),
        ("threads", "python", "SIGINT"),
        ("threads", "child", "SIGINT"),
        ("threads", "python", "SIGTERM"),
        ("threads", "child", "SIGHUP"),
        ("asyncio", "python", "SIGTERM"),
        ("asyncio", "child", "SIGINT"),
    ],
)
def test_what_runs_is_finished(waiting, executor, method, name):
    """A signal, and Ctrl-C as the whole terminal gets it: the fragment that runs ends well, and no other starts."""
    running = waiting(method, executor)
    if name == "SIGINT":
        os.killpg(running.pid, signal.SIGINT)
    else:
        running.send_signal(getattr(signal, name))
    assert running.stderr.readline() == told(name)
    out, errors = running.communicate("go on\n" * 7)
    assert running.returncode == INTERRUPTED
    assert out == ""
    assert errors == done(1)


def test_nothing_is_promised_to_what_has_not_begun(waiting):
    """A run that is still being prepared says so, and starts nothing."""
    running = waiting("python", "serial", EARLY="1")
    running.send_signal(signal.SIGINT)
    begun = "no calculation has begun, and none is started. Ctrl-C ends it at once."
    assert running.stderr.readline() == f"Stopping (SIGINT): {begun}\n"
    _, errors = running.communicate("go on\n" * 7)
    assert running.returncode == INTERRUPTED
    assert errors == done(0)


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio", "loky"])
def test_child_processes_are_killed_after_the_grace_time(waiting, executor):
    """A program that does not end in time goes, and the run ends with it; nothing is left behind, and it says so."""
    running = waiting("child", executor, grace=0.2)
    left = children(running)
    assert left
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == INTERRUPTED
    errors = running.stderr.read()
    assert errors.startswith(told("SIGTERM", 0.2))
    assert errors.endswith(done(0))
    psutil.wait_procs(left, timeout=10)
    assert [process for process in left if process.is_running() and process.status() != "zombie"] == []


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_nothing_starts_after_the_grace_time(waiting, executor):
    """A program that starts a process in place of each that is killed does not get another one."""
    running = waiting("stubborn", executor, grace=0.2)
    begin = time.monotonic()
    running.send_signal(signal.SIGTERM)
    assert running.wait(30) == INTERRUPTED
    assert time.monotonic() - begin < 2.5
    assert running.stdout.read() == ""
    assert running.stderr.read() == told("SIGTERM", 0.2) + done(0)


@pytest.mark.parametrize("executor", ["threads", "asyncio"])
def test_what_cannot_be_killed_is_left_with_the_process(waiting, executor):
    """A fragment inside Python that hangs does not keep the run beyond its grace time."""
    running = waiting("python", executor, grace=0)
    running.stdin.write("go on\n")
    running.stdin.flush()
    assert running.stdout.readline() == "running\n"
    begin = time.monotonic()
    running.send_signal(signal.SIGINT)
    assert running.wait(30) == INTERRUPTED
    assert time.monotonic() - begin < 2.5
    assert running.stderr.read() == told("SIGINT", 0) + done(1)


@pytest.mark.parametrize(
    ("method", "executor"), [("python", "threads"), ("child", "threads"), ("child", "asyncio"), ("child", "loky")]
)
def test_a_second_signal_does_not_wait(waiting, method, executor):
    """Whatever runs ends at once, and the last line says how far it got."""
    running = waiting(method, executor)
    left = children(running)
    running.send_signal(signal.SIGINT)
    assert running.stderr.readline() == told("SIGINT")
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == INTERRUPTED
    assert running.stderr.read() == done(0)
    psutil.wait_procs(left, timeout=10)
    assert [process for process in left if process.is_running() and process.status() != "zombie"] == []


def test_the_last_line():
    """What is done, without failures; how it goes on, if it does; and nothing of what is not known yet."""
    count = Count(kept=False)
    assert count.words() == "Interrupted."
    found = engine.execute(*engine.read_job(job(argon(3) + "\n--\nU 30 0 0", max_nbody=1), {}), watch=count)
    assert found.report.failed == 1
    assert count.words() == "Interrupted: 3 of 4 fragment calculations are done."


def test_a_run_that_ends_well_all_the_same(waiting):
    """Told to stop while its last fragment runs, it shows its result."""
    running = waiting("python", "serial")
    for _ in range(6):
        running.stdin.write("go on\n")
        running.stdin.flush()
        assert running.stdout.readline() == "running\n"
    running.send_signal(signal.SIGINT)
    assert running.stderr.readline() == told("SIGINT")
    out, errors = running.communicate("go on\n")
    assert running.returncode == 0
    assert errors == ""
    assert "no counterpoise correction (nocp)" in out
