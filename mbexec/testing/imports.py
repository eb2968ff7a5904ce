"""What an executor imports, against what its distribution requires."""

from __future__ import annotations

import builtins
import pickle
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, PackageNotFoundError, distribution, entry_points, packages_distributions
from typing import Any

from mbexec.testing.trial import Trial, plugged

__all__ = ["undeclared"]


def undeclared(pickled: bytes) -> list[str] | None:
    """Modules that making the executor and a level of it import beyond what its distribution requires.

    None if the executor's class is from no installed distribution. To be called in a fresh process. What a required
    distribution imports if it happens to be there, such as a faster way to compress, is that one's own affair.
    """
    Trial(["plain"]).work.prepare()
    before = set(sys.modules)
    with _importers() as importers, plugged(pickle.loads(pickled)) as executor:
        owner = _owner(type(executor.plugin))
        if owner is None:
            return None
        Trial(["plain"] * 4).run(executor)
    new = {name.partition(".")[0] for name in sys.modules.keys() - before}
    known = {_normal(name) for name in _required(owner)}
    offered = {name: set(map(_normal, owners)) for name, owners in packages_distributions().items()}
    foreign = {name for name in new - sys.stdlib_module_names if name in offered}
    strange = {name for name in foreign if not known & offered[name]}
    others = {name for name, owners in offered.items() if owners & known - {_normal(owner.name)}}
    while excused := {name for name in strange if importers.get(name) in others}:
        strange -= excused
        others |= excused
    return sorted(strange)


@contextmanager
def _importers() -> Iterator[dict[str, str]]:
    """Who was the first to import what: packages by package, as far as it was done by a statement."""
    found: dict[str, str] = {}
    plain = builtins.__import__

    def _noted(name: str, scope: Any = None, *given: Any, **more: Any) -> Any:
        package = name.partition(".")[0]
        if package not in sys.modules:
            found.setdefault(package, (scope or {}).get("__name__", "").partition(".")[0])
        return plain(name, scope, *given, **more)

    builtins.__import__ = _noted  # type: ignore[assignment]
    try:
        yield found
    finally:
        builtins.__import__ = plain


def _owner(cls: type) -> Distribution | None:
    """The distribution that lists a plugin's class."""
    found = [p.dist for p in entry_points(group="mbexec") if p.value == f"{cls.__module__}:{cls.__qualname__}"]
    return found[0] if found else None


def _required(owner: Distribution) -> Iterator[str]:
    """Names of a distribution and of all that it requires, without extras."""
    seen: set[str] = set()
    left: list[Distribution] = [owner]
    while left:
        each = left.pop()
        yield each.name
        for line in each.requires or []:
            name = _normal(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0])
            if name in seen or "extra ==" in line:
                continue
            seen.add(name)
            try:
                left.append(distribution(name))
            except PackageNotFoundError:  # required elsewhere, by another Python or system
                continue


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
