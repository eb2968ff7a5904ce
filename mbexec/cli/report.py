"""The command that shows what a run was, and what it cost, from its record."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from mbexec.cli.common import RECORD, check_output, defaults, spare, write_file
from mbexec.core.config import layers, read_config, working_directory
from mbexec.core.errors import ConfigError
from mbexec.core.host import node_settings
from mbexec.core.opening import open_spec
from mbexec.reports import Record, list_runs, read_record
from mbexec.tables.layout import counted

__all__ = ["report"]

_JOBS = (".toml", ".json", ".yaml", ".yml")
_ENDINGS = {".md": "md", ".json": "json", ".csv": "csv", ".html": "html", ".htm": "html"}


def _md(record: Record) -> Iterable[str]:
    from mbexec.reports.markdown import markdown

    return [markdown(record)]


def _json(record: Record) -> Iterable[str]:
    from mbexec.reports.data import json_text

    return [json_text(record)]


def _csv(record: Record) -> Iterable[str]:
    from mbexec.reports.data import csv_lines

    return csv_lines(record)


def _html(record: Record) -> Iterable[str]:
    from mbexec.reports.page import page

    return [page(record)]


_FORMATS: dict[str, Callable[[Record], Iterable[str]]] = {"md": _md, "json": _json, "csv": _csv, "html": _html}


@click.command()
@click.argument("place", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--run", "run_id", metavar="ID", help="Which run of the record; otherwise the last one.")
@click.option(
    "--format", "form", type=click.Choice(list(_FORMATS)), help="Otherwise FILE's ending says it; without FILE, md."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write it here; an .html is a page with plots.",
)
def report(place: Path, run_id: str | None, form: str | None, output: Path | None) -> None:
    """Show what a run was, what came of it and what it cost.

    RUN is the record of a run, or a job, which means the record beside it. A run that still runs, or broke off, is
    shown as far as it got.

    Exit codes: 0 done, 2 bad input.
    """
    path = _record(place)
    form = form or _form(output)
    if output is not None:
        check_output(output)
    record = read_record(path, run_id)
    if record.damaged:
        warnings.warn(f"{counted(record.damaged, 'line')} of the record {path} could not be read.", stacklevel=1)
    if output is not None:
        spare(output, {"the record": path, "the job": place} | _store(record), "the report")
        write_file(output, _FORMATS[form](record))
        click.echo(f"Report written to {output}.")
        return
    for part in _FORMATS[form](record):
        click.echo(part, nl=False)
    if form == "md" and run_id is None and (others := len(list_runs(path)) - 1):
        runs = f"{others} other run{'s' * (others > 1)}"
        click.echo(f"\nThe record {path} has {runs}: --run ID shows one of {_named(path, record)}.", nl=True)


def _store(record: Record) -> dict[str, Path]:
    """Where the run kept its results, if that is a file."""
    config = record.started["config"]
    return {"the store": Path(config["plugin"]["sqlite"]["path"])} if config["run"]["store"] == "sqlite" else {}


def _named(path: Path, record: Record) -> str:
    """The last few other runs."""
    return ", ".join(run.run_id for run in list_runs(path)[-6:] if run.run_id != record.run_id)


def _form(output: Path | None) -> str:
    """What is to be written, by the ending of its file."""
    if output is None:
        return "md"
    if output.suffix.lower() not in _ENDINGS:
        raise click.BadParameter(
            f"{str(output)!r} must end in .md, .json, .csv or .html, unless --format says what it is.",
            param_hint="--output",
        )
    return _ENDINGS[output.suffix.lower()]


def _record(place: Path) -> Path:
    """Of a run, which may be named by its job."""
    if place.suffix.lower() not in _JOBS:
        return place
    sources = layers(open_spec(place)[1], {}, defaults(place))
    path = read_config(sources, node_settings).plugin[RECORD]["path"]
    if not isinstance(path, str):
        raise ConfigError(f"plugin.{RECORD}.path is {path!r}, so there is no record; give the file of one.")
    return working_directory() / path
