"""Commands that look into a store, and look after it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mbexec import TaskResult
from mbexec.cli.common import DONE, FAILED, check_output, defaults, store_file, terminal, write_file
from mbexec.core import engine, inspection
from mbexec.core.errors import ConfigError

if TYPE_CHECKING:
    from mbexec.plugins.sqlite.contents import Kept

__all__ = ["store"]

_JOBS = (".toml", ".json", ".yaml", ".yml")
_PATIENCE = 10.0  # seconds to wait for another process
_NAMED = 10


@click.group()
def store() -> None:
    """Look into a store, and look after it.

    STORE is the file of a store; or a job, which means its store.
    """


@store.command("ls")
@click.argument("place", metavar="STORE", type=click.Path(path_type=Path))
@click.option("--fragments", is_flag=True, help="A line for each result.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    metavar="N",
    help="With --fragments: how many lines at most.",
)
def list_contents(place: Path, fragments: bool, limit: int) -> None:
    """Show what a store has, by model chemistry and n-body order.

    STORE is its file, or a job.

    Exit codes: 0 done, 2 bad input.
    """
    from mbexec import tables
    from mbexec.plugins.sqlite.contents import contents

    path = _file(place)
    with contents(path, _PATIENCE) as found:
        count = found.count()
        table = tables.fragments_table(found.rows(most=limit)) if fragments else tables.contents_table(found.groups())
    if count:
        terminal().print(table)
    if fragments and count > limit:
        click.echo(f"... and {count - limit} more; --limit N shows more, `mbexec store export` writes all.")
    click.echo(f"{path}: {tables.counted(count, 'result')}, {tables.size_of(_size(path))}")


def _file(place: Path) -> Path:
    """Of a store, which may be named by a job."""
    from mbexec.plugins.sqlite.salvage import begins_as_store

    if place.suffix.lower() not in _JOBS or (place.is_file() and begins_as_store(place)):
        return place
    return store_file(engine.read_job(place, {}, defaults(place, quiet=True))[1])


def _size(path: Path) -> int:
    """Of its file, and of the log that SQLite may have beside it."""
    from mbexec.plugins.sqlite.salvage import log_of

    return sum(each.stat().st_size for each in (path, log_of(path)) if each.exists())


@store.command()
@click.argument("place", metavar="STORE", type=click.Path(path_type=Path))
@click.argument("name", metavar="LABEL|KEY")
@click.option("--body", is_flag=True, help="The AtomicResult or FailedOperation that was kept with it, as JSON, alone.")
def show(place: Path, name: str, body: bool) -> None:
    """Show everything about a result.

    STORE is the store's file, or a job; a result is named by its label or by the beginning of its key.

    Exit codes: 0 done, 2 bad input, or no result or several of that name.
    """
    from mbexec import tables
    from mbexec.plugins.sqlite.contents import contents

    path = _file(place)
    with contents(path, _PATIENCE) as found:
        rows = found.find(name, _NAMED + 1)
    if not rows:
        raise ConfigError(f"The store {path} has no result {name!r:.80}; `mbexec store ls --fragments` lists them.")
    if len(rows) > 1:
        keys = ", ".join(row.key[: tables.SHORT_KEY] for row in rows[:_NAMED]) + (", ..." if len(rows) > _NAMED else "")
        raise ConfigError(f"The store {path} has several results {name!r:.80}; name one by its key: {keys}.")
    (row,) = rows
    if row.result is None:
        raise ConfigError(f"The result {row.key} is damaged, and counts for nothing; the next run computes it again.")
    if not body:
        click.echo("\n".join(tables.lines_of(row, row.result)))
    elif row.result.body is None:
        raise ConfigError(f"The result {row.key} has no body; only runs with plugin.sqlite.bodies = true keep them.")
    else:
        click.echo(row.result.body)


@store.command()
@click.argument("place", metavar="STORE", type=click.Path(path_type=Path))
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def export(place: Path, file: Path, force: bool) -> None:
    """Write what a store has to FILE.

    STORE is the store's file, or a job. FILE.jsonl gets a line of JSON for each result, with QCSchema's names and
    units; FILE.csv a table for spreadsheets, without arrays.

    Exit codes: 0 done, 1 damaged results were left out, 2 bad input.
    """
    from mbexec import tables
    from mbexec.plugins.sqlite.contents import contents
    from mbexec.plugins.sqlite.export import FORMATS

    path = _file(place)
    lines = FORMATS.get(file.suffix.lower())
    if lines is None:
        raise click.BadParameter(f"{str(file)!r} must end in {' or '.join(FORMATS)}.", param_hint="FILE")
    if file.exists() and not force:
        raise click.BadParameter(f"{str(file)!r} is there already; give another name, or --force.", param_hint="FILE")
    check_output(file, "FILE")
    counts = {True: 0, False: 0}
    with contents(path, _PATIENCE) as found:
        write_file(file, lines(_whole(found.rows(), counts)))
    click.echo(f"{tables.counted(counts[True], 'result')} written to {file}.")
    if counts[False]:
        click.echo(f"Left out: {counts[False]} that are damaged.", err=True)
    sys.exit(FAILED if counts[False] else DONE)


def _whole(rows: Iterable[Kept], counts: dict[bool, int]) -> Iterator[tuple[Kept, TaskResult]]:
    """Rows that are not damaged; counts both kinds."""
    for row in rows:
        counts[row.result is not None] += 1
        if row.result is not None:
            yield row, row.result


@store.command()
@click.argument("place", metavar="STORE", type=click.Path(path_type=Path))
@click.option("--failures", is_flag=True, help="Only failures.")
@click.option("--older-than", type=click.FloatRange(min=0), metavar="DAYS", help="Only what is older.")
@click.option(
    "--not-needed-by",
    "jobs",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="JOB",
    help="Only what this job, as it stands now, does not ask for; repeat for more jobs.",
)
@click.option("-y", "--yes", is_flag=True, help="Don't ask.")
def prune(place: Path, failures: bool, older_than: float | None, jobs: tuple[Path, ...], yes: bool) -> None:
    """Remove results from a store: those that all options given speak of.

    STORE is its file, or a job. It says what it would remove, and asks.

    Exit codes: 0 done, 1 not done after all, 2 bad input, or another process has the store locked.
    """
    from mbexec import tables
    from mbexec.plugins.sqlite.care import pruning
    from mbexec.plugins.sqlite.contents import contents

    if not (failures or older_than is not None or jobs):
        raise click.UsageError("Say what to remove: --failures, --older-than DAYS or --not-needed-by JOB.")
    path = _file(place)
    with contents(path, _PATIENCE):  # a damaged one is not mended by this
        pass
    needed: set[str] | None = None
    for job in jobs:
        needed = (needed or set()) | inspection.needed(*engine.read_job(job, {"run.store": path}, defaults(job)))
    before = None if older_than is None else time.time() - 86400 * older_than
    with pruning(path, _PATIENCE, failures=failures, before=before, needed=needed) as chosen:
        results, failed = chosen.count()
        if not results:
            click.echo("There is nothing to remove.")
            return
        told = tables.counted(results, "result") + (f", {failed} of them failures" if failed else "")
        if not yes:
            click.confirm(f"Remove {told}, from {path}?", abort=True)
        removed, held_up = chosen.remove(), chosen.shrink()
    click.echo(f"{tables.counted(removed, 'result')} removed; {path} has {tables.size_of(_size(path))} now.")
    if held_up:
        click.echo(f"It was not made smaller: {held_up}.", err=True)


@store.command("verify")
@click.argument("place", metavar="STORE", type=click.Path(path_type=Path))
def verify_file(place: Path) -> None:
    """Read everything in a store, and say what is as it was written.

    STORE is its file, or a job. (`mbexec verify JOB` computes results again, and compares.)

    Exit codes: 0 everything is, 1 something is damaged, 2 bad input.
    """
    from mbexec import tables
    from mbexec.plugins.sqlite.care import examined

    path = _file(place)
    found = examined(path, _PATIENCE)
    for problem in found.problems[:_NAMED]:
        click.echo(f"SQLite: {tables.printable(problem)}")
    for key in found.damaged[:_NAMED]:
        click.echo(f"Damaged: {tables.printable(key)}")
    if len(found.damaged) > _NAMED:
        click.echo(f"... and {len(found.damaged) - _NAMED} more.")
    damaged = f", {len(found.damaged)} damaged" if found.damaged else ""
    click.echo(f"{path}: {tables.counted(found.good, 'result')} as written{damaged}.")
    if not found.readable:
        click.echo("The next run saves what can be read in a new file, and sets this one aside.")
    elif found.damaged:
        click.echo("Runs that need what is damaged compute it again.")
    sys.exit(FAILED if found.damaged or found.problems else DONE)
