"""What an executor imports, against what its distribution requires."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution, entry_points, packages_distributions

from mbexec.testing.trial import Trial, plugged

__all__ = ["undeclared"]


def undeclared(pickled: bytes) -> list[str] | None:
    """Modules that making the executor and a level of it import beyond what its distribution requires.

    None if the executor's class is from no installed distribution. To be called in a fresh process.
    """
    Trial(["plain"]).work.prepare()
    before = set(sys.modules)
    with plugged(pickle.loads(pickled)) as executor:
        owner = _owner(type(executor.plugin))
        if owner is None:
            return None
        Trial(["plain"] * 4).run(executor)
    new = {name.partition(".")[0] for name in sys.modules.keys() - before}
    known = {_normal(name) for name in _required(owner)}
    offered = packages_distributions()
    foreign = {name for name in new - sys.stdlib_module_names if name in offered}
    return sorted(name for name in foreign if not known.intersection(map(_normal, offered[name])))


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
