"""A record for other programs: as one JSON object, or as a table of fragment calculations in CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from mbexec.reports.record import Record

__all__ = ["csv_lines", "json_text"]

_COLUMNS = (
    *("index", "label", "mc", "frag", "bas", "nbody", "reused", "energy", "queued", "started", "ended"),
    *("wall_time", "cpu_time", "lost", "worker", "peak_memory", "error_type", "error_message", "notes"),
)


def json_text(record: Record) -> str:
    """Everything, with the names of the record's own lines."""
    contributions = {
        bsse: [{"fragments": frag, "energy": energy} for frag, energy in found.items()]
        for bsse, found in record.contributions.items()
    }
    told = {
        "run_id": record.run_id,
        "started": {name: value for name, value in record.started.items() if name not in ("event", "run_id")},
        "report": record.report,
        "result": record.result,
        "stopped": record.stopped,
        "damaged": record.damaged,
        "levels": record.levels,
        "left_out": record.left_out,
        "contributions": contributions,
        "distances": record.distances.tolist(),
        "fragments": [_bare(line) for line in record.fragments],
        "running": [_bare(line) for line in record.running],
    }
    return json.dumps(told, indent=1) + "\n"


def _bare(line: dict[str, Any]) -> dict[str, Any]:
    """A line without what all lines of a run have in common."""
    return {name: value for name, value in line.items() if name not in ("event", "run_id")}


def csv_lines(record: Record) -> Iterator[str]:
    """A heading, then a line for each fragment calculation; energies in E_h, times in s, memory in bytes."""
    yield _line(_COLUMNS)
    for line in record.fragments:
        error = line["error"] or {"error_type": "", "error_message": ""}
        lists = {name: " ".join(map(str, line[name])) for name in ("frag", "bas")}
        row = {**line, **error, **lists, "reused": str(line["reused"]).lower(), "notes": " ".join(line["notes"])}
        yield _line(row[name] for name in _COLUMNS)


def _line(cells: Iterable[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(["" if cell is None else cell for cell in cells])
    return buffer.getvalue()
