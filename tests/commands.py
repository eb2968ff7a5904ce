"""Commands, run in this process or in one of their own: their exit codes, and a job for them."""

import inspect
import subprocess
import sys

from click.testing import CliRunner

from mbexec import cli
from tests.systems import WATER_TRIMER

DONE, FAILED, BAD_INPUT = 0, 1, 2
COMMAND = [sys.executable, "-c", "from mbexec.cli import main; main(prog_name='mbexec')"]


def mbexec_(*words):
    """Run a command in this process."""
    separate = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
    done = CliRunner(**separate).invoke(cli.main, [str(word) for word in words], prog_name="mbexec")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert "Traceback" not in done.output
    return done


def process(*words, **options):
    """Run a command in a process of its own."""
    return subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, **options)


def trimer_job(geometry=WATER_TRIMER):
    """The text of a job on the model potential: a water trimer, or something else, to all orders."""
    return f'''
[molecule]
geometry = """{geometry}"""
[mbe]
bsse_type = ["cp", "nocp", "vmfc"]
max_nbody = 3
[program]
program = "model-potential"
method = "lj"
[run]
executor = "serial"
'''
