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

from mbexec.core import messages
from mbexec.reports.figures import fixed, percent
from mbexec.reports.record import Record
from mbexec.tables.layout import counted

__all__ = [
    "KJ",
    "Sets",
    "Worker",
    "energies",
    "estimates",
    "expansion",
    "failure_kinds",
    "failure_row",
    "has_supersystem",
    "known_energies",
    "known_sums",
    "level_rows",
    "models",
    "programs",
    "ran",
    "restrictions",
    "sets_of",
    "treatments",
    "verdict",
    "workers",
]

KJ: float = qcel.constants.hartree2kJmol
_ANGSTROM: float = qcel.constants.bohr2angstroms
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


def verdict(record: Record) -> tuple[str, bool]:
    """How a run went, in a sentence or two, and whether all went well."""
    told, well = _verdict(record)
    if not record.damaged:
        return told, well
    return f"{told} {counted(record.damaged, 'line')} of the record could not be read.", False


def _verdict(record: Record) -> tuple[str, bool]:
    total, failed = record.wanted, sum(each["error"] is not None for each in record.fragments)
    every = f"{total:,} fragment calculation{'s' * (total != 1)}"
    done, reused = len(record.fragments), sum(each["reused"] for each in record.fragments)
    if record.result is None:
        return f"No end of the run is recorded: it broke off, or still runs. {done:,} of {every} had ended.", False
    if not record.result["success"]:
        if record.stopped:
            rest = f"; {failed:,} failed" if failed else ""
            rest += f"; {total - done:,} did not run" if done < total else ""
            return f"The run was stopped before its end: {done - failed:,} of {every} are done{rest}.", False
        missing = f", and {total - done:,} did not run" if done < total else ""
        return f"{failed:,} of {every} failed{missing}.", False
    if failed:
        return f"{failed:,} of {every} failed, and the result does without.", False
    if reused == total:
        return f"All {every} were known before: nothing had to run.", True
    known = f"; {reused:,} were known before" if reused else ""
    known += f"; {record.duplicates:,} more are the same by symmetry" if record.duplicates else ""
    known += f"; {len(record.left_out):,} more were left out by screening" if record.left_out else ""
    return f"All {every} gave results{known}.", True


def expansion(record: Record) -> str:
    """BSSE treatments and orders, in words."""
    asked = treatments(each.value for each in record.spec.specification.keywords.bsse_type)
    return f"{', '.join(asked.values())}; n-body {', '.join(str(nbody) for nbody, _ in record.started['levels'])}"


def has_supersystem(record: Record) -> bool:
    """Whether the whole cluster adds what the orders leave out."""
    return "supersystem" in (record.spec.specification.keywords.levels or {})


def restrictions(record: Record) -> list[str]:
    """Which fragment sets are computed: what the settings of cutoffs, screening and symmetry say, in words."""
    if record.started["config"]["run"]["planner"] != "manybody":  # another's extras may say anything
        return []
    own: Mapping[str, Any] = record.spec.specification.extras.get("mbexec") or {}
    found: list[str] = []
    if cutoff := own.get("cutoff"):
        measure = own.get("cutoff_measure", "closest_atoms").replace("_", " ")
        lengths = ", ".join(f"{nbody}-body {_ANGSTROM * length:.5g}" for nbody, length in cutoff.items())
        found.append(f"sets within cutoffs (angstrom, {measure}): {lengths}")
    if screen := own.get("screen"):
        thresholds = ", ".join(f"{nbody}-body {least:g}" for nbody, least in screen["thresholds"].items())
        dropped = (
            "what it says counts for the others" if screen.get("dropped", "cheap") == "cheap" else "others ignored"
        )
        found.append(f"sets that add at least (E_h, by {screen['program']}): {thresholds}; {dropped}")
    if tolerance := own.get("symmetry_tolerance"):
        found.append(f"once what is the same by symmetry within {tolerance:g} a0")
    return found


def models(record: Record) -> list[str]:
    """The model chemistries, with their labels if there are several."""
    several = record.spec.specification.specification
    names = {
        label: f"{one.program} " + "/".join(filter(None, [one.model.method, one.model.basis and str(one.model.basis)]))
        for label, one in several.items()
    }
    return [f"{label}: {name}" if len(names) > 1 else name for label, name in names.items()]


def programs(record: Record) -> list[str]:
    """The programs, with their versions as far as they are known."""
    told: Mapping[str, str] = record.started.get("programs", {})
    used = {one.program.lower() for one in record.spec.specification.specification.values()}
    return [f"{name} {told[name]}" if name in told else name for name in sorted(used | told.keys())]


def failure_kinds(record: Record) -> list[list[dict[str, Any]]]:
    """Fragment calculations that failed, those together whose errors differ in nothing but numbers."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in record.fragments:
        if (error := each["error"]) is not None:
            kinds.setdefault((error["error_type"], messages.kind(error["error_message"])), []).append(each)
    return list(kinds.values())


def failure_row(several: list[dict[str, Any]]) -> tuple[str, str, str]:
    """One kind of failure as a row: which fragment calculations, type of the error, what the message says."""
    first, more = several[0], f" and {len(several) - 1} more" if len(several) > 1 else ""
    return first["label"] + more, first["error"]["error_type"], messages.gist(first["error"]["error_message"])


def treatments(names: Iterable[str]) -> dict[str, str]:
    """In words."""
    return {name: _TREATMENTS.get(name, name) for name in names}


def known_energies(record: Record) -> dict[str, dict[str, dict[int, float]]]:
    """The `energies` of `known_sums`, BSSE treatments in the order in which the job has them."""
    found = energies(known_sums(record))
    asked = [each.value for each in record.spec.specification.keywords.bsse_type]
    return {bsse: found[bsse] for bsse in (*asked, *found) if bsse in found}


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
        bsse: {kind: dict(sorted(values.items())) for kind, values in kinds.items()} for bsse, kinds in found.items()
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


def level_rows(record: Record) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Headings, and a row for each order: how many fragment calculations there were, and how long they took."""
    counts = {"nbody": "n-body", "ntasks": "tasks"}
    counts |= {"duplicates": "same by symmetry"} if record.duplicates else {}
    counts |= {"executed": "executed", "reused": "reused", "failed": "failed"}
    counts |= {"left_out": "left out"} if record.left_out else {}
    columns = (*counts.values(), "sum / s", "CPU / s", "shortest / s", "median / s", "longest / s", "imbalance")
    rows = [
        (
            *(f"{level.get(name, 0):,}" for name in counts),
            *(fixed(level[name] if level["executed"] else None) for name in ("wall_time", "cpu_time")),
            *(fixed(level[name]) for name in ("shortest", "typical", "longest")),
            percent(level["imbalance"]),
        )
        for level in record.levels
    ]
    return columns, rows


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
