"""Rules for executors: what happens when a run is stopped, an iterator is closed, or somebody interrupts."""

from __future__ import annotations

import os
import signal
import threading
import time
import unittest
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mbexec.testing.results import check_complete, check_values
from mbexec.testing.rules import Make, broken, rule
from mbexec.testing.trial import Trial, plugged
from mbexec.testing.waiting import beside, opened_when_idle, until

__all__ = ["an_interrupt_passes", "closing_cancels", "draining_finishes_what_was_pulled"]

_SETTLED = 1.0


@rule(
    "executor",
    "When it ends early, finish what was pulled and yield it",
    "When the level gives nothing more, go on until everything that was pulled has given its result.",
)
def draining_finishes_what_was_pulled(make: Make, gate: Path) -> None:
    """When a run is stopped, every task that was pulled still gives its result."""
    trial = Trial(["slow"] * 40, {"slow": {"sleep": 0.01}})
    got = []
    with plugged(make) as executor, closing(trial.submit(executor)) as results:
        for result in results:
            got.append(result)
            trial.stop.set()
    check_complete(trial, got)
    check_values(trial, got)


@rule(
    "executor",
    "When the returned iterator is closed, cancel what can be cancelled and return",
    "Cancel what waits for a worker in a `finally` around the loop that yields.",
)
def closing_cancels(make: Make, gate: Path) -> None:
    """When the iterator is closed, no task begins any more, but for one a worker that may have been on its way."""
    own = [gate.with_name(f"gate-{number}") for number in range(21)]
    for each in own:
        each.symlink_to(gate)
    toys = {each.name: {"log": f"{each}.log", "wait": str(each)} for each in own}
    trial = Trial(list(toys), toys)
    with plugged(make) as executor:
        results = trial.submit(executor)
        with _first_let_go(gate):
            next(results)
        running = min(trial.work.workers, len(trial.level.pulled) - 1)
        until(lambda: len(_begun(gate)) >= 1 + running, 2 * _SETTLED)
        before = len(_begun(gate))
        with opened_when_idle(gate, _SETTLED):
            results.close()
        until(lambda: len(_begun(gate)) > before + trial.work.workers, _SETTLED)
    if (begun := len(_begun(gate))) > before + trial.work.workers:
        raise broken(f"began {begun - before} tasks after its iterator was closed")


def _begun(gate: Path) -> list[Path]:
    """The gates of their own at which toys have begun to wait, by their logs."""
    return [log.with_suffix("") for log in gate.parent.glob("gate-*.log")]


@contextmanager
def _first_let_go(gate: Path) -> Iterator[None]:
    """Let one toy go that has begun, whichever it is: executors may begin in any order."""

    def _letting_go(left: threading.Event) -> None:
        while not (begun := _begun(gate)) and not left.wait(0.01):
            pass
        for each in begun[:1]:
            each.unlink(missing_ok=True)

    with beside(_letting_go):
        yield


@rule(
    "executor",
    "Let ``KeyboardInterrupt`` pass",
    "Catch Exception, not BaseException, and clean up in `finally`.",
    here=True,
)
def an_interrupt_passes(make: Make, gate: Path) -> None:
    """Ctrl-C while a task runs comes out of the iterator as KeyboardInterrupt."""
    if threading.current_thread() is not threading.main_thread():
        raise unittest.SkipTest("interrupts reach the main thread only, and this is another")
    trial = Trial(["interrupting"] + ["plain"] * 7, {"interrupting": {"interrupt": os.getpid()}})
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with plugged(make) as executor:
            trial.run(executor)
            time.sleep(0.2)  # the interrupt may still be on its way
    except KeyboardInterrupt:
        return
    finally:
        signal.signal(signal.SIGINT, before)
    raise broken("went on after an interrupt")
