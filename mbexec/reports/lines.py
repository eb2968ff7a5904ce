"""The lines of a record, and how many of them can't be read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define

from mbexec.core.errors import ConfigError
from mbexec.plugins.jsonl import begins_as_record

__all__ = ["Damage", "lines_of"]

START = b"run_started"
_HEAD = re.compile(rb'\s*\{"event":"(\w+)","run_id":"(\w+)"')  # of each line
_OPEN = b'{"event":"'


@define
class Damage:
    """Counts lines that can't be read; not those that were cut off as they were written.

    Behind a piece of a line there is nothing, not even the end of a line, or the line once more, or another run.
    """

    count: int = 0
    _piece: bytes = b""

    def see(self, text: bytes, *, readable: bool) -> None:
        """Take note of a line."""
        head = _HEAD.match(text)
        restarted = head is not None and head[1] == START and self._piece.startswith(_OPEN)
        self.count += bool(self._piece) and not restarted and not text.startswith(self._piece)
        self._piece = b"" if readable else text.strip()

    def end(self, *, whole: bool) -> None:
        """The file has been read, and has the end of its last line or not."""
        self.count += bool(self._piece) and whole


def lines_of(
    path: Path, event: bytes | None = None, run_id: bytes | None = None, damage: Damage | None = None
) -> Iterator[dict[str, Any]]:
    """Whole lines of an event, or of a run; of what was cut off when a run was killed, nothing."""
    try:
        if not begins_as_record(path):
            raise ConfigError(
                f"{path} is no record of runs; `mbexec run JOB` writes one, JOB.jsonl, unless it is told not to."
            )
        with path.open("rb") as file:
            damage, text = damage or Damage(), b""
            for text in map(_whole, file):
                head = _HEAD.match(text)
                line: dict[str, Any] | None = None
                readable = head is not None and text.endswith(b"}\n")
                if head is not None and (event or head[1], run_id or head[2]) == (head[1], head[2]):
                    line = _parsed(text)
                    readable = line is not None
                damage.see(text, readable=readable)
                if line is not None:
                    yield line
            damage.end(whole=text.endswith(b"\n"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"There is no record {path}; `mbexec run JOB` writes one, JOB.jsonl, unless it is told not to."
        ) from error
    except OSError as error:
        raise ConfigError(f"The record {path} can't be read: {error.strerror}.") from error


def _parsed(text: bytes) -> dict[str, Any] | None:
    with suppress(ValueError):
        found: dict[str, Any] = json.loads(text)
        return found
    return None


def _whole(text: bytes) -> bytes:
    """A line; or what another run wrote behind a piece of one."""
    last = text.rfind(_OPEN)
    if last > 0:
        try:
            json.loads(text)
        except ValueError:
            return text[last:]
    return text
