"""What is printed in a worker goes to a file of its own: it belongs to a fragment, or tells why a worker died."""

from __future__ import annotations

import ctypes
import io
import os
import sys
from pathlib import Path

__all__ = ["FILE", "catch", "last_words", "take"]

FILE = "output"
_MOST = 65_536
_LAST = 2000
_LINES = 1  # the C library's _IOLBF
_libc = ctypes.CDLL(None)


def catch(directory: str) -> None:
    """From now on, standard output and standard error go to a file there, child processes' included."""
    caught = os.open(os.path.join(directory, FILE), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    _flush()
    for descriptor in (1, 2):
        os.dup2(caught, descriptor)
    os.close(caught)
    # Line by line, or the last words of a worker that is killed would be lost in buffers.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    _libc.setvbuf(ctypes.c_void_p.in_dll(_libc, "stdout"), None, _LINES, 0)


def take() -> str:
    """What has been printed since the last time; of very much, the end."""
    _flush()
    size = os.fstat(1).st_size
    if size == 0:
        return ""
    text = os.pread(1, _MOST, max(0, size - _MOST)).decode(errors="replace")
    os.ftruncate(1, 0)
    return text if size <= _MOST else f"...{text}"


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    _libc.fflush(None)


def last_words(directory: str) -> str:
    """The end of what a worker has printed and not handed over, read by the parent; empty if there is nothing."""
    try:
        text = Path(directory, FILE).read_bytes().decode(errors="replace").strip()
    except OSError:
        return ""
    return text if len(text) <= _LAST else f"...{text[-_LAST:]}"
