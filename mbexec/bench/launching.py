"""Starting the interpreters in which a job is measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

__all__ = ["ask"]

# Not a module to run: worker processes that some executors start import that one again.
_CODE = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
from mbexec.bench.child import main
main(sys.argv[1])
"""
_POLL = 0.1  # s
_PATIENCE = 2.0  # s, for an interpreter that was told to end


def ask(job: Path, settings: Mapping[str, Any], stop: threading.Event, **wanted: Any) -> dict[str, Any] | None:
    """What a fresh interpreter answers; None if `stop` was set meanwhile.

    Parameters
    ----------
    job
        A file.
    settings
        By dotted key.
    stop
        Set from another thread to end it.
    **wanted
        `places` in the plan to run, else all; or a time `limit` for one fragment of each stratum, s.
    """
    with TemporaryDirectory(prefix="mbexec-bench-") as folder:
        place = Path(folder)
        request = {"places": None, "limit": None, **wanted, "job": str(job), "settings": dict(settings)}
        request["launched"] = time.time()
        (place / "request.json").write_text(json.dumps(request), encoding="utf-8")
        path = json.dumps([entry or os.getcwd() for entry in sys.path])
        call = [sys.executable, "-c", _CODE, folder, path]
        try:
            with (
                (place / "said").open("wb") as said,
                subprocess.Popen(call, stdin=subprocess.PIPE, stdout=said, stderr=said) as process,
            ):
                _wait(process, stop)
        except RuntimeError:  # a command that is being stopped starts no process
            if not stop.is_set():
                raise
        if stop.is_set():
            return None
        try:
            answer: dict[str, Any] = json.loads((place / "answer.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {"problem": _death(process.returncode, (place / "said").read_text(errors="replace"))}
        return answer


def _wait(process: subprocess.Popen[bytes], stop: threading.Event) -> None:
    """Until it has ended, which it does with all that it started when it is told to."""
    try:
        while not stop.is_set():
            with suppress(subprocess.TimeoutExpired):
                process.wait(_POLL)
                return
    finally:
        if process.stdin is not None:
            process.stdin.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()


def _death(code: int, said: str) -> str:
    how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
    last = said.strip().splitlines()[-1:] or ["it said nothing"]
    return f"The process in which it ran ended without an answer ({how}): {last[0]}"
