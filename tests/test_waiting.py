"""How long the conformance kit waits for what a plugin does."""

import threading
import time

from mbexec.testing.waiting import beside, until


def _computing(left: threading.Event) -> None:
    while not left.is_set():
        pass


def test_it_waits_no_longer_when_nothing_is_computed():
    """For as long as was asked for."""
    start = time.monotonic()
    assert not until(lambda: False, 0.2)
    assert time.monotonic() - start >= 0.2


def test_time_in_which_something_is_computed_does_not_count():
    """What takes longer on a busy machine is waited for."""
    start = time.monotonic()
    with beside(_computing):
        assert until(lambda: time.monotonic() > start + 1, 0.2)


def test_it_does_not_wait_for_ever_for_what_is_never_idle():
    """Threads that watch over a cluster compute a little all the time."""
    start = time.monotonic()
    with beside(_computing):
        assert not until(lambda: False, 0.2)
    assert 1.9 < time.monotonic() - start < 20
