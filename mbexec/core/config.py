"""Settings: from files, variables and arguments to one frozen :class:`RunConfig` that knows where each value is from.

A setting is named by its dotted job-file key, ``task.ncores``. Later sources win: default, the user's file, the
project's ``mbexec.toml``, the job file, ``MBEXEC_TASK__NCORES``, arguments. Where nobody sets a task's resources,
``QCENGINE_*`` variables, ``qcengine.yaml`` and our split of the machine decide, in this order.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import attrs
import platformdirs
from attrs import frozen

from mbexec.core.errors import ConfigError
from mbexec.core.resources import granted_cores, granted_memory
from mbexec.core.settings import RunConfig, RunSettings, TaskSettings, is_order, is_text

__all__ = [
    "Entries",
    "Layer",
    "layers",
    "near",
    "nested",
    "parse_value",
    "read_config",
    "read_text",
    "read_toml",
    "unknown",
    "working_directory",
]

SHARED_FILE = "mbexec.toml"
_CHEMISTRY = ("molecule", "mbe", "program")
_TABLES = (*_CHEMISTRY, "run", "task", "plugin")
_VARIABLE = "MBEXEC_"


_ORDERS = " For fragments of N bodies write [task.N], where N is a whole number from 1 up: [task.3]."
_SETTINGS = [f"{t}.{n}" for t, c in (("task", TaskSettings), ("run", RunSettings)) for n in attrs.fields_dict(c)]


@frozen
class Layer:
    """Settings from one source.

    Attributes
    ----------
    source
        What to call it in messages.
    tables
        Nested as in a job file.
    """

    source: str
    tables: Mapping[str, Any]


def layers(job: Layer, settings: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> list[Layer]:
    """All sources of settings, the last of which wins.

    Parameters
    ----------
    job
        The job file; its tables may be empty.
    settings
        Arguments by dotted key; a key without a dot is one of ``[run]``.
    defaults
        The same, for defaults other than the library's.
    """
    found = [Layer("default", nested(defaults or {}))]
    user = platformdirs.user_config_path("mbexec", appauthor=False) / SHARED_FILE
    here = working_directory()
    project = next((p / SHARED_FILE for p in [here, *here.parents] if (p / SHARED_FILE).is_file()), None)
    for path in (user, project):
        if path is not None and path.is_file():
            found.append(_shared_file(path))
    found.append(job)
    found += _variables(os.environ)
    return [_checked(layer) for layer in [*found, Layer("argument", nested(settings))]]


def working_directory() -> Path:
    """Where relative paths start; raises ConfigError if somebody has deleted it."""
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigError(f"The working directory is gone ({error.strerror}); change to one that is there.") from error


class Entries(dict[str, Any]):
    """Entries of a table that are set one by one, by dotted keys: the table's others stay as they were."""


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys to nested tables; a key without a dot belongs to ``[run]``."""
    tables: dict[str, Any] = {}
    for key, value in settings.items():
        if key in _TABLES:
            raise ConfigError(f"{key} is a table; name the settings in it one by one, such as {key}.KEY.")
        *path, last = (key if "." in key else f"run.{key}").split(".")
        if not (last and all(path)):
            raise ConfigError(f"{key!r} names no setting; write TABLE.KEY, such as task.ncores.")
        table = tables
        for name in path:
            table = table.setdefault(name, Entries())
            if not isinstance(table, dict):
                raise ConfigError(f"{key} can't be set: {name} is given a value, {table!r:.80}, and is no table.")
        table[last] = dict(value) if isinstance(value, Mapping) else value
    return tables


def _shared_file(path: Path) -> Layer:
    tables = read_toml(path)
    if chemistry := [name for name in tables if name in _CHEMISTRY]:
        raise ConfigError(
            f"{path}: [{chemistry[0]}] belongs in a job file; "
            "mbexec.toml and the user's file hold [run], [task] and [plugin.NAME]."
        )
    return Layer(str(path), tables)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file, or a ConfigError that names the file and the line."""
    try:
        return tomllib.loads(read_text(path))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}.") from error


def read_text(path: Path) -> str:
    """A text file, with or without a byte order mark, or a ConfigError that names it."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: can't be read: it is no text in UTF-8 (byte {error.start}).") from error
    except ValueError as error:
        raise ConfigError(f"{str(path)!r}: can't be read: {error}.") from error


def _variables(environment: Mapping[str, str]) -> list[Layer]:
    found = []
    for name in sorted(environment):
        if name.startswith(_VARIABLE):
            key = name.removeprefix(_VARIABLE).lower().replace("__", ".")
            if "." not in key:
                raise ConfigError(
                    f"The variable {name} names no setting; write {_VARIABLE}TABLE__KEY, "
                    f"for example {_VARIABLE}RUN__EXECUTOR."
                )
            found.append(Layer(name, nested({key: parse_value(environment[name])})))
    return found


def parse_value(text: str) -> Any:
    """A value as TOML writes it; what is not TOML is text."""
    try:
        found = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return found["value"] if len(found) == 1 else text


def _checked(layer: Layer) -> Layer:
    for name, table in layer.tables.items():
        if name not in _TABLES:
            raise ConfigError(f"{layer.source}: {unknown(f'[{name}]', [f'[{t}]' for t in _TABLES], 'table')}")
        if not isinstance(table, Mapping):
            raise ConfigError(f"{layer.source}: {name} = {table!r} must be a table: [{name}].")
        if name == "plugin" and (bad := [k for k, v in table.items() if not isinstance(v, Mapping)]):
            raise ConfigError(f"{layer.source}: plugin.{bad[0]} must be a table: [plugin.{bad[0]}].")
    return layer


def near(name: str, known: Iterable[str]) -> str:
    """A question that offers the known name most like `name`, with a space before it; nothing if none is.

    Of dotted names only the last part is compared: what they share is no likeness.
    """
    ends = {choice.rpartition(".")[2]: choice for choice in known}
    found = difflib.get_close_matches(name.rpartition(".")[2], ends, n=1)
    return f" Did you mean {ends[found[0]]}?" if found else ""


def unknown(name: str, known: Iterable[str], what: str, elsewhere: Iterable[str] = ()) -> str:
    """A sentence for a name that is not known: a near match, perhaps from elsewhere, and all that are known."""
    choices = list(known)
    return f"unknown {what} {name}.{near(name, [*elsewhere, *choices])} Known: {', '.join(choices) or 'none'}."


def read_config(sources: Iterable[Layer], node_settings: Callable[[], Mapping[str, Any]]) -> RunConfig:
    """The settings of a run from all their sources.

    Parameters
    ----------
    sources
        The last one wins.
    node_settings
        Gives what ``qcengine.yaml`` says of this host.

    Raises
    ------
    ConfigError
        If a key is unknown or a value is not allowed; it names the source, the key, the value and what is allowed.
    """
    origin: dict[str, str] = {}
    run: dict[str, Any] = {}
    task: dict[str, Any] = {}
    task_of: dict[int, dict[str, Any]] = {}
    plugin: dict[str, dict[str, Any]] = {}
    for layer in sources:
        _take(layer, "run", RunSettings, run, origin)
        _take(layer, "task", TaskSettings, task, origin)
        for nbody, table in _orders(layer).items():
            own = Layer(layer.source, {f"task.{nbody}": table})
            _take(own, f"task.{nbody}", TaskSettings, task_of.setdefault(nbody, {}), origin)
        for name, table in layer.tables.get("plugin", {}).items():
            plugin.setdefault(name, {}).update(table)
            origin.update({f"plugin.{name}.{key}": layer.source for key in table})
    _fill(task, origin, _from_qcengine(os.environ))
    _fill(task, origin, [("qcengine.yaml", dict(node_settings()))])
    _split_machine(run, task, [table["ncores"] for table in task_of.values() if "ncores" in table], origin)
    run["reporters"] = tuple(run.get("reporters", ()))
    _choose_store(run, plugin, origin)
    for section, cls in (("run", RunSettings), ("task", TaskSettings)):
        for name in attrs.fields_dict(cls):
            origin.setdefault(f"{section}.{name}", "default")
    whole = {nbody: TaskSettings(**{**task, **task_of[nbody]}) for nbody in sorted(task_of)}
    return RunConfig(RunSettings(**run), TaskSettings(**task), whole, plugin, origin)


def _place(source: str, value: Any) -> Any:
    """A store's path, from the folder of the file that says it or else from here; a plugin's name as it is."""
    if isinstance(value, Path) or (is_text(value) and _is_path(value)):
        folder = Path(source).parent if Path(source).is_file() else working_directory()
        return str(folder.absolute() / value)
    return value


def _is_path(text: str) -> bool:
    """Whether the name of a store is a file's: it has a dot or a slash."""
    return "." in text or os.sep in text


def _choose_store(run: dict[str, Any], plugin: dict[str, dict[str, Any]], origin: dict[str, str]) -> None:
    """Where the store is given as a path, it is that of the plugin "sqlite"."""
    store = run.get("store") or None
    if store is not None and _is_path(store):
        plugin.setdefault("sqlite", {})["path"] = store
        origin["plugin.sqlite.path"] = origin["run.store"]
        store = "sqlite"
    run["store"] = store


def _orders(layer: Layer) -> dict[int, Mapping[str, Any]]:
    """The tables [task.N] of a layer by N."""
    table = layer.tables.get("task", {})
    return {int(key): value for key, value in table.items() if is_order(key) and isinstance(value, Mapping)}


def _take(layer: Layer, section: str, cls: type, into: dict[str, Any], origin: dict[str, str]) -> None:
    fields = attrs.fields_dict(cls)
    for key, value in layer.tables.get(section, {}).items():
        dotted = f"{section}.{key}"
        if section == "task" and is_order(key):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{layer.source}: {dotted} = {value!r} must be a table: [{dotted}].")
            continue
        if key not in fields:
            known = [f"{section}.{name}" for name in fields]
            hint = _ORDERS if section == "task" and isinstance(value, Mapping) else ""
            raise ConfigError(f"{layer.source}: {unknown(dotted, known, 'setting', _SETTINGS)}{hint}")
        if key == "reporters" and isinstance(value, str):
            value = [value]
        if key == "store":
            value = _place(layer.source, value)
        if not fields[key].metadata["test"](value):
            raise ConfigError(f"{layer.source}: {dotted} = {value!r} must be {fields[key].metadata['allowed']}.")
        into[key] = value
        origin[dotted] = layer.source


def _fill(task: dict[str, Any], origin: dict[str, str], found: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Take those task settings that nobody has set yet."""
    for source, values in found:
        new = {key: value for key, value in values.items() if key not in task}
        _take(Layer(source, {"task": new}), "task", TaskSettings, task, origin)


def _from_qcengine(environment: Mapping[str, str]) -> list[tuple[str, dict[str, Any]]]:
    names = attrs.fields_dict(TaskSettings).keys() - {"timeout"}
    variables = {name: f"QCENGINE_{name.upper()}" for name in sorted(names)}
    return [(v, {name: parse_value(environment[v])}) for name, v in variables.items() if v in environment]


def _split_machine(run: dict[str, Any], task: dict[str, Any], others: Iterable[int], origin: dict[str, str]) -> None:
    """Divide the cores and the memory that this process is granted among the workers.

    `others` are the cores that fragments of some orders get: workers are so few that all of them could have the most.
    """
    cores, memory = granted_cores(os.environ), granted_memory(os.environ)
    if "workers" not in run:
        run["workers"] = int(max(1, cores.amount // max([task.get("ncores", 1), *others])))
        origin["run.workers"] = f"split of {cores.source}"
    share = float(f"{0.9 * memory.amount / run['workers']:.4g}")
    _fill(task, origin, [(f"split of {cores.source}", {"ncores": 1}), (f"split of {memory.source}", {"memory": share})])
