"""Events as lines of JSON."""

from __future__ import annotations

import json
import platform
import re
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import attrs
import numpy as np
import orjson

from mbexec import (
    FragmentDone,
    FragmentHeld,
    FragmentStarted,
    LevelDone,
    MetricsEvent,
    RunConfig,
    RunDone,
    RunStarted,
    TasksLeftOut,
)

__all__ = ["line"]

_LIBRARIES = ("numpy", "qcelemental", "qcmanybody")
_LARGE = re.compile("gradient|hessian")
_version = lru_cache(version)  # which reads a file


def line(event: MetricsEvent, run_id: str) -> bytes:
    """What there is to tell of it, with the end of the line; nothing if it is not for the record."""
    told = _told(event, run_id)
    return _line(told) if told else b""


def _plain(value: Any) -> Any:
    """What JSON has no word for: numbers and arrays of NumPy's as they are, the rest in words."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    return str(value)


def _line(told: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(told, _plain, orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        with suppress(TypeError):  # keys that are numbers, which take longer
            return orjson.dumps(told, _plain, orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS)
    # Whole numbers of more than 64 bits, text that is no Unicode.
    return json.dumps(told, separators=(",", ":"), default=_plain).encode() + b"\n"


def _told(event: MetricsEvent, run_id: str) -> dict[str, Any]:
    """What there is to tell of it; nothing if it is not for the record."""
    match event:
        case FragmentDone():
            return _done(event, run_id)
        case FragmentStarted(task=task):
            name, told = "fragment_started", {"time": event.time, "index": task.index, "label": task.label}
        case FragmentHeld():
            name, told = "fragment_held", _first_run(event)
        case RunStarted():
            name, told = "run_started", _start(event)
        case TasksLeftOut(indices=indices):
            name, told = "tasks_left_out", {"time": time.time(), "indices": indices}
        case LevelDone(level=level):
            name, told = "level_done", attrs.asdict(level)
        case RunDone():
            outcome = {"result": _outcome(event.result), "stopped": event.stopped}
            name, told = "run_done", {"report": event.report.as_dict(), **outcome}
        case _:
            return {}
    return {"event": name, "run_id": run_id, **told}


def _start(event: RunStarted) -> dict[str, Any]:
    return {
        "time": time.time(),
        "mbexec": _version("mbexec"),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _LIBRARIES},
        "programs": dict(event.programs),
        "host": socket.gethostname(),
        "executor": event.executor,
        "workers": event.workers,
        "levels": event.levels,
        "store": event.store,
        "input": json.loads(event.plan.spec.serialize("json")),
        "config": _tables(event.config),
    }


def _tables(config: RunConfig) -> dict[str, Any]:
    """The settings as a job file has them, and where each is from."""
    orders = {str(nbody): attrs.asdict(task) for nbody, task in config.task_of.items()}
    return {
        "run": attrs.asdict(config.run),
        "task": attrs.asdict(config.task) | orders,
        "plugin": config.plugin,
        "sources": config.sources,
    }


def _first_run(event: FragmentHeld) -> dict[str, Any]:
    task, result = event.task, event.result
    return {
        "index": task.index,
        "label": task.label,
        "started": event.started,
        "ended": event.ended,
        "wall_time": result.wall_time,
        "worker": result.worker,
        "error": None if result.error is None else attrs.asdict(result.error),
    }


def _done(event: FragmentDone, run_id: str) -> dict[str, Any]:
    """There are many of these: what follows from the rest, as the label does, would take time and room."""
    task, result = event.task, event.result
    return {
        "event": "fragment_done",
        "run_id": run_id,
        "index": task.index,
        "mc": task.mc,
        "frag": task.frag,
        "bas": task.bas,
        "nbody": task.nbody,
        "reused": event.reused,
        "energy": result.values.get("energy"),
        "queued": event.queued,
        "started": event.started,
        "ended": event.ended,
        "wall_time": result.wall_time,
        "cpu_time": result.cpu_time,
        "lost": result.lost,
        "worker": result.worker,
        "peak_memory": result.peak_memory,
        "error": None if result.error is None else attrs.asdict(result.error),
        "notes": result.notes,
    }


def _outcome(result: Any) -> dict[str, Any]:
    """What came of the run, without arrays of the cluster's size: they are for its result's own file."""
    if result.success:
        own = result.extras.get("mbexec") or {}
        properties = _small({**result.properties.model_dump(), **own.get("properties", {})})
        left_out = {"left_out": own["left_out"]} if own.get("left_out") else {}
        return {"success": True, "properties": properties, **left_out, **_screening(own)}
    error = result.error.model_dump(include={"error_type", "error_message"})
    own = result.error.extras or {}
    partial = own.get("partial")
    if isinstance(partial, Mapping):
        error["partial"] = {**partial, "properties": _small(partial.get("properties", {}))}
    return {"success": False, "error": error, **_screening(own)}


def _screening(own: Mapping[str, Any]) -> dict[str, Any]:
    return {"screening": own["screening"]} if "screening" in own else {}


def _small(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in properties.items() if value is not None and not _LARGE.search(key)}
