"""Standard output and standard error that may be full, closed, or gone: no run is lost over them."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from attrs import define, field

__all__ = ["Stream", "Trimmed", "guarded"]


@define(eq=False)
class Stream:
    """A standard stream that takes note when it can't be written to, and raises nothing.

    Attributes
    ----------
    problem
        Why it could not be written to; None as long as it could.
    """

    _stream: TextIO
    problem: OSError | None = field(default=None, init=False)

    def write(self, text: str) -> int:
        """Write, if that can be done."""
        try:
            self._stream.write(text)
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flush, if that can be done."""
        try:
            self._stream.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Let what is still to come, and what waits in buffers, go nowhere."""
        self.problem = self.problem or error
        with suppress(OSError, ValueError), open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@define(eq=False)
class Trimmed:
    """A stream that takes lines of tables without the spaces at their ends."""

    _stream: TextIO

    def write(self, text: str) -> int:
        """Write whole lines."""
        self._stream.write(re.sub(" +$", "", text, flags=re.MULTILINE))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded() -> Iterator[Stream]:
    """Guard the standard streams of this process; gives standard output."""
    before = sys.stdout, sys.stderr
    _fill_gaps()
    output, errors = _guard(sys.stdout), _guard(sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, output), cast(TextIO, errors)
    try:
        yield output
    finally:
        output.flush()
        errors.flush()
        sys.stdout, sys.stderr = before


def _guard(stream: TextIO | None) -> Stream:
    """The stream, guarded; in place of one that was closed from the start, one that can't be written to."""
    return Stream(stream if stream is not None else open(_nowhere(), "w", encoding="utf-8"))


def _fill_gaps() -> None:
    """Let no file that is opened later be what child processes take for a standard stream that was closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(_nowhere(), True)


def _nowhere() -> int:
    """A descriptor, the lowest that is free, that gives nothing and takes nothing."""
    return os.open(os.devnull, os.O_RDONLY)
