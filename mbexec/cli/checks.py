"""Commands that hold a job against its store: how far it is, and whether its results still come out the same."""

from __future__ import annotations

import math
import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import click

from mbexec.cli.common import (
    DONE,
    FAILED,
    all_settings,
    check_stop,
    defaults,
    job_options,
    store_file,
    store_options,
    terminal,
    until_stopped,
)
from mbexec.core import engine, inspection
from mbexec.core.errors import ConfigError
from mbexec.core.settings import RunConfig

__all__ = ["status", "verify"]


@click.command()
@job_options
@store_options
def status(
    job: Path, executor: str | None, workers: int | None, settings: dict[str, Any], store: Path | bool | None
) -> None:
    """Show how far a job is: what its store has, by n-body order. Nothing runs.

    Exit codes: 0 everything is done, 1 something is still to do, 2 bad input.
    """
    from mbexec import tables

    spec, config = _job(job, executor, workers, settings, store)
    path = store_file(config)
    if not os.path.exists(path):  # also for names that no file can have
        click.echo(f"There is no store {path} yet.")
        planned = [(level.nbody, level.ntasks) for level in engine.make_plan(spec, config).levels]
        levels = tuple(inspection.LevelStatus(nbody, ntasks, 0, 0) for nbody, ntasks in planned)
    else:
        levels = inspection.status(spec, _only_read(config))
    terminal().print(tables.status_table(levels))
    sys.exit(DONE if all(level.done + level.left_out == level.ntasks for level in levels) else FAILED)


def _job(job: Path, executor: str | None, workers: int | None, settings: dict[str, Any], store: Any) -> Any:
    return engine.read_job(job, all_settings(executor, workers, settings, store), defaults(job, quiet=True))


def _only_read(config: RunConfig) -> RunConfig:
    """The same settings with a store that is looked into and left as it is, wherever it is."""
    return attrs.evolve(config, plugin={**config.plugin, "sqlite": {**config.plugin["sqlite"], "read_only": True}})


def _finite(_: click.Context, __: click.Parameter, value: float) -> float:
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is no finite number.")
    return value


@click.command()
@job_options
@store_options
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="How many stored results to look at; chance decides which.",
)
@click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    metavar="N",
    help="How often to compute each of them.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    callback=_finite,
    default=1e-8,
    show_default=True,
    metavar="X",
    help="Differences up to this are noise; E_h, E_h/a0 or E_h/a0^2.",
)
def verify(
    job: Path,
    executor: str | None,
    workers: int | None,
    settings: dict[str, Any],
    store: Path | bool | None,
    sample: int,
    repeat: int,
    tolerance: float,
) -> None:
    """Compute some of the stored results of a job again, and compare.

    Finds programs that changed without telling, failing hardware, and results that are not the same each time.

    Exit codes: 0 all are the same or differ by noise, 1 some are not, 2 bad input, 130 interrupted.
    """
    from mbexec import tables

    spec, config = _job(job, executor, workers, settings, store)
    path = store_file(config)
    if not os.path.exists(path):  # also for names that no file can have
        raise ConfigError(f"There is no store {path} yet; run the job first, or give another one with --store PATH.")
    stop = threading.Event()
    look = partial(inspection.recompute, spec, config, sample=sample, repeat=repeat, tolerance=tolerance, stop=stop)
    found = until_stopped(look, stop, config.run.grace)
    check_stop(stop)
    if not found:
        raise ConfigError(
            f"The store {path} has no results of this job as it stands now; those of another input, or of another "
            "version of its program, are none of it."
        )
    terminal().print(tables.recomputed_table(found, repeat))
    sys.exit(DONE if all(each.verdict in ("same", "noise") for each in found) else FAILED)
