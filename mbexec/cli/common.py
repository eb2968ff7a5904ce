"""What several commands share: their options, and how they run and print."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, TextIO, TypeVar, cast

import attrs
import click
from rich.console import Console

from mbexec import MbexecError
from mbexec.cli.streams import Trimmed
from mbexec.core.config import parse_value, working_directory
from mbexec.core.errors import ConfigError
from mbexec.core.settings import RunConfig
from mbexec.stopping import run_until_stopped

__all__ = [
    "BAD_INPUT",
    "DEFAULTS",
    "DONE",
    "FAILED",
    "RECORD",
    "all_settings",
    "check_output",
    "check_page",
    "check_stop",
    "defaults",
    "job_options",
    "page_option",
    "record_file",
    "record_options",
    "recorded",
    "settings_option",
    "shown",
    "spare",
    "spare_inputs",
    "store_file",
    "store_options",
    "terminal",
    "until_stopped",
    "write_file",
]

DONE, FAILED, BAD_INPUT = 0, 1, 2
RECORD = "jsonl"  # the reporter that writes it
DEFAULTS = {"run.reporters": ["progress"]}
_NARROWEST = 72  # columns of a table; a narrower terminal breaks lines by itself

T = TypeVar("T")


def _setting(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> dict[str, Any]:
    settings = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not (equals and key.strip()):
            raise click.BadParameter(f"{text!r} is not KEY=VALUE, for example task.ncores=2.")
        settings[key.strip()] = parse_value(value.strip())
    return settings


settings_option = click.option(
    "--set",
    "settings",
    multiple=True,
    callback=_setting,
    metavar="KEY=VALUE",
    help="A setting by its job-file key, such as task.ncores=2; repeat for more.",
)
page_option = click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="PAGE.md",
    help="Write a page in Markdown here, and its plots beside it.",
)


def job_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the job and its settings."""
    for option in (
        settings_option,
        click.option("-w", "--workers", type=int, metavar="N", help="How many fragments may run at once."),
        click.option("-e", "--executor", metavar="NAME", help="The plugin that runs the fragments."),
        click.argument("job", type=click.Path(path_type=Path)),
    ):  # fmt: skip
        command = option(command)
    return command


def _place(_: click.Context, __: click.Parameter, given: str | None) -> Path | None:
    """Of a file that a command writes to."""
    if given is not None and not given.strip():
        raise click.BadParameter(f"{given!r} is no name of a file.")
    return None if given is None else Path(given)


def _file_options(command: Callable[..., Any], name: str, without: str, told: str) -> Callable[..., Any]:
    """Options for a file and for none, which the command gets as one argument, a path or False; None for neither."""

    @wraps(command)
    def _called(*given: Any, **options: Any) -> Any:
        place = options[name]
        if options.pop(f"no_{name}"):
            if place is not None:
                raise click.UsageError(f"--{name} {str(place)!r} and --no-{name} contradict each other; leave one out.")
            options[name] = False
        return command(*given, **options)

    none = click.option(f"--no-{name}", is_flag=True, help=without)
    return none(click.option(f"--{name}", callback=_place, metavar="PATH", help=told)(_called))


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the store."""
    told = "The file that results are kept in and taken from; otherwise JOB.store, beside the job."
    return _file_options(command, "store", "Keep no results.", told)


def record_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the record of the run."""
    told = "The file that the record of the run goes to, for `mbexec report`; otherwise JOB.jsonl, beside the job."
    return _file_options(command, "record", "Write no record.", told)


def defaults(job: Path, *, quiet: bool = False) -> dict[str, Any]:
    """What the command line does unless it is told otherwise."""
    place = working_directory() / job
    files = {"run.store": place.with_suffix(".store"), f"plugin.{RECORD}.path": str(place.with_suffix(".jsonl"))}
    return files | ({} if quiet else DEFAULTS)


def recorded(config: RunConfig, record: Path | bool | None) -> RunConfig:
    """The settings of a run with its record among the reporters, whoever else hears; False for no record."""
    others = tuple(name for name in config.run.reporters if name != RECORD)
    table, sources = dict(config.plugin[RECORD]), dict(config.sources)
    if isinstance(record, Path):
        table["path"], sources[f"plugin.{RECORD}.path"] = str(working_directory() / record), "argument"
    none = record is False or table["path"] is False
    reporters = others if none else (*others, RECORD)
    return attrs.evolve(
        config,
        run=attrs.evolve(config.run, reporters=reporters),
        plugin={**config.plugin, RECORD: table},
        sources=sources,
    )


def record_file(config: RunConfig) -> Path | None:
    """Where the record of the run goes; None if there is none."""
    path = config.plugin[RECORD]["path"] if RECORD in config.run.reporters else None
    return working_directory() / path if isinstance(path, (str, Path)) else None


def all_settings(
    executor: str | None, workers: int | None, settings: Mapping[str, Any], store: Path | bool | None = None
) -> dict[str, Any]:
    """What the options of a command set, by dotted key."""
    given = {"run.executor": executor, "run.workers": workers, "run.store": store}
    return {**settings, **{key: value for key, value in given.items() if value is not None}}


def until_stopped(
    job: Callable[[], T],
    stop: threading.Event,
    grace: float,
    last_words: Callable[[], str] = lambda: "Interrupted.",
    begun: Callable[[], bool] = lambda: True,
) -> T:
    """What the job gives; see :func:`mbexec.stopping.run_until_stopped`."""
    try:
        return run_until_stopped(job, stop, grace, last_words, begun)
    except MbexecError as error:
        if stop.is_set():  # its workers were killed
            raise KeyboardInterrupt from error
        raise


def terminal() -> Console:
    """Tables keep their width where nobody sees a terminal's edge; numbers are not broken up in a narrow one."""
    if sys.stdout.isatty():
        return Console(width=max(Console().width, _NARROWEST))
    return Console(width=160, file=cast(TextIO, Trimmed(sys.stdout)))


def shown(path: Path) -> Path:
    """From where one is, if it is there or below."""
    here = working_directory()
    return path.relative_to(here) if path.is_relative_to(here) else path


def check_stop(stop: threading.Event) -> None:
    """Say that the command was interrupted, if it was."""
    if stop.is_set():
        raise KeyboardInterrupt


def check_output(path: Path, hint: str = "--output") -> None:
    """Find out before the run, not after it, whether its result can be written."""
    folder = (working_directory() / path).resolve().parent
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
    raise click.BadParameter(problem, param_hint=hint)


def check_page(path: Path) -> None:
    """The same of a page of Markdown with plots; and whether there is what draws them."""
    from mbexec.reports.svg import check_library

    if path.suffix != ".md":
        raise click.BadParameter(
            f"{str(path)!r} is no name of a page in Markdown; end it with .md.", param_hint="--output"
        )
    check_output(path)
    check_library("The page", "leave out --output")


def spare_inputs(output: Path | None, job: Path, config: RunConfig) -> None:
    """Refuse to write the result, or the record, over what the run reads or writes elsewhere."""
    taken = {"the job": job} | ({"the store": store_file(config)} if config.run.store == "sqlite" else {})
    record = record_file(config)
    if record is not None:
        spare(record, taken, "the record", "--record")
    if output is not None:
        spare(output, taken | ({} if record is None else {"the record": record}), "the result")


def spare(path: Path, taken: Mapping[str, Path], what: str, hint: str = "--output") -> None:
    """Refuse to write something to a file that is taken by something else."""
    for other, where in taken.items():
        if path.resolve() == where.resolve():
            problem = f"{str(path)!r} is {other} itself; give {what} a file of its own."
            raise click.BadParameter(problem, param_hint=hint)


def write_file(path: Path, parts: Iterable[str]) -> None:
    """Write a file whole or not at all; where a link leads, and into a device or a pipe as it is."""
    target = path.resolve()
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        if target.exists() and not target.is_file():
            _write(target, parts)
            return
        _write(partial, parts)
        if target.exists():
            shutil.copymode(target, partial)
        partial.replace(target)
    except OSError as error:
        raise ConfigError(f"The result can't be written to {path}: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)


def _write(path: Path, parts: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(parts)


def store_file(config: RunConfig) -> Path:
    """Where the store of a job is."""
    if config.run.store is None:
        raise ConfigError("There is no store to look into: run.store is false; give its path.")
    if config.run.store != "sqlite":
        raise ConfigError(f"run.store = {config.run.store!r} is no file; give the path of one.")
    return Path(config.plugin["sqlite"]["path"])
