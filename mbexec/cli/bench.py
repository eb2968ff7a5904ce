"""The command that runs a job on several executors and says which to take."""

from __future__ import annotations

import json
import sys
import threading
from functools import partial
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from mbexec.cli.common import (
    DONE,
    FAILED,
    check_output,
    check_page,
    check_stop,
    page_option,
    settings_option,
    terminal,
    until_stopped,
    write_file,
)

if TYPE_CHECKING:
    from mbexec.bench import Bench, Case

__all__ = ["bench"]


def _names(_: click.Context, __: click.Parameter, given: str | None) -> list[str]:
    names = [name.strip() for name in given.split(",")] if given is not None else []
    if not all(names):
        raise click.BadParameter(f"{given!r} is no list of executors, such as serial,threads.")
    return names


def _numbers(_: click.Context, __: click.Parameter, given: str | None) -> list[int]:
    words = [word.strip() for word in given.split(",")] if given is not None else []
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise click.BadParameter(f"{given!r} is no list of numbers of workers, whole numbers from 1 up, such as 1,2.")
    return [int(word) for word in words]


def _sample(_: click.Context, __: click.Parameter, given: str | None) -> int | None:
    """0 for all; None to find out."""
    if given is None:
        return None
    if given != "all" and not (given.isdecimal() and int(given) > 0):
        raise click.BadParameter(f"{given!r} is no number of fragments from 1 up, nor 'all'.")
    return 0 if given == "all" else int(given)


@click.command()
@click.argument("job", type=click.Path(path_type=Path))
@click.option(
    "--executors",
    callback=_names,
    metavar="A,B,...",
    help="Those to compare with serial. Otherwise all that are installed.",
)
@click.option(
    "-w",
    "--workers",
    callback=_numbers,
    metavar="N,M,...",
    help="How many fragments may run at once. Otherwise 1, 2, 4, ..., up to what the machine grants.",
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="How often to measure each; the fastest counts.",
)
@click.option(
    "--sample",
    callback=_sample,
    metavar="N|all",
    help="Run about so many fragments that stand for all. Otherwise all, or as many as take 20 s on serial.",
)
@settings_option
@page_option
@click.option("--json", "data", type=click.Path(path_type=Path), metavar="FILE", help="Write all figures here.")
def bench(
    job: Path,
    executors: list[str],
    workers: list[int],
    repeat: int,
    sample: int | None,
    settings: dict[str, Any],
    output: Path | None,
    data: Path | None,
) -> None:
    """Find out which executor is best for a job here.

    The job runs on each, with different numbers of workers; each time in an interpreter of its own, and without a
    store. Results are compared to the last bit.

    Exit codes: 0 all results agree, 1 some do not, or fragments failed, 2 bad input, 130 interrupted.
    """
    from mbexec.bench import bench as compared
    from mbexec.bench import page

    if output is not None:
        check_page(output)
    if data is not None:
        check_output(data, "--json")
    stop = threading.Event()
    so_far = _SoFar()
    run = partial(compared, job, executors, workers, settings=settings, repeat=repeat, sample=sample)
    found = until_stopped(partial(run, tell=so_far.tell, stop=stop), stop, 0.0, so_far.last_words)
    if output is not None:
        for path, text in page.files(found, output).items():
            write_file(path, [text])
    if data is not None:
        write_file(data, [json.dumps(page.as_dict(found), indent=1), "\n"])
    _show(found, terminal())
    check_stop(stop)
    for problem in found.problems:
        click.echo(f"Wrong: {problem}", err=True)
    sys.exit(FAILED if found.problems else DONE)


def _show(found: Bench, console: Console) -> None:
    from mbexec import tables
    from mbexec.bench import advice, page

    for sheet in page.sheets(found):
        console.print(tables.sheet(sheet.title, sheet.columns, sheet.groups, sheet.left))
        console.print()
    for note in page.notes(found):
        console.print(note, highlight=False, markup=False)
    console.print(page.verdict(found), highlight=False, markup=False)
    console.print(advice(found), highlight=False, markup=False)


class _SoFar:
    """What is known while it is being measured."""

    def __init__(self) -> None:
        self.found: Bench | None = None

    def tell(self, found: Bench, case: Case) -> None:
        """A line for what has just been measured."""
        from mbexec.bench import page

        self.found = found
        click.echo(page.line(found, case), err=True)

    def last_words(self) -> str:
        """What a bench that is interrupted leaves: the tables as far as they got."""
        text = StringIO()
        if self.found is not None:
            _show(self.found, Console(file=text, width=160))
        return f"{text.getvalue()}Interrupted."
