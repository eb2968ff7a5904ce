"""Commands, run in this process."""

import inspect

from click.testing import CliRunner

from mbexec import cli


def mbexec_(*words):
    """Run a command in this process."""
    separate = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
    done = CliRunner(**separate).invoke(cli.main, [str(word) for word in words], prog_name="mbexec")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert "Traceback" not in done.output
    return done
