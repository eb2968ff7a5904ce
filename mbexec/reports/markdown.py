"""The report of a run as Markdown, which reads well in a terminal too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime

from mbexec.core.errors import MbexecError
from mbexec.reports.facts import (
    KJ,
    estimates,
    expansion,
    failure_kinds,
    failure_row,
    has_supersystem,
    known_energies,
    known_sums,
    level_rows,
    models,
    programs,
    ran,
    restrictions,
    sets_of,
    treatments,
    verdict,
)
from mbexec.reports.figures import fixed, percent, ratio, seconds, size
from mbexec.reports.record import Record
from mbexec.tables import counted, omitted, printable

__all__ = ["markdown"]

_SHOWN = 10
_SHOWN_NOTES = 20
_NAMES = {2: "pairs", 3: "triples"}


def markdown(record: Record) -> str:
    """What a run was, what came of it and what it cost; as far as it got, if it broke off."""
    parts = [
        f"# Run {record.run_id}\n\n{verdict(record)[0]}\n",
        _what(record),
        _cost(record),
        _levels(record),
        *_sums(record),
        *_strongest(record),
    ]
    parts += [
        *_estimates(record),
        *_omitted(record),
        _slowest(record),
        _failures(record),
        _running(record),
        _notes(record),
    ]
    return "\n".join(part for part in parts if part)


def _what(record: Record) -> str:
    started, spec = record.started, record.spec
    molecule, many = spec.molecule, spec.specification
    sizes = f"{counted(len(molecule.fragments), 'fragment')}, {counted(len(molecule.symbols), 'atom')}"
    rows = [
        ("molecule", f"{molecule.name}, {sizes}"),
        ("model chemistry", "; ".join(models(record))),
        ("expansion", expansion(record)),
        *(("computed", words) for words in restrictions(record)),
        ("driver", many.driver.value),
        ("executor", f"{started['executor']}, {counted(started['workers'], 'worker')}"),
        ("started", f"{datetime.fromtimestamp(started['time'], UTC):%Y-%m-%d %H:%M:%S} UTC"),
        ("store", started["store"] or "none"),
        ("programs", "; ".join(programs(record))),
        ("mbexec", started["mbexec"]),
    ]  # fmt: skip
    return _table(("run", ""), rows, "ll")


def _cost(record: Record) -> str:
    report = record.report
    done = ran(record)
    counts = [
        ("executed", f"{len(done):,}", f"{sum(each['error'] is not None for each in done)} of them failed"),
        ("reused", f"{len(record.fragments) - len(done):,}", "given by the store; no sum of times counts them"),
    ]
    if report is None:
        spent = sum(each["wall_time"] for each in done)
        return _table(("cost", "", ""), [*counts, ("fragment time", seconds(spent), "sum of wall times so far")], "lrl")
    workers = counted(report["workers"], "worker")
    rows = [
        ("wall time", seconds(report["wall_time"]), "from the first submission to the merged result"),
        *counts,
        ("fragment time", seconds(report["fragment_time"]), "sum of wall times of what was executed"),
        ("serial time", seconds(report["serial_time"]), "the same without what was lost to others: processor, lock"),
        ("contention", ratio(report["contention"]), "fragment time / serial time"),
        ("speedup", ratio(report["speedup"]), "serial time / wall time"),
        ("efficiency", percent(report["efficiency"]), f"speedup / {workers}"),
        ("critical path", seconds(report["critical_path"]), "the least with as many workers as fragments"),
        ("bound", seconds(report["bound"]), f"the least with {workers}"),
        ("start-up", seconds(report["startup"]), "until the first fragment began"),
        ("idle", seconds(report["idle"]), "workers without a fragment, between first start and last end, summed"),
        ("finishing", seconds(report["finishing"]), "from the last end to the merged result"),
        ("imbalance", percent(report["imbalance"]), "by how much the busiest worker's time exceeds the mean"),
        ("retried", str(report["retried"]), f"first runs took {seconds(report['retry_time'])}, in no other sum"),
        (
            "memory",
            size(report["worker_memory"]),
            f"the most in a worker's process; in the run's own {size(report['memory'])}",
        ),
    ]
    if report["bytes_moved"]:
        to, back = report["bytes_moved"]
        rows.append(("moved", size(to + back), f"{size(to)} to workers, {size(back)} from them"))
    return _table(("cost", "", ""), rows, "lrl")


def _levels(record: Record) -> str:
    columns, rows = level_rows(record)
    return "## Load by order\n\nTimes are of what was executed.\n\n" + _table(columns, rows)


def _sums(record: Record) -> Iterator[str]:
    """The energies of each BSSE treatment; of a failed run those that depend on nothing that is missing."""
    known = known_sums(record)
    found = known_energies(record)
    names = treatments(found)
    columns = ("n-body", "total / E_h", "interaction / E_h", "kJ/mol", "contribution / E_h", "kJ/mol")
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
        yield "## Energy\n\n" + _table(("E_h", "kJ/mol"), [_both(known["return_energy"])])


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


def _omitted(record: Record) -> Iterator[str]:
    result, supersystem = record.result or {}, has_supersystem(record)
    if found := result.get("left_out"):
        words = "\n\n".join(omitted.left_out_words(found, supersystem=supersystem))
        yield f"## Left out of the expansion\n\n{words}\n\n" + _table(
            omitted.LEFT_OUT, omitted.left_out_rows(found), "l"
        )
    if told := result.get("screening"):
        yield f"## Screening by energy\n\n{omitted.screening_words(told, supersystem=supersystem)}\n\n" + _table(
            omitted.SCREENING, omitted.screening_rows(told)
        )


def _strongest(record: Record) -> Iterator[str]:
    """Which pairs and triples matter."""
    try:
        contributions = record.contributions
    except MbexecError as error:
        yield f"## Contributions\n\nThey can't be told: {printable(str(error))}\n"
        return
    for bsse, found in contributions.items():
        for nbody, name in _NAMES.items():
            if len(sets := sets_of(found, record.distances, nbody)):
                columns = ("fragments", "contribution / E_h", "kJ/mol", "distance / angstrom")
                rows = [
                    (", ".join(map(str, sets.sets[place])), *_both(sets.values[place]), f"{sets.apart[place]:.2f}")
                    for place in sets.strongest(_SHOWN)
                ]
                more = _more(len(sets))
                yield f"## Strongest {name}, {treatments([bsse])[bsse]}\n\n" + _table(columns, rows, "l", more)


def _slowest(record: Record) -> str:
    done = sorted(ran(record), key=lambda each: -each["wall_time"])
    rows = [
        (each["label"], fixed(each["wall_time"]), fixed(each["cpu_time"]), fixed(each["lost"]), each["worker"])
        for each in done[:_SHOWN]
    ]
    columns = ("fragment calculation", "wall time / s", "CPU / s", "lost / s", "worker")
    return "## Slowest fragments\n\n" + _table(columns, rows, "lrrrl", _more(len(done))) if rows else ""


def _failures(record: Record) -> str:
    kinds = failure_kinds(record)
    if not kinds:
        return ""
    columns = ("fragment calculation", "error", "message")
    told = "The formats json and csv have every message in full.\n"
    rows = map(failure_row, kinds[:_SHOWN_NOTES])
    return "## Failures\n\n" + _table(columns, rows, "lll", _more(len(kinds), _SHOWN_NOTES) + told)


def _running(record: Record) -> str:
    start = record.started["time"]
    rows = [(each["label"], seconds(each["time"] - start)) for each in record.running[:_SHOWN_NOTES]]
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
    return (_energy(value), "" if value is None else f"{value * KJ:.4f}")


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
