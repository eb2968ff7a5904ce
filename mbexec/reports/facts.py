"""What a record comes to, in numbers that tables and charts share."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import qcelemental as qcel
from attrs import frozen
from numpy.typing import NDArray

from mbexec.reports.record import Record

__all__ = ["KJ", "Sets", "Worker", "energies", "estimates", "known_sums", "ran", "sets_of", "treatments", "workers"]

KJ: float = qcel.constants.hartree2kJmol
_TREATMENTS = {
    "nocp": "no counterpoise correction (nocp)",
    "cp": "counterpoise corrected (cp)",
    "vmfc": "Valiron-Mayer function counterpoise (vmfc)",
}
_KINDS = {
    "total": re.compile(r"(\w+?)_corrected_total_energy_through_(\d+)_body"),
    "interaction": re.compile(r"(\w+?)_corrected_interaction_energy_through_(\d+)_body"),
    "contribution": re.compile(r"(\w+?)_corrected_(\d+)_body_contribution_to_energy"),
}


def treatments(names: Iterable[str]) -> dict[str, str]:
    """In words, in the order of the field, whatever order they come in."""
    given = list(names)
    ordered = [name for name in _TREATMENTS if name in given] + sorted(set(given) - set(_TREATMENTS))
    return {name: _TREATMENTS.get(name, name) for name in ordered}


def energies(properties: Mapping[str, Any]) -> dict[str, dict[str, dict[int, float]]]:
    """Energies in E_h by BSSE treatment, kind (total, interaction, contribution) and nbody.

    What is zero by definition, interaction and contribution of one body, is left out.
    """
    found: dict[str, dict[str, dict[int, float]]] = defaultdict(lambda: {kind: {} for kind in _KINDS})
    for name, value in properties.items():
        for kind, pattern in _KINDS.items():
            if (match := pattern.fullmatch(name)) and isinstance(value, (int, float)):
                nbody = int(match[2])
                if kind == "total" or nbody > 1:
                    found[match[1]][kind][nbody] = value
    return {
        bsse: {kind: dict(sorted(values.items())) for kind, values in found[bsse].items()} for bsse in treatments(found)
    }


def known_sums(record: Record) -> Mapping[str, Any]:
    """The properties of a run; those of a failed one that depend on nothing that is missing."""
    result = record.result or {}
    found: Mapping[str, Any] = (result if result.get("success") else _partial(record)).get("properties") or {}
    return found


def estimates(record: Record) -> Mapping[str, Mapping[str, Any]]:
    """What is known of the sums that depend on what is missing, by their names in the properties."""
    found: Mapping[str, Mapping[str, Any]] = _partial(record).get("estimates") or {}
    return found


def _partial(record: Record) -> Mapping[str, Any]:
    found: Mapping[str, Any] = ((record.result or {}).get("error") or {}).get("partial") or {}
    return found


def ran(record: Record) -> list[dict[str, Any]]:
    """Fragment calculations that ran in this run, failed ones included."""
    return [fragment for fragment in record.fragments if not fragment["reused"]]


@frozen
class Worker:
    """What one worker did.

    Attributes
    ----------
    name
        ``host:pid:thread``.
    ran, failed
        Fragment calculations.
    busy
        Sum of their wall times, s.
    """

    name: str
    ran: int
    failed: int
    busy: float


def workers(record: Record) -> list[Worker]:
    """Those that ran something, in the order in which they began."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for fragment in sorted(ran(record), key=lambda fragment: (fragment["started"], fragment["index"])):
        found[fragment["worker"]].append(fragment)
    return [
        Worker(name, len(done), sum(f["error"] is not None for f in done), sum(f["wall_time"] for f in done))
        for name, done in found.items()
    ]


@frozen(eq=False)
class Sets:
    """Sets of as many fragments, and what each adds beyond its subsets.

    Attributes
    ----------
    sets : (m, n) int array
        1-based fragment numbers.
    values : (m,) float array, E_h
    apart : (m,) float array, angstrom
        The greatest distance between two fragments of a set, from closest atom to closest atom.
    """

    sets: NDArray[np.int64]
    values: NDArray[np.float64]
    apart: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def scaled(self) -> NDArray[np.float64]:
        """The values in kJ/mol."""
        return KJ * self.values

    def strongest(self, count: int) -> list[int]:
        """Places of the `count` greatest in magnitude, the greatest first."""
        order: list[int] = np.argsort(-np.abs(self.values), kind="stable")[:count].tolist()
        return order


def sets_of(contributions: Mapping[tuple[int, ...], float], distances: NDArray[np.float64], nbody: int) -> Sets:
    """The contributions of `nbody` fragments; `distances` are those of the record."""
    chosen = [(frag, value) for frag, value in contributions.items() if len(frag) == nbody]
    sets = np.array([frag for frag, _ in chosen], dtype=np.int64).reshape(-1, nbody)
    pairs = [distances[sets[:, a] - 1, sets[:, b] - 1] for a, b in combinations(range(nbody), 2)]
    return Sets(sets, np.array([value for _, value in chosen], dtype=np.float64), np.max(pairs, axis=0))
