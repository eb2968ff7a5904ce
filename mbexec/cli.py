"""The command line."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from mbexec import MbexecError, RunResult
from mbexec.core import engine
from mbexec.core.config import layers, parse_value, read_config
from mbexec.core.convergence import warn_of_convergence
from mbexec.core.errors import ConfigError, ExecutorError
from mbexec.core.host import node_settings
from mbexec.core.logs import configure
from mbexec.core.manager import installed_plugins
from mbexec.core.opening import open_spec
from mbexec.stopping import INTERRUPTED, run_until_stopped

if TYPE_CHECKING:
    from qcmanybody.models.v2 import ManyBodyInput

    from mbexec.core.settings import RunConfig

__all__ = ["main"]

DONE, FAILED, BAD_INPUT = 0, 1, 2
_DEFAULTS = {"run.reporters": ["progress"]}


class _Commands(click.Group):
    """Turns what mbexec raises into a line on standard error and an exit code, and warnings into lines."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _warn
                return super().invoke(ctx)
        except MbexecError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(FAILED if isinstance(error, ExecutorError) else BAD_INPUT)
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    click.echo(f"Warning: {message}", err=True)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mbexec")
def main() -> None:
    """Run many-body expansions of molecular clusters in parallel."""
    configure()


def _setting(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    settings = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} is not KEY=VALUE, for example task.ncores=2.")
        settings[key.strip()] = parse_value(value.strip())
    return settings


def _job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--set", "settings", multiple=True, callback=_setting, metavar="KEY=VALUE",
                     help="A setting by its job-file key, such as task.ncores=2; repeat for more."),
        click.option("-w", "--workers", type=int, metavar="N", help="How many fragments may run at once."),
        click.option("-e", "--executor", metavar="NAME", help="The plugin that runs the fragments."),
        click.argument("job", type=click.Path(path_type=Path)),
    ):  # fmt: skip
        command = option(command)
    return command


def _all_settings(executor: str | None, workers: int | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    given = {"run.executor": executor, "run.workers": workers}
    return {**settings, **{key: value for key, value in given.items() if value is not None}}


@main.command()
@_job_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the QCSchema result here, as JSON."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def run(
    job: Path, executor: str | None, workers: int | None, settings: dict[str, Any], output: Path | None, quiet: bool
) -> None:
    """Run a job and show its n-body energies.

    JOB is a job file (.toml) or a QCSchema ManyBodyInput (.json, .yaml).

    Exit codes: 0 done, 1 fragments failed or the executor broke, 2 bad input, 130 interrupted.
    """
    if output is not None:
        _check_output(output)
    spec, config = engine.read_job(
        job, _all_settings(executor, workers, settings), {} if quiet else _DEFAULTS, to_run=True
    )
    stop = threading.Event()
    found = _run(spec, config, stop)
    if stop.is_set() and not found.result.success:
        done = sum(level.executed + level.reused - level.failed for level in found.report.levels)
        click.echo(f"Interrupted: {done} of {len(found.plan)} fragment calculations are done.", err=True)
        sys.exit(INTERRUPTED)
    try:
        if output is not None:
            _write(output, found.result)
    finally:
        _show(found)
    sys.exit(DONE if found.result.success else FAILED)


def _run(spec: ManyBodyInput, config: RunConfig, stop: threading.Event) -> RunResult:
    """The run, which sets `stop` when it is told to stop."""
    try:
        return run_until_stopped(partial(engine.execute, spec, config, stop), stop, config.run.grace)
    except MbexecError as error:
        if stop.is_set():  # its workers were killed
            raise KeyboardInterrupt from error
        raise


def _check_output(path: Path) -> None:
    """Find out before the run, not after it, whether its result can be written."""
    folder = path.resolve().parent
    if not folder.is_dir():
        problem = f"the folder of {str(path)!r} does not exist."
    elif path.is_dir():
        problem = f"{str(path)!r} is a folder; give the name of a file."
    elif path.exists() and not os.access(path, os.W_OK):
        problem = f"{str(path)!r} can't be written to."
    elif not path.exists() and not os.access(folder, os.W_OK):
        problem = f"the folder of {str(path)!r} can't be written to."
    else:
        return
    raise click.BadParameter(problem, param_hint="--output")


def _write(path: Path, result: Any) -> None:
    """Whole or not at all; where a link leads, and into a device or a pipe as it is."""
    target = path.resolve()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        if target.exists() and not target.is_file():
            target.write_text(result.serialize("json"), encoding="utf-8")
            return
        partial.write_text(result.serialize("json"), encoding="utf-8")
        if target.exists():
            shutil.copymode(target, partial)
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise ConfigError(f"The result can't be written to {path}: {error.strerror}.") from error


def _show(found: RunResult) -> None:
    from mbexec import tables

    console = _console()
    shown = (
        tables.results(found.plan, found.result) if found.result.success else tables.failures(found.plan, found.result)
    )
    console.print(shown)
    console.print(tables.summary(found.report), highlight=False)


def _console() -> Console:
    """Tables keep their width where nobody sees a terminal's edge."""
    return Console() if sys.stdout.isatty() else Console(width=160)


@main.command()
@_job_options
@click.option("--show-config", is_flag=True, help="Show each setting and where it is from.")
def plan(job: Path, executor: str | None, workers: int | None, settings: dict[str, Any], show_config: bool) -> None:
    """Show which fragment calculations a job needs, and run none."""
    from mbexec import tables

    spec, config = engine.read_job(job, _all_settings(executor, workers, settings), _DEFAULTS)
    console = _console()
    made = engine.make_plan(spec, config)
    console.print(tables.plan_table(made))
    if made.expansion.rows:
        console.print(tables.amplification_table(made))
    warn_of_convergence(made)
    if show_config:
        console.print(tables.settings_table(config))


@main.command()
@click.argument("job", type=click.Path(path_type=Path), required=False)
def plugins(job: Path | None) -> None:
    """List the installed plugins and those that are active.

    Active are those that a run of JOB would use, or of any job that names none.
    """
    from mbexec import tables

    tables_of_job = open_spec(job if job is not None else {})[1]
    config = read_config(layers(tables_of_job, {}, _DEFAULTS), node_settings)
    _console().print(tables.plugins_table(installed_plugins(), config))
