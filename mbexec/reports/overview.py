"""Parts of the page about the run as a whole: what it was, how it went, with which settings, what went wrong."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from mbexec.core import messages
from mbexec.reports.facts import expansion, failure_kinds, failure_row, models, programs, ran, restrictions, verdict
from mbexec.reports.figures import MISSING, percent, ratio, seconds, size
from mbexec.reports.html import definitions, details, paragraph, section, table, text, tiles
from mbexec.reports.record import Record
from mbexec.tables.layout import counted

__all__ = ["configuration", "failures", "head", "notes", "provenance", "summary"]

_SHOWN = 30
_WORDS = 20_000  # of one message


def head(record: Record) -> str:
    """The title, and how it went in a sentence."""
    told, well = verdict(record)
    begun = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record.started["time"]))
    what = f"{_cluster(record)} on {record.started['executor']}, {begun} UTC"
    kind = "" if well else " bad"
    return f'<h1>Run {text(record.run_id)}</h1>\n<p>{text(what)}</p>\n<p class="verdict{kind}">{text(told)}</p>'


def _cluster(record: Record) -> str:
    molecule = record.spec.molecule
    fragments, atoms = counted(len(molecule.fragments), "fragment"), counted(len(molecule.symbols), "atom")
    return f"{molecule.get_molecular_formula()}, {fragments}, {atoms}"


def summary(record: Record) -> str:
    """What ran, and what it cost."""
    told = definitions(
        [
            ("Model chemistry", "; ".join(models(record))),
            ("Expansion", expansion(record)),
            *(("Computed", words) for words in restrictions(record)),
            ("Driver", record.spec.specification.driver.value),
            ("Executor", f"{record.started['executor']}, {counted(record.started['workers'], 'worker')}"),
            ("Store", record.started["store"] or "none"),
        ]
    )
    return section("summary", "Summary", [tiles(map(_measured, _figures(record))), told])


def _measured(tile: tuple[str, str, str]) -> tuple[str, str, str]:
    name, figure, words = tile
    return name, "not measured" if figure == MISSING else figure, words


def _figures(record: Record) -> Iterator[tuple[str, str, str]]:
    """What the tiles show."""
    done = ran(record)
    failed, reused = sum(each["error"] is not None for each in done), len(record.fragments) - len(done)
    known = f"{reused:,} reused, " if reused else ""
    left_out = f", {len(record.left_out):,} left out" if record.left_out else ""
    report = record.report
    if report is None:
        yield "Executed", f"{len(done):,}", f"{known}{failed:,} failed{left_out}"
        yield "Fragment time", seconds(sum(each["wall_time"] for each in done)), "sum of wall times so far"
        return
    yield "Wall time", seconds(report["wall_time"]), "from the first submission to the merged result"
    yield (
        "Executed",
        f"{report['executed']:,}",
        f"{known}{failed:,} failed, {report['retried']:,} retried{left_out}",
    )
    if not done:
        return
    yield "Speedup", ratio(report["speedup"]), _based(report)
    workers = counted(report["workers"], "worker")
    yield "Efficiency", percent(report["efficiency"]), f"of {workers}: speedup per worker"
    lost = f"fragment time, {seconds(report['fragment_time'])}, over serial time"
    yield "Contention", ratio(report["contention"]), lost if report["contention"] else "no time lost was measured"
    path = f"the critical path, {seconds(report['critical_path'])}, is the least with as many as fragments"
    yield "Bound", seconds(report["bound"]), f"the least with {workers}; {path}" if report["bound"] else ""
    ends = f"until the first fragment began; {seconds(report['finishing'])} after the last ended"
    yield "Start-up", seconds(report["startup"]), ends
    busiest = report["imbalance"]
    beyond = "" if busiest is None else f"; the busiest had {percent(busiest)} more to do than the mean"
    yield "Idle", seconds(report["idle"]), f"sum over workers, between first start and last end{beyond}"
    own = f"a worker's process at most; {size(report['memory'])} the one that handed out"
    yield "Memory", size(report["worker_memory"]), own
    if report["bytes_moved"]:
        to, back = report["bytes_moved"]
        yield "Moved", size(to + back), f"{size(to)} to workers, {size(back)} back"


def _based(report: Mapping[str, Any]) -> str:
    if report["speedup"] is None:
        return "the executor does not measure what fragments wait"
    return (
        f"serial time {seconds(report['serial_time'])} over wall time; serial time is what the fragments took, "
        "less what they waited for a processor and for each other"
    )


def configuration(record: Record) -> str:
    """Each setting, and where it is from."""
    tables = record.started["config"]
    sources = tables.get("sources", {})
    found = _flat({name: value for name, value in tables.items() if name != "sources"})
    rows = [(key, _shown(value), sources.get(key, "")) for key, value in found]
    return section(
        "configuration", "Configuration", [table("settings", "", ("setting", "value", "from"), rows, left=3)]
    )


def _flat(tables: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tables.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def provenance(record: Record) -> str:
    """What made the results, and where."""
    started = record.started
    hosts = sorted({each["worker"].partition(":")[0] for each in ran(record) if each["worker"]})
    versions = {"mbexec": started["mbexec"], **started.get("versions", {})}
    entries = [
        ("Run", record.run_id),
        ("Programs", "; ".join(programs(record))),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("Started on", started.get("host")),
        ("Workers on", ", ".join(hosts)),
    ]
    written = details("The many-body input, as QCSchema", f"<pre>{text(json.dumps(started['input'], indent=1))}</pre>")
    return section("provenance", "Provenance", [definitions(entries), written])


def failures(record: Record) -> str:
    """What failed, in whose words, and what never ended."""
    kinds = failure_kinds(record)
    parts = list(_kinds(kinds)) if kinds else [paragraph("No fragment calculation failed.")]
    result = record.result or {}
    if not kinds and result.get("error"):
        parts = [paragraph(f"{result['error'].get('error_type')}: {result['error'].get('error_message')}")]
    began = [(each["label"], _clock(each["time"], record)) for each in record.running[:_SHOWN]]
    caption = f"Began and gave no result ({len(record.running)})"
    parts.append(table("running", caption, ("fragment calculation", "began after"), began, more=_more(record.running)))
    return section("failures", "Failures", parts)


def _kinds(kinds: list[list[dict[str, Any]]]) -> Iterator[str]:
    """A row for each, and one message of each in full."""
    columns = ("fragment calculations", "error", "message")
    yield table("failed", "What failed", columns, map(failure_row, kinds[:_SHOWN]), left=3, more=_more(kinds))
    for several in kinds[:_SHOWN]:
        message = several[0]["error"]["error_message"][:_WORDS].strip()
        if message != messages.gist(message):
            yield details(f"{several[0]['label']} in full", f"<pre>{text(message)}</pre>")


def _clock(moment: float, record: Record) -> str:
    return seconds(moment - record.started["time"])


def _more(rows: Any) -> str:
    return f"and {len(rows) - _SHOWN} more" if len(rows) > _SHOWN else ""


def notes(record: Record) -> str:
    """What fragments' results came with."""
    counts = Counter(note for each in record.fragments for note in each["notes"])
    first = {note: each["label"] for each in reversed(record.fragments) for note in each["notes"]}
    rows = [(note, first[note], count) for note, count in counts.most_common(_SHOWN)]
    found = table("noted", "", ("note", "first of", "fragments"), rows, left=2, more=_more(counts))
    return section("notes", "Notes", [found or paragraph("There are none.")])
