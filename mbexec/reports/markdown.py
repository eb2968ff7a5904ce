"""The report of a run as Markdown, which reads well in a terminal too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import qcelemental as qcel

from mbexec.core import messages
from mbexec.core.errors import MbexecError
from mbexec.reports.facts import energies, estimates, known_sums, ran, treatments
from mbexec.reports.record import Record
from mbexec.tables import counted, printable, size_of

__all__ = ["markdown"]

_KCAL: float = qcel.constants.hartree2kcalmol
_SHOWN = 10
_SHOWN_NOTES = 20
_NAMES = {2: "pairs", 3: "triples"}


def markdown(record: Record) -> str:
    """What a run was, what came of it and what it cost; as far as it got, if it broke off."""
    parts = [_head(record), _what(record), _cost(record), _levels(record), *_sums(record), *_strongest(record)]
    parts += [*_estimates(record), _slowest(record), _failures(record), _running(record), _notes(record)]
    return "\n".join(part for part in parts if part)


def _head(record: Record) -> str:
    total = sum(ntasks for _, ntasks in record.started["levels"])
    failed = [each for each in record.fragments if each["error"] is not None]
    left = total - len(record.fragments)
    if record.result is None:
        verdict = (
            f"No end of the run is recorded: it broke off, or still runs. {len(record.fragments)} of "
            f"{counted(total, 'fragment calculation')} had ended."
        )
    elif record.result["success"]:
        verdict = f"All {counted(total, 'fragment calculation')} gave results."
    else:
        rest = f", {left} did not run" if left else ""
        verdict = f"{len(failed)} of {counted(total, 'fragment calculation')} failed{rest}."
    return f"# Run {record.run_id}\n\n{verdict}\n"


def _what(record: Record) -> str:
    started, spec = record.started, record.spec
    molecule, many = spec.molecule, spec.specification
    chemistries = [_model(label, one, len(many.specification)) for label, one in many.specification.items()]
    sizes = f"{counted(len(molecule.fragments), 'fragment')}, {counted(len(molecule.symbols), 'atom')}"
    orders = ", ".join(str(nbody) for nbody, _ in started["levels"])
    rows = [
        ("molecule", f"{molecule.name}, {sizes}"),
        ("model chemistry", "; ".join(chemistries)),
        ("expansion", f"{', '.join(bsse.value for bsse in many.keywords.bsse_type)}; calculations of {orders} bodies"),
        ("driver", many.driver.value),
        ("executor", f"{started['executor']}, {counted(started['workers'], 'worker')}"),
        ("started", f"{datetime.fromtimestamp(started['time'], UTC):%Y-%m-%d %H:%M:%S} UTC"),
        ("store", started["store"] or "none"),
        ("mbexec", started["mbexec"]),
    ]  # fmt: skip
    return _table(("run", ""), rows, "ll")


def _model(label: str, one: Any, several: int) -> str:
    name = f"{one.program} {one.model.method}" + (f"/{one.model.basis}" if one.model.basis else "")
    return f"{label}: {name}" if several > 1 else name


def _cost(record: Record) -> str:
    report = record.report
    done = ran(record)
    counts = [
        ("executed", str(len(done)), f"{sum(each['error'] is not None for each in done)} of them failed"),
        ("reused", str(len(record.fragments) - len(done)), "given by the store; no sum of times counts them"),
    ]
    if report is None:
        spent = sum(each["wall_time"] for each in done)
        return _table(("cost", "", ""), [*counts, ("in programs", _seconds(spent), "sum of wall times so far")], "lrl")
    workers = counted(report["workers"], "worker")
    rows = [
        ("wall time", _seconds(report["wall_time"]), "from the first submission to the merged result"),
        *counts,
        ("fragment time", _seconds(report["fragment_time"]), "sum of wall times of what was executed"),
        ("serial time", _seconds(report["serial_time"]), "the same without what was lost to others: processor, lock"),
        ("contention", _ratio(report["contention"]), "fragment time / serial time"),
        ("speedup", _ratio(report["speedup"]), "serial time / wall time"),
        ("efficiency", _percent(report["efficiency"]), f"speedup / {workers}"),
        ("critical path", _seconds(report["critical_path"]), "the least with as many workers as fragments"),
        ("bound", _seconds(report["bound"]), f"the least with {workers}"),
        ("start-up", _seconds(report["startup"]), "until the first fragment began"),
        ("idle", _seconds(report["idle"]), "workers without a fragment, between first start and last end, summed"),
        ("finishing", _seconds(report["finishing"]), "from the last end to the merged result"),
        ("imbalance", _percent(report["imbalance"]), "by how much the busiest worker's time exceeds the mean"),
        ("retried", str(report["retried"]), f"first runs took {_seconds(report['retry_time'])}, in no other sum"),
        (
            "memory",
            _size(report["worker_memory"]),
            f"the most in a worker's process; in the run's own {_size(report['memory'])}",
        ),
    ]
    if report["bytes_moved"]:
        to, back = report["bytes_moved"]
        rows.append(("moved", _size(to + back), f"{_size(to)} to workers, {_size(back)} from them"))
    return _table(("cost", "", ""), rows, "lrl")


def _levels(record: Record) -> str:
    columns = (
        "n-body",
        "tasks",
        "executed",
        "reused",
        "failed",
        "sum / s",
        "shortest",
        "median",
        "longest",
        "imbalance",
    )
    rows = [
        (
            *(str(level[name]) for name in ("nbody", "ntasks", "executed", "reused", "failed")),
            _fixed(level["wall_time"] if level["executed"] else None),
            *(_fixed(level[name]) for name in ("shortest", "typical", "longest")),
            _percent(level["imbalance"]),
        )
        for level in record.levels
    ]
    return "## Load by order\n\nTimes are of what was executed.\n\n" + _table(columns, rows)


def _sums(record: Record) -> Iterator[str]:
    """The energies of each BSSE treatment; of a failed run those that depend on nothing that is missing."""
    known = known_sums(record)
    found = energies(known)
    names = treatments(found)
    columns = ("n-body", "total / E_h", "interaction / E_h", "kcal/mol", "contribution / E_h", "kcal/mol")
    exact = "" if record.result is None or record.result["success"] else "Exact: what is missing does not count.\n\n"
    for bsse, kinds in found.items():
        orders = sorted({nbody for values in kinds.values() for nbody in values})
        rows = [
            (
                _order(record, nbody),
                _energy(kinds["total"].get(nbody)),
                *_both(kinds["interaction"].get(nbody)),
                *_both(kinds["contribution"].get(nbody)),
            )
            for nbody in orders
        ]
        yield f"## Energies, {names[bsse]}\n\n{exact}" + _table(columns, rows)
    if not found and known.get("return_energy") is not None:
        yield "## Energy\n\n" + _table(("E_h", "kcal/mol"), [_both(known["return_energy"])])


def _order(record: Record, nbody: int) -> str:
    """Number of bodies; of all of them, if another model chemistry takes over there, in a word."""
    whole = "supersystem" in (record.spec.specification.keywords.levels or {})
    return "supersystem" if whole and nbody == len(record.spec.molecule.fragments) else str(nbody)


def _estimates(record: Record) -> Iterator[str]:
    rows = [
        (name, f"{each['unknown']} of {each['of']}", _energy(each["estimate"]), _energy(each["bound"]))
        for name, each in estimates(record).items()
        if "energy" in name
    ]
    if rows:
        columns = ("sum", "unknown increments", "estimate / E_h", "+- / E_h")
        yield "## Estimates of what is not known\n\n" + _table(columns, rows, "l")


def _strongest(record: Record) -> Iterator[str]:
    """Which pairs and triples matter."""
    try:
        contributions = record.contributions
    except MbexecError as error:
        yield f"## Contributions\n\nThey can't be told: {printable(str(error))}\n"
        return
    for bsse, found in contributions.items():
        for nbody, name in _NAMES.items():
            sets = sorted((each for each in found.items() if len(each[0]) == nbody), key=lambda each: -abs(each[1]))
            if sets:
                columns = ("fragments", "contribution / E_h", "kcal/mol", "distance / angstrom")
                rows = [(_members(frag), *_both(value), _apart(record, frag)) for frag, value in sets[:_SHOWN]]
                more = _more(len(sets))
                yield f"## Strongest {name}, {treatments([bsse])[bsse]}\n\n" + _table(columns, rows, "l", more)


def _members(frag: Iterable[int]) -> str:
    return ", ".join(map(str, frag))


def _apart(record: Record, frag: Sequence[int]) -> str:
    """Between the closest atoms of each two."""
    return ", ".join(f"{record.distances[a - 1, b - 1]:.2f}" for a, b in combinations(frag, 2))


def _slowest(record: Record) -> str:
    done = sorted(ran(record), key=lambda each: -each["wall_time"])
    rows = [
        (each["label"], _fixed(each["wall_time"]), _fixed(each["cpu_time"]), _fixed(each["lost"]), each["worker"])
        for each in done[:_SHOWN]
    ]
    columns = ("fragment calculation", "wall time / s", "processor time / s", "lost / s", "worker")
    return "## Slowest fragments\n\n" + _table(columns, rows, "lrrrl", _more(len(done))) if rows else ""


def _failures(record: Record) -> str:
    """Failures that differ in nothing but numbers in one row."""
    kinds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in record.fragments:
        if (error := each["error"]) is not None:
            kinds.setdefault((error["error_type"], messages.kind(error["error_message"])), []).append(each)
    rows = [
        (
            several[0]["label"] + (f" and {len(several) - 1} more" if len(several) > 1 else ""),
            error_type,
            messages.gist(several[0]["error"]["error_message"]),
        )
        for (error_type, _), several in list(kinds.items())[:_SHOWN_NOTES]
    ]
    if not rows:
        return ""
    columns = ("fragment calculation", "error", "message")
    told = "The formats json and csv have every message in full.\n"
    return "## Failures\n\n" + _table(columns, rows, "lll", _more(len(kinds), _SHOWN_NOTES) + told)


def _running(record: Record) -> str:
    start = record.started["time"]
    rows = [(each["label"], _seconds(each["time"] - start)) for each in record.running[:_SHOWN_NOTES]]
    if not rows:
        return ""
    columns = ("fragment calculation", "began after")
    more = _more(len(record.running), _SHOWN_NOTES)
    return "## Running when the record ends\n\n" + _table(columns, rows, "l", more)


def _notes(record: Record) -> str:
    found = Counter(note for each in record.fragments for note in each["notes"])
    rows = [(str(count), note) for note, count in found.most_common(_SHOWN_NOTES)]
    return "## Notes\n\n" + _table(("fragments", "note"), rows, "ll", _more(len(found), _SHOWN_NOTES)) if rows else ""


def _more(count: int, shown: int = _SHOWN) -> str:
    return f"... and {count - shown} more.\n" if count > shown else ""


def _energy(value: float | None) -> str:
    return "" if value is None else f"{value:.10f}"


def _both(value: float | None) -> tuple[str, str]:
    return (_energy(value), "" if value is None else f"{value * _KCAL:.4f}")


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f} s" if abs(value) >= 0.1 or not value else f"{1000 * value:.2f} ms"


def _fixed(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f} %"


def _size(value: int | None) -> str:
    return "-" if value is None else size_of(value)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], aligned: str = "", more: str = "") -> str:
    """A table in Markdown, its columns as wide as they must be, `aligned` l or r each; numbers if it doesn't say."""
    cells = [[_cell(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(3, *(len(row[place]) for row in cells)) for place in range(len(columns))]
    sides = aligned.ljust(len(columns), "r")
    lines = [_joined(map(_filled, row, widths, sides)) for row in cells]
    rule = _joined(
        "-" * width if side == "l" else "-" * (width - 1) + ":" for width, side in zip(widths, sides, strict=True)
    )
    return "\n".join([lines[0], rule, *lines[1:], "", *([more] if more else [])])


def _filled(cell: str, width: int, side: str) -> str:
    return cell.ljust(width) if side == "l" else cell.rjust(width)


def _joined(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return " ".join(printable(text).split()).replace("|", "\\|")
