"""Rules: plain functions that try a plugin and raise an AssertionError if it breaks its contract."""

from __future__ import annotations

import os
import queue
import sys
import tempfile
import threading
import traceback
import unittest
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

__all__ = ["Broken", "Make", "Rule", "TimedOut", "broken", "check", "gate", "rule"]

Make = Callable[..., Any]
PATIENCE = 60.0


class TimedOut(AssertionError):  # noqa: N818 - a finding that may be nobody's fault
    """A plugin that did not come to an end, which may be its fault or not."""


class Broken(Exception):  # noqa: N818 - a finding about a plugin
    """What a plugin did that it must not do; the words follow "The executor"."""


def broken(did: str) -> Broken:
    """To be raised by a rule that finds a plugin at fault."""
    return Broken(did)


@contextmanager
def gate() -> Iterator[Path]:
    """A file that toys wait at until it is gone; it goes at the latest when the block is left, so that no toy stays."""
    with tempfile.TemporaryDirectory(prefix="mbexec-testing-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "gate"
        path.touch()
        yield path


class Rule(Protocol):
    """A rule; to be called with something that makes the plugin, and for a planner perhaps with an input as `spec`."""

    __name__: str
    __doc__: str | None

    def __call__(self, make: Make, *, patience: float = PATIENCE, **given: Any) -> None:
        """Raise AssertionError if the plugin breaks the rule, unittest.SkipTest if the rule is not for it."""


def rule(role: str, says: str, mend: str, *, here: bool = False) -> Callable[[Callable[..., None]], Rule]:
    """Make a rule of a function that tries a plugin, and is given a gate for toys besides.

    Parameters
    ----------
    role
        Of the plugin.
    says
        The words of the hook's contract, verbatim.
    mend
        How to keep them.
    here
        Whether to try in the thread that asks, for as long as it takes; else in a thread of its own, and with patience.
    """

    def _made(body: Callable[..., None]) -> Rule:
        def _checked(make: Make, *, patience: float = PATIENCE, **given: Any) -> None:
            try:
                with gate() as shut:
                    call = partial(body, make, shut, **given)
                    call() if here else _within(patience, call, role)
            except Broken as found:
                raise AssertionError(_sentence(role, str(found), says, mend)) from found.__cause__
            except (AssertionError, unittest.SkipTest):
                raise
            except Exception as error:
                did = f"raised {type(error).__name__}: {error}"
                raise AssertionError(_sentence(role, did, says, mend)) from error

        _checked.__name__, _checked.__qualname__ = body.__name__, body.__qualname__
        _checked.__doc__, _checked.__module__ = body.__doc__, body.__module__
        return _checked

    return _made


def _sentence(role: str, did: str, says: str, mend: str) -> str:
    return f'The {role} {did.rstrip(".")}. Its contract says: "{says}". {mend}'


class _Bench(threading.Thread):
    """A thread that tries one plugin after the other, as runs of one thread do."""

    def __init__(self) -> None:
        super().__init__(name="mbexec.testing", daemon=True)
        self.calls: queue.SimpleQueue[tuple[Future[None], Callable[[], None]]] = queue.SimpleQueue()
        self.start()

    def run(self) -> None:
        """Wait for something to try."""
        while True:
            future, call = self.calls.get()
            try:
                call()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)
            del future, call


_free: list[_Bench] = []


def _within(patience: float, call: Callable[[], None], role: str) -> None:
    """Call in another thread, so that a plugin that waits for ever is left waiting and told on."""
    bench = _free.pop() if _free else _Bench()
    future: Future[None] = Future()
    bench.calls.put((future, call))
    done, _ = wait([future], patience)
    if not done:
        frame = sys._current_frames().get(bench.ident or 0)
        place = " <- ".join(f"{f.filename}:{f.lineno}" for f in traceback.extract_stack(frame)[:-4:-1])
        load, more = f"{os.getloadavg()[0]:.1f}", f"{10 * patience:g}"
        raise TimedOut(
            f"The {role} timed out: it did not come to an end within {patience:g} s, the patience of the kit; it waits "
            f"at {place}. Perhaps it waits for ever. Perhaps the machine is busy (load average {load}), and it is not "
            f"to blame: have more patience, by check_{role}(..., patience={more}) or "
            f"python -m mbexec.testing --patience {more}."
        )
    _free.append(bench)
    future.result()


def check(rules: Iterable[Rule], make: Make, *, patience: float, **given: Any) -> None:
    """Try all rules and print how each went; raise one AssertionError about all those that were broken."""
    faults = []
    for each in rules:
        try:
            each(make, patience=patience, **given)
        except unittest.SkipTest as why:
            print(f"skipped  {each.__name__}: {why}")
        except AssertionError as fault:
            print(f"{'TIMEOUT' if isinstance(fault, TimedOut) else 'BROKEN '}  {each.__name__}: {fault}")
            faults.append(f"{each.__name__}: {fault}")
        else:
            print(f"kept     {each.__name__}")
    if faults:
        raise AssertionError("\n".join(faults))
