"""The command line."""

from __future__ import annotations

import errno
import sys
import threading
import warnings
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.status import Status

from mbexec import MbexecError, RunResult
from mbexec.cli.bench import bench
from mbexec.cli.checks import status, verify
from mbexec.cli.common import (
    BAD_INPUT,
    DONE,
    FAILED,
    all_settings,
    check_output,
    check_page,
    check_stop,
    defaults,
    job_options,
    page_option,
    record_file,
    record_options,
    recorded,
    shown,
    spare_inputs,
    store_options,
    terminal,
    until_stopped,
    write_file,
)
from mbexec.cli.count import Count
from mbexec.cli.report import report
from mbexec.cli.store import store
from mbexec.cli.streams import guarded
from mbexec.core import engine
from mbexec.core.config import layers, read_config
from mbexec.core.convergence import warn_of_errors
from mbexec.core.errors import ExecutorError
from mbexec.core.host import node_settings
from mbexec.core.logs import configure
from mbexec.core.manager import installed_plugins
from mbexec.core.opening import open_spec
from mbexec.core.settings import RunSettings
from mbexec.stopping import INTERRUPTED

__all__ = ["main"]


class _Commands(click.Group):
    """Turns what mbexec raises into a line on standard error and an exit code, and warnings into lines."""

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run a command; output that can't be written is an error too."""
        with guarded() as output:
            try:
                return super().main(*args, **settings)
            except SystemExit as end:
                output.flush()
                if output.problem is None:
                    raise
                if output.problem.errno != errno.EPIPE:  # who closes a pipe, such as head, knows about it
                    click.echo(f"Error: standard output can't be written: {output.problem.strerror}.", err=True)
                sys.exit(end.code or FAILED)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, and say in a line why it can't be."""
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
    print(f"Warning: {message}", file=sys.stderr, flush=True)  # click would write past the progress that is drawn there


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mbexec")
def main() -> None:
    """Run many-body expansions of molecular clusters in parallel."""
    configure()


@main.command()
@job_options
@store_options
@record_options
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the QCSchema result here, as JSON."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def run(
    job: Path,
    executor: str | None,
    workers: int | None,
    settings: dict[str, Any],
    store: Path | bool | None,
    record: Path | bool | None,
    output: Path | None,
    quiet: bool,
) -> None:
    """Run a job and show its n-body energies.

    JOB is a job file (.toml) or a QCSchema ManyBodyInput (.json, .yaml). Each result is kept in the store the moment it
    is there: after an interruption, the same command goes on where the last one ended.

    Exit codes: 0 done, 1 fragments failed or the executor broke, 2 bad input, 130 interrupted.
    """
    if output is not None:
        check_output(output)
    given = all_settings(executor, workers, settings, store)
    spec, config = engine.read_job(job, given, defaults(job, quiet=quiet), to_run=True)
    config = recorded(config, record)
    spare_inputs(output, job, config)
    stop, count = threading.Event(), Count(bool(config.run.store))
    found = None
    with suppress(KeyboardInterrupt):
        execute = partial(engine.execute, spec, config, stop, count)
        found = until_stopped(execute, stop, config.run.grace, count.words, count.has_begun)
    if found is None or (stop.is_set() and not found.result.success):
        click.echo(count.words(), err=True)
        sys.exit(INTERRUPTED)
    try:
        if output is not None:
            write_file(output, [found.result.serialize("json")])
    finally:
        _show(found)
        _show_record(record_file(config), found.report.run_id)
    sys.exit(DONE if found.result.success else FAILED)


def _show(found: RunResult) -> None:
    from mbexec import tables

    console = terminal()
    tell = tables.results if found.result.success else tables.failures
    console.print(tell(found.plan, found.result))
    console.print(tables.summary(found.report), highlight=False)


def _show_record(path: Path | None, run_id: str) -> None:
    """Where the record is; if it could not be written, that has been said."""
    from mbexec.reports import is_recorded

    if path is not None and is_recorded(path, run_id):
        click.echo(f"Record: {shown(path)}; `mbexec report` shows it")


@main.command()
@job_options
@click.option("--show-config", is_flag=True, help="Show each setting and where it is from.")
def plan(job: Path, executor: str | None, workers: int | None, settings: dict[str, Any], show_config: bool) -> None:
    """Show which fragment calculations a job needs, and run none."""
    from mbexec import tables

    spec, config = engine.read_job(job, all_settings(executor, workers, settings), defaults(job))
    console = terminal()
    made = engine.make_plan(spec, config)
    console.print(tables.plan_table(made))
    if made.expansion.rows:
        console.print(tables.amplification_table(made))
    warn_of_errors(made)
    if show_config:
        console.print(tables.settings_table(recorded(config, None)))


@main.command()
@click.argument("job", type=click.Path(path_type=Path), required=False)
def plugins(job: Path | None) -> None:
    """List the installed plugins and those that are active.

    Active are those that a run of JOB would use, or of any job that names none.
    """
    from mbexec import tables

    tables_of_job = open_spec(job if job is not None else {})[1]
    config = read_config(layers(tables_of_job, {}, defaults(job or Path("job.toml"))), node_settings)
    terminal().print(tables.plugins_table(installed_plugins(), recorded(config, None)))


@main.command()
@click.option(
    "-e",
    "--executor",
    "executors",
    multiple=True,
    metavar="NAME",
    help="An executor to compare with serial; repeat for more. Otherwise all that are installed.",
)
@click.option(
    "-p",
    "--program",
    "programs",
    multiple=True,
    metavar="NAME",
    help="A program to run; repeat for more. Otherwise all that are installed.",
)
@click.option("-w", "--workers", type=int, metavar="N", help="How many fragments may run at once.")
@page_option
def validate(executors: tuple[str, ...], programs: tuple[str, ...], workers: int | None, output: Path | None) -> None:
    """Check the installation, and which executor is fastest here.

    Standard systems run on every installed executor with every installed program; results are compared with each
    other and with what is known of them.

    Exit codes: 0 everything agrees, 1 something does not, 2 bad input, 130 interrupted.
    """
    from mbexec import tables
    from mbexec.validation import page, standard_systems, validate

    if output is not None:
        check_page(output)
    stop = threading.Event()
    with Console(stderr=True).status("") as status:
        tell = partial(_tell, stop, status)
        job = partial(validate, standard_systems(programs), executors, workers, tell)
        found = until_stopped(job, stop, RunSettings().grace)
    check_stop(stop)
    for sheet in page.sheets(found):
        terminal().print(tables.sheet(sheet.title, sheet.columns, sheet.groups, sheet.left))
    for note in page.notes(found):
        terminal().print(note, highlight=False, markup=False)
    for path, text in (page.files(found, output) if output else {}).items():
        write_file(path, [text])
    for problem in found.problems:
        click.echo(f"Wrong: {problem}", err=True)
    click.echo(page.verdict(found))
    sys.exit(FAILED if found.problems else DONE)


def _tell(stop: threading.Event, status: Status, line: str) -> None:
    """What is about to run; nothing is if the command was told to stop."""
    check_stop(stop)
    if status.console.is_terminal:
        status.update(line)
    else:
        click.echo(line, err=True)


main.add_command(bench)
main.add_command(status)
main.add_command(verify)
main.add_command(store)
main.add_command(report)
