"""Plugins: found by name in installed distributions, built for one run, checked before it starts."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterable
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import attrs
import pluggy
from attrs import field, frozen

from mbexec import hookspecs
from mbexec.core.config import near, unknown
from mbexec.core.errors import ConfigError, HookError, PluginError, PluginNotFoundError
from mbexec.core.settings import RunConfig

__all__ = ["InstalledPlugin", "find_plugin", "harnesses", "host", "installed_plugins", "misspelt_tables", "reporters"]

PLUGINS = "mbexec"
PROGRAMS = "mbexec.programs"
_ROLES = {
    "planner": ("build_tasks", "merge_results"),
    "executor": ("submit_level",),
    "reporter": ("report_metrics",),
    "store": ("recall_results", "keep_result"),
}
_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list", dict: "a table"}
_OWNED = ("build_tasks", "submit_level", "merge_results")


@frozen
class InstalledPlugin:
    """A plugin that a distribution offers.

    Attributes
    ----------
    name
        The plugin's, everywhere.
    distribution, version
        Where it is from.
    roles
        What it can do: planner, executor, reporter, store.
    error
        Why it can't be used, else None.
    """

    name: str
    distribution: str
    version: str
    roles: tuple[str, ...] = field(factory=tuple)
    error: str | None = None


def _offers(group: str) -> dict[str, list[EntryPoint]]:
    """Entry points by name; the same one found twice on the path counts once."""
    return _offers_on(group, tuple((entry, _changed(entry)) for entry in sys.path))


def _changed(entry: str) -> int:
    """When something was last installed or removed there."""
    try:
        return os.stat(entry or ".").st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=8)
def _offers_on(group: str, path: tuple[tuple[str, int], ...]) -> dict[str, list[EntryPoint]]:
    """Looks into every installed distribution, which takes 10 ms and more; so once for each state of the path."""
    found: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    for point in entry_points(group=group):
        found.setdefault(point.name, {}).setdefault((_owner(point), point.value), point)
    return {name: list(found[name].values()) for name in sorted(found)}


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "unknown distribution"


def _only(points: list[EntryPoint], what: str, name: str) -> EntryPoint:
    if len(points) > 1:
        owners = " and ".join(_owner(point) for point in points)
        raise PluginError(f"Two distributions offer a {what} named {name!r}: {owners}; uninstall one of them.")
    return points[0]


def find_plugin(name: str, role: str) -> type:
    """Import the plugin of that name, and no other.

    Raises
    ------
    PluginNotFoundError
        If no installed distribution offers it; lists what there is for the role, and how to install it, unless one of
        those seems to be meant.
    PluginError
        If two offer it, or it can't be imported.
    """
    offers = _offers(PLUGINS)
    if name not in offers:
        fitting = [plugin for plugin in installed_plugins() if role in plugin.roles]
        listed = ", ".join(f"{plugin.name} ({plugin.distribution})" for plugin in fitting)
        close = near(name, [plugin.name for plugin in fitting])
        add = "" if close else f" To add it: pip install mbexec-{name}"  # nobody knows what a misspelt name would bring
        raise PluginNotFoundError(f"No {role} named {name!r} is installed.{close} Installed: {listed or 'none'}.{add}")
    return _load(_only(offers[name], "plugin", name))


def _load(point: EntryPoint) -> type:
    try:
        found = point.load()
    except Exception as error:
        raise PluginError(
            f"The plugin {point.name!r} of the distribution {_owner(point)} can't be imported: "
            f"{type(error).__name__}: {error}. Mend, upgrade or uninstall {_owner(point)}."
        ) from error
    if not isinstance(found, type):
        raise PluginError(
            f"The plugin {point.name!r} of the distribution {_owner(point)} is {found!r}; "
            f"its entry point {point.value!r} must name a class."
        )
    return found


def misspelt_tables(config: RunConfig) -> dict[str, str]:
    """Names of [plugin.NAME] tables that no installed plugin has but one nearly has, and the question that asks."""
    offers = _offers(PLUGINS)
    asked = {name: near(name, offers) for name in config.plugin if name not in offers}
    return {name: question for name, question in asked.items() if question}


def installed_plugins() -> list[InstalledPlugin]:
    """Every plugin there is, those that can't be used included."""
    listed = []
    for name, points in _offers(PLUGINS).items():
        for point in points:
            version = point.dist.version if point.dist is not None else ""
            try:
                cls = _load(point)
                _check_class(name, cls)
                plugin = InstalledPlugin(name, _owner(point), version, _roles(cls))
                _only(points, "plugin", name)
            except PluginError as error:
                plugin = InstalledPlugin(name, _owner(point), version, error=str(error))
            listed.append(plugin)
    return listed


def _roles(cls: type) -> tuple[str, ...]:
    options = {name: getattr(value, "mbexec_impl", None) for name, value in inspect.getmembers(cls)}
    marked = {name for name, given in options.items() if given and not (given["wrapper"] or given["hookwrapper"])}
    return tuple(role for role, hooks in _ROLES.items() if marked & set(hooks))


def harnesses(programs: Iterable[str]) -> dict[str, str]:
    """Those of the programs that distributions bring: "module:Class" by name. Nothing is imported."""
    offers = _offers(PROGRAMS)
    wanted = {name.lower() for name in programs}
    return {name: _only(points, "program", name).value for name, points in offers.items() if name in wanted}


def host(named: Iterable[tuple[str, str]], config: RunConfig) -> pluggy.PluginManager:
    """A plugin manager with the named plugins, built from their tables and checked.

    Parameters
    ----------
    named
        (name, role) of each plugin that takes part; a plugin that fills two roles is built once.
    config
        Where the ``[plugin.NAME]`` settings are.
    """
    manager = pluggy.PluginManager("mbexec")
    manager.add_hookspecs(hookspecs)
    named = list(named)
    for name, role in named:
        if not manager.has_plugin(name):
            _register(manager, _build(name, find_plugin(name, role), config), name)
    for name, role in named:
        _check_role(manager, name, role)
    _check_owners(manager, [hook for _, role in named for hook in _ROLES[role] if hook in _OWNED])
    return manager


def _build(name: str, cls: type, config: RunConfig) -> object:
    table = config.plugin.get(name, {})
    known = [f"plugin.{name}.{parameter}" for parameter in inspect.signature(cls).parameters]
    for key in [f"plugin.{name}.{key}" for key in table]:
        if key not in known:
            raise ConfigError(f"{config.sources[key]}: {unknown(key, known, 'setting')}")
    try:
        plugin: object = cls(**table)
    except Exception as error:
        raise ConfigError(f"[plugin.{name}] {dict(table)!r:.200} is not accepted: {_words(error)}") from error
    return plugin


def _words(error: Exception) -> str:
    """What a class says against a setting; attrs' validators put more into args than people want to read."""
    match error:
        case TypeError(args=(_, attrs.Attribute(name=name), type() | tuple() as kinds, value)):
            return f"{name} = {value!r:.80} must be {_kinds([kinds] if isinstance(kinds, type) else kinds)}."
        case ValueError(args=(str() as words, *_)) | TypeError(args=(str() as words, *_)):
            return words
    return f"{type(error).__name__}: {error.args[0] if error.args else error}"


def _kinds(classes: Collection[type]) -> str:
    """In words; a whole number is a number."""
    return " or ".join(_KINDS.get(cls, cls.__name__) for cls in classes if cls is not int or float not in classes)


def _register(manager: pluggy.PluginManager, plugin: object, name: str) -> None:
    _check_class(name, type(plugin))
    try:
        manager.register(plugin, name)
    except pluggy.PluginValidationError as error:
        raise HookError(
            f"The plugin {name!r} has a hook that can't be called: {' '.join(str(error).split())}"
        ) from error


def _check_class(name: str, cls: type) -> None:
    """Refuse what a run can't call, as far as that can be told without one."""
    if cls.__hash__ is None:
        raise HookError(f"The plugin {name!r} can't be registered: it is not hashable; use attrs.define(eq=False).")
    for attribute, value in inspect.getmembers(cls):
        if hasattr(value, "mbexec_impl"):
            _check_hook(name, attribute, value)


def _check_hook(name: str, attribute: str, hook: Callable[..., Any]) -> None:
    if inspect.iscoroutinefunction(hook) or inspect.isasyncgenfunction(hook):
        raise HookError(
            f"The plugin {name!r} has an async hook, {attribute}, which would never be awaited; "
            "make it a plain method and run a loop inside."
        )
    called = hook.mbexec_impl["specname"] or attribute  # type: ignore[attr-defined]
    hooks = {each: spec for each, spec in inspect.getmembers(hookspecs) if hasattr(spec, "mbexec_spec")}
    if called not in hooks:
        if hook.mbexec_impl["optionalhook"]:  # type: ignore[attr-defined]
            return
        raise HookError(f"The plugin {name!r} has an {unknown(called, hooks, 'hook')}")
    known = list(inspect.signature(hooks[called]).parameters)
    given = list(inspect.signature(hook).parameters)[1:]
    if strange := [argument for argument in given if argument not in known]:
        raise HookError(
            f"The plugin {name!r} has a hook {attribute}({', '.join(given)}) that can't be called: "
            f"{attribute} has no argument {strange[0]!r}. Known: {', '.join(known)}."
        )


def _check_role(manager: pluggy.PluginManager, name: str, role: str) -> None:
    marked = {caller.name for caller in manager.get_hookcallers(manager.get_plugin(name)) or ()}
    if lacking := [hook for hook in _ROLES[role] if hook not in marked]:
        able = [known for known, hooks in _ROLES.items() if marked.issuperset(hooks)]
        raise HookError(
            f"The plugin {name!r} is no {role}: it does not implement {lacking[0]}. "
            f"Its roles: {', '.join(able) or 'none'}; choose another plugin in [run]."
        )


def _check_owners(manager: pluggy.PluginManager, hooks: Iterable[str]) -> None:
    for hook in hooks:
        owners = [impl.plugin_name for impl in getattr(manager.hook, hook).get_hookimpls() if not _wraps(impl)]
        if not owners:
            raise HookError(f"No plugin implements {hook}, but for wrappers; exactly one must. Choose one in [run].")
        if len(owners) > 1:
            raise HookError(
                f"{len(owners)} plugins implement {hook}: {', '.join(sorted(owners))}; exactly one may. "
                "Choose other plugins in [run]."
            )


def _wraps(impl: pluggy.HookImpl) -> bool:
    return impl.wrapper or impl.hookwrapper


def reporters(manager: pluggy.PluginManager) -> dict[str, Callable[..., Any]]:
    """Each reporter's own call, by name: in one common call, one that raises would silence the rest.

    Two a fragment: where pluggy would only pass the event on, it is left out, since it takes as long as a reporter.
    """
    impls = manager.hook.report_metrics.get_hookimpls()
    plugins = {impl.plugin_name: impl.plugin for impl in impls}
    plain = {impl.plugin_name: impl.function for impl in impls if impl.argnames == ("event",) and not _wraps(impl)}
    return {
        name: plain.get(name)
        or manager.subset_hook_caller("report_metrics", [p for n, p in plugins.items() if n != name])
        for name in plugins
    }
