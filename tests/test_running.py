"""Who is told that a fragment runs, and when."""

from __future__ import annotations

import threading
import time

import pytest

from mbexec import Task
from mbexec.core.running import Running


@pytest.fixture
def running():
    told = []
    with Running(lambda event: told.append((event.task.index, time.monotonic())), threading.RLock()) as found:
        yield found, told


def task(index):
    return Task(index, "(auto)", (index,), (index,))


def until(found, seconds):
    end = time.monotonic() + seconds
    while not found() and time.monotonic() < end:
        time.sleep(0.01)
    return found()


def test_what_runs_for_a_moment_is_told_of_once_and_what_ended_is_not(running):
    found, told = running
    found.begun(task(1))
    found.begun(task(2))
    found.done(2)
    assert until(lambda: told, 10.0)
    time.sleep(0.3)
    assert [index for index, _ in told] == [1]


def test_a_long_one_after_hundreds_of_short_ones_is_told_of(running):
    found, told = running
    begin = time.monotonic()
    while time.monotonic() - begin < 0.3:  # some looks' time
        for index in range(100):
            found.begun(task(index))
            found.done(index)
    found.begun(task(1000))
    assert until(lambda: 1000 in [index for index, _ in told], 10.0)


class Moments:
    """Time that passes at once: in each pause so many fragments end, and after all of them the run."""

    def __init__(self, found, counts):
        self.found, self.counts, self.pauses = found, list(counts), []

    def wait(self, pause):
        self.pauses.append(pause)
        if not self.counts:
            return True
        for _ in range(self.counts.pop(0)):
            self.found.done(0)
        return False


def test_it_looks_seldom_while_hundreds_end_in_a_second():
    """And often again when they take longer."""
    found = Running(lambda event: None, threading.RLock())
    found._ended = moments = Moments(found, [60, 1200, 400, 10])
    found._watch()
    assert moments.pauses == [0.1, 2.0, 2.0, 0.1, 0.1]
