"""Answers on their way from a worker to the parent, which takes all that have come in one read."""

from __future__ import annotations

import os
import pickle
import struct
from typing import Any

from attrs import define, field

__all__ = ["Answers", "put"]

_LENGTH = struct.Struct("!Q")
_MOST = 2**16  # bytes to read at once


def put(descriptor: int, data: bytes) -> None:
    """Send an answer, a tuple in pickled form, the whole of it."""
    left = memoryview(_LENGTH.pack(len(data)) + data)
    while left:
        left = left[os.write(descriptor, left) :]


@define(eq=False)
class Answers:
    """The parent's end of a pipe.

    Attributes
    ----------
    descriptor
        To read from.
    """

    descriptor: int
    _come: bytearray = field(factory=bytearray, init=False)

    def take(self) -> tuple[list[tuple[Any, ...]], int] | None:
        """Answers that have come, and how many bytes were read; waits if there is nothing; None at the pipe's end.

        What a worker was killed over as it sent it never comes.
        """
        try:
            data = os.read(self.descriptor, _MOST)
        except OSError:
            return None
        if not data:
            return None
        self._come += data
        return self._whole(), len(data)

    def _whole(self) -> list[tuple[Any, ...]]:
        answers, start = [], 0
        with memoryview(self._come) as come:
            while (begin := start + _LENGTH.size) <= len(come):
                end = begin + _LENGTH.unpack_from(come, start)[0]
                if end > len(come):
                    break
                answers.append(pickle.loads(come[begin:end]))
                start = end
        del self._come[:start]
        return answers
