"""A store that writes a line for each result, in a file for each input."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from attrs import define, field

from mbexec import Plan, Task, TaskResult, hookimpl


@define(eq=False)
class Lines:
    """Keeps what did not fail; a fragment that failed is run again.

    Attributes
    ----------
    folder
        Where the files are.
    """

    folder: str
    _path: Path = field(default=Path(), init=False)

    @hookimpl(wrapper=True)
    def build_tasks(self, spec: Any) -> Generator[None, Plan, Plan]:
        """Look at the input on its way to the planner: results of another one are in another file."""
        digest = hashlib.sha256(spec.serialize("json").encode()).hexdigest()
        self._path = Path(self.folder) / f"{digest[:32]}.jsonl"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        return (yield)

    @hookimpl
    def recall_results(self, tasks: Sequence[Task]) -> Iterator[TaskResult]:
        """The last line about each of the tasks. A line that was cut off in the middle is left out."""
        wanted = {task.label: task for task in tasks}
        known = {}
        with self._path.open(encoding="utf-8") as lines:
            for line in lines:
                if line.endswith("\n") and (entry := json.loads(line))["label"] in wanted:
                    known[entry["label"]] = entry
        for label, entry in known.items():
            values = {name: np.array(v) if isinstance(v, list) else v for name, v in entry["values"].items()}
            body = entry["body"] and entry["body"].encode()
            yield TaskResult(wanted[label].index, values, body=body)

    @hookimpl
    def keep_result(self, task: Task, result: TaskResult) -> None:
        """Add a line. JSON has numbers in full, so that they come back to the last bit."""
        if result.error is not None:
            return
        values = {name: np.asarray(value).tolist() for name, value in result.values.items()}
        line = json.dumps({"label": task.label, "values": values, "body": result.body and result.body.decode()})
        with self._path.open("a", encoding="utf-8") as lines:
            lines.write(line + "\n")
