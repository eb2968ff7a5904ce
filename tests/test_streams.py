"""Standard output and standard error that are full, closed or gone."""

import errno
import io
import json
import os
import shlex
import subprocess
import sys

import pytest
import structlog

import mbexec
from mbexec import hookimpl
from mbexec.cli.streams import Stream
from tests.systems import argon, job

MBEXEC = f"""{shlex.quote(sys.executable)} -c 'from mbexec.cli import main; main(prog_name="mbexec")'"""
FULL = "Error: standard output can't be written: No space left on device.\n"
CLOSED = "Error: standard output can't be written: Bad file descriptor.\n"


@pytest.fixture
def shell(tmp_path):
    """Run a line of a shell, where $M is mbexec, beside a job."""
    (tmp_path / "job.toml").write_text(
        f'[molecule]\ngeometry = """\n{argon(3)}\n"""\n[mbe]\nbsse_type = "nocp"\n'
        '[program]\nprogram = "model-potential"\nmethod = "lj"\n[run]\nexecutor = "serial"\n'
    )

    def run(line):
        variables = {**os.environ, "COLUMNS": "100"}
        return subprocess.run(line.replace("$M", MBEXEC), shell=True, capture_output=True, text=True, env=variables)

    return run


@pytest.mark.parametrize("words", ["plan job.toml", "plugins", "validate --help"])
def test_standard_output_that_is_full(shell, words):
    """One line on standard error, and exit code 1."""
    done = shell(f"$M {words} >/dev/full")
    assert (done.returncode, done.stderr) == (1, FULL)


def test_standard_output_that_is_closed(shell):
    """The same."""
    done = shell("$M --help >&-")
    assert (done.returncode, done.stderr) == (1, CLOSED)


@pytest.mark.parametrize(("where", "said"), [("/dev/full", FULL), ("&-", CLOSED)])
def test_a_result_that_cannot_be_shown_is_written_and_kept(shell, tmp_path, where, said):
    """The file of -o is complete, and the next run takes everything from the store."""
    done = shell(f"$M run job.toml -q -o result.json >{where}")
    assert (done.returncode, done.stderr) == (1, said)
    assert json.loads((tmp_path / "result.json").read_text())["success"] is True
    assert "0 fragment calculations run, 7 known before" in shell("$M run job.toml -q").stdout


def test_the_code_of_what_went_wrong_before(shell):
    """Bad input is bad input, wherever it is told."""
    assert shell("$M plan nowhere.toml >/dev/full").returncode == 2


def test_a_pipe_that_is_closed(shell):
    """As head closes it: quietly."""
    done = shell("{ sleep 0.1; $M plugins; echo $? >&2; } | true")
    assert done.stderr == "1\n"


@pytest.mark.parametrize("how", ["2>/dev/full", "2>&-", "--set run.reporters=structlog 2>/dev/full", "2> >(true)"])
def test_standard_error_that_cannot_be_written(shell, tmp_path, how):
    """The run goes on; its result is written, and shown on standard output."""
    done = shell(f"exec bash -c {shlex.quote(f'exec {MBEXEC} run job.toml -o result.json {how}')}")
    assert done.returncode == 0
    assert "Energies, no counterpoise correction" in done.stdout
    assert json.loads((tmp_path / "result.json").read_text())["success"] is True


def test_both_gone(shell, tmp_path):
    """All that is shown goes into a pipe that is closed after its first line."""
    shell("$M run job.toml -o result.json 2>&1 | head -1")
    assert json.loads((tmp_path / "result.json").read_text())["success"] is True


def test_an_error_that_cannot_be_told(shell):
    """The exit code tells."""
    assert shell("$M run nowhere.toml 2>/dev/full").returncode == 2


@pytest.mark.parametrize("executor", ["threads", "loky"])
def test_with_neither(shell, tmp_path, executor):
    """A scheduler may close all three."""
    assert shell(f"$M run job.toml -e {executor} -o result.json <&- >&- 2>&-").returncode == 1
    assert json.loads((tmp_path / "result.json").read_text())["success"] is True


def test_a_file_does_not_take_the_place_of_a_closed_stream(shell, tmp_path):
    """What child processes write to standard error must not end up in the store."""
    (tmp_path / "look.py").write_text(
        "import os, sys\nfrom mbexec.cli.streams import guarded\n"
        "with guarded(), open('kept', 'w') as kept:\n    kept.write(str(kept.fileno()))\n"
        "os.system('echo lost >&2')\n"
    )
    shell(f"{sys.executable} look.py 2>&- >&-")
    assert int((tmp_path / "kept").read_text()) > 2


class _Full(io.TextIOBase):
    """A stream, no file, that gives no more."""

    encoding = "utf-8"

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_stream_without_a_descriptor():
    """It takes note all the same, and looks like what it stands for."""
    stream = Stream(_Full())
    assert stream.write("words") == 5
    assert stream.problem.errno == errno.ENOSPC
    assert stream.encoding == "utf-8"


class _Raises:
    @hookimpl
    def report_metrics(self, event):
        raise OSError(errno.ENOSPC, "No space left on device")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_logging_that_fails_costs_no_result(install):
    """In a program whose own logging raises: not the line about a reporter left out, nor any other."""

    def fails(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    install("strange-things", {"raises": _Raises})
    structlog.configure(processors=[fails])
    found = mbexec.run(job(argon(3)), executor="serial", reporters=["raises", "structlog"], store="kept.store")
    assert found.result.success
