"""Under what a result is kept: a digest of all that decides its numbers, and of nothing else.

That is the fragment as its program sees it (atoms and ghosts, geometry as QCSchema has rounded it, charges,
multiplicities, symmetry), program and version, method, basis, keywords and driver. Where fragments stand in the cluster
does not count, nor do names, workers, cores, memory and paths.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import define, field

from mbexec.core.context import Cluster, Context
from mbexec.core.errors import InputError
from mbexec.core.types import Task, TaskResult

if TYPE_CHECKING:
    from qcelemental.models.v2 import AtomicSpecification

__all__ = ["Keys"]

_DRIVERS = ("energy", "gradient", "hessian")
_FORMAT = "mbexec 1"  # a new one makes all keys new
_SIZE = 20


@define(eq=False)
class Keys:
    """The keys of a run's tasks.

    Attributes
    ----------
    context
        Of the run.
    versions
        Of each program, by its name in lower case. Without one, results can't be told from those of another version.
    driver
        Of the many-body input.
    mcs
        Labels of the plan's model chemistries.

    Raises
    ------
    InputError
        If a keyword has a value that can't be told from others.
    """

    context: Context
    versions: Mapping[str, str]
    driver: str
    mcs: Sequence[str]
    _real: list[bytes] = field(init=False)
    _ghost: list[bytes] = field(init=False)
    _routes: dict[str, list[hashlib.blake2b]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        count = len(self.context.cluster.fragments)
        self._real = [_fragment(self.context.cluster, i, ghost=False) for i in range(count)]
        self._ghost = [_fragment(self.context.cluster, i, ghost=True) for i in range(count)]
        self._routes = {mc: self._starts(mc) for mc in self.mcs}

    def _starts(self, mc: str) -> list[hashlib.blake2b]:
        """Digests of the model chemistries that are tried: of the first, of the first two, and so on."""
        digest = hashlib.blake2b(digest_size=_SIZE)
        digest.update(f"{_FORMAT} {self.context.cluster.fix_symmetry}".encode())
        found = []
        for label in self.context.route(mc):
            specification = self.context.specifications[label]
            version = self.versions.get(specification.program.lower(), "")
            digest.update(_text(specification, version))
            found.append(digest.copy())
        return found

    def own(self, task: Task, result: TaskResult) -> str:
        """What the result of a task is kept under: an error is what came of all that may be tried."""
        step = result.step if result.error is None else self.last(task)
        return self._key(task, step, self.driver)

    def last(self, task: Task) -> int:
        """The last step of what may be tried for a task."""
        return len(self._routes[task.mc]) - 1

    def program(self, task: Task) -> str:
        """The program of a task, in lower case; of all that may be tried, the first one without a version."""
        programs: list[str] = [
            self.context.specifications[label].program.lower() for label in self.context.route(task.mc)
        ]
        return next((name for name in programs if name not in self.versions), programs[0])

    def answers(self) -> list[tuple[int, str]]:
        """Steps and drivers whose results answer this run's tasks, the best first: a gradient has an energy too."""
        drivers = _DRIVERS[_DRIVERS.index(self.driver) :]
        steps = max(map(len, self._routes.values()), default=0)
        return [(step, driver) for driver in drivers for step in range(steps)]

    def of(self, task: Task, step: int, driver: str) -> str | None:
        """The key of an answer to a task; None if its model chemistry has no such step."""
        return self._key(task, step, driver) if step < len(self._routes[task.mc]) else None

    def _key(self, task: Task, step: int, driver: str) -> str:
        digest: hashlib.blake2b = self._routes[task.mc][step].copy()
        digest.update(driver.encode())
        real = set(task.frag)
        if len(real) < len(task.bas):
            route = self.context.route(task.mc)[: step + 1]
            digest.update(bytes(label in self.context.stripped for label in route))
        digest.update(b"".join([self._real[i - 1] if i in real else self._ghost[i - 1] for i in task.bas]))
        return digest.hexdigest()


def _fragment(cluster: Cluster, number: int, *, ghost: bool) -> bytes:
    """Digest of a fragment as part of a calculation; ghosts have neither charge nor spin."""
    atoms = cluster.fragments[number]
    state = "ghost" if ghost else f"{float(cluster.charges[number])!r} {float(cluster.multiplicities[number])!r}"
    parts = [
        " ".join(cluster.symbols[atoms].tolist()).encode(),
        (np.round(cluster.masses[atoms], 6) + 0.0).tobytes(),
        (cluster.geometry[atoms] + 0.0).tobytes(),  # to the decimals of QCSchema; + 0.0, for there is a -0.0
        state.encode(),
    ]
    return hashlib.blake2b(b"\0".join(parts), digest_size=_SIZE).digest()


def _text(specification: AtomicSpecification, version: str) -> bytes:
    told = {
        "program": specification.program.lower(),
        "version": version,
        "model": specification.model.model_dump(),
        "keywords": specification.keywords,
        "extras": specification.extras,
        "protocols": specification.protocols.model_dump(mode="json", exclude_defaults=True),
    }
    return json.dumps(told, sort_keys=True, default=_plain).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [str(value.dtype), value.shape, value.tolist()]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise InputError(
        f"A model chemistry has {value!r:.80}, of type {type(value).__name__}, which has no lasting form: results "
        "could not be told from those of another. Give numbers, text, lists and tables, or run without a store."
    )
