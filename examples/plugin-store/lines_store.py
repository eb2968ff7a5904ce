"""A store that writes a line for each result into a file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from attrs import define, field

from mbexec import Task, TaskResult, hookimpl


@define(eq=False)
class Lines:
    """Keeps what did not fail; a fragment that failed is run again.

    Attributes
    ----------
    folder
        Where the file is, results.jsonl.
    """

    folder: str
    _path: Path = field(default=Path(), init=False)
    _known: dict[str, Any] = field(factory=dict, init=False)
    _read: int = field(default=0, init=False)

    def __enter__(self) -> Self:
        """See to it that there is a file."""
        self._path = Path(self.folder) / "results.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left open."""

    def _read_on(self) -> None:
        """Take note of lines that are new, also those of other runs; one that is still being written is for later."""
        with self._path.open("rb") as lines:
            lines.seek(self._read)
            for line in lines:
                if line.endswith(b"\n"):
                    entry = json.loads(line)
                    self._known[entry["key"]] = entry
                    self._read += len(line)

    @hookimpl
    def recall_results(self, tasks: Sequence[Task], keys: Sequence[str]) -> Iterator[TaskResult]:
        """What the last line under each key says."""
        self._read_on()
        for task, key in zip(tasks, keys, strict=True):
            if entry := self._known.get(key):
                values = {name: np.array(v) if isinstance(v, list) else v for name, v in entry["values"].items()}
                yield TaskResult(task.index, values, body=entry["body"] and entry["body"].encode())

    @hookimpl
    def keep_result(self, task: Task, key: str, result: TaskResult) -> None:
        """Add a line. JSON has numbers in full, so that they come back to the last bit."""
        if result.error is not None:
            return
        values = {name: np.asarray(value).tolist() for name, value in result.values.items()}
        body = result.body and result.body.decode()
        line = json.dumps({"key": key, "label": task.label, "values": values, "body": body})
        with self._path.open("a", encoding="utf-8") as lines:
            lines.write(line + "\n")
