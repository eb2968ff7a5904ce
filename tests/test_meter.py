"""What a fragment costs where it runs: processor time, what it may have lost to others, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from mbexec.core import meter
from mbexec.core.meter import Meter

SPIN = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"


def spin(seconds=0.2):
    """Compute for so much processor time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def spin_outside():
    subprocess.run([sys.executable, "-c", SPIN], check=True)


def measured(load):
    with Meter() as found:
        load()
    return found


def measured_at_once(load, count=2):
    """So many of them, each in a thread, begun together."""
    gate, found = threading.Barrier(count), []

    def run():
        gate.wait()
        found.append(measured(load))

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def undisturbed(measure):
    """What is measured while no child process of an earlier test ends, whose time would count."""
    for _ in range(5):
        found = measure()
        if not any(each.children for each in found):
            break
    return found


def alone(found):
    """What is left of its wall time."""
    return found.ended - found.started - found.lost


def test_a_load_that_computes():
    """Its processor time, and no less, is what it would have taken alone."""
    spins = [undisturbed(lambda: [measured(spin)])[0] for _ in range(3)]
    found = min(spins, key=lambda each: each.lost)  # the kernel's account of waiting is less exact the more there was
    assert 0.2 <= found.cpu_time < 0.25
    assert found.cpu_time - 0.01 <= alone(found) < 0.35


def test_a_load_that_waits():
    """Nobody else makes it wait; it takes no processor time."""
    [found] = undisturbed(lambda: [measured(lambda: time.sleep(0.2))])
    assert found.cpu_time < 0.05
    assert 0.15 < alone(found) <= found.ended - found.started


def test_loads_that_take_turns_in_one_process():
    """Python's lock makes each wait for the other: alone it would have been ready in its processor time."""
    both = undisturbed(lambda: measured_at_once(spin))
    for found in both:
        assert 0.2 <= found.cpu_time < 0.25
        assert 0.19 < alone(found) < 0.3
    assert sum(each.ended - each.started for each in both) > 0.6


def test_loads_that_wait_at_once():
    """They don't make each other wait."""
    for found in undisturbed(lambda: measured_at_once(lambda: time.sleep(0.2), 4)):
        assert alone(found) > 0.15


def test_child_processes_count():
    """Their processor time is the load's."""
    found = measured(spin_outside)
    assert 0.2 <= found.cpu_time < 0.5
    assert 0.19 < alone(found) <= found.ended - found.started


def test_child_processes_are_counted_once():
    """Those of loads that run at once are shared out among them."""
    before = os.times()
    found = measured_at_once(spin_outside, 3)
    after = os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert sum(each.cpu_time for each in found) == pytest.approx(spent, abs=0.1)


def test_children_that_end_together_are_shared_out():
    """Whoever is asked first does not take them all: the other would seem to have waited for nothing."""
    ended = threading.Barrier(2)
    loads = [Meter(), Meter()]

    def run(load):
        with load:
            subprocess.run([sys.executable, "-I", "-S", "-c", SPIN], check=True)
            ended.wait()

    threads = [threading.Thread(target=run, args=(load,)) for load in loads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(0.15 < load.children < 0.35 for load in loads)


def test_children_of_before_are_not_counted():
    """What was waited for before a load began is not its own."""

    def measure():
        spin_outside()
        return [measured(lambda: time.sleep(0.01))]

    [found] = undisturbed(measure)
    assert found.cpu_time < 0.1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes are not pinned to cores here")
def test_one_core_for_two_processes():
    """Each gets half of it, and says so."""
    script = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from tests.test_meter import alone, measured, spin
print("ready", flush=True)
sys.stdin.readline()
found = measured(lambda: spin(0.5))
print(found.ended - found.started, found.cpu_time, alone(found))
"""
    children = [
        subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()
    for child in children:
        wall, cpu, left = map(float, child.communicate(timeout=60)[0].split())
        assert wall > 0.75
        assert 0.5 <= cpu < 0.6
        assert 0.45 < left < 0.7


def test_memory():
    """The most that the process has held so far, which does not go down."""
    before = measured(lambda: None).peak_memory
    during = measured(lambda: bytearray(300 * 2**20).count(1)).peak_memory
    assert during >= before
    assert during > 300 * 2**20
    assert measured(lambda: None).peak_memory >= during


def test_memory_is_not_that_of_who_started_this():
    """Linux takes what the starting process held for the least that a process has held; the meter does not."""
    script = """
from mbexec.core.meter import Meter, memory
with Meter() as load:
    pass
print(load.peak_memory, memory())
"""
    held = bytearray(400 * 2**20)
    held[::4096] = b"x" * len(held[::4096])
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert [int(word) < 300 * 2**20 for word in done.stdout.split()] == [True, True]


def test_memory_of_children():
    """A program that runs as a child process counts, once it has ended."""
    script = "bytearray(700 * 2**20).count(1)"
    assert measured(lambda: subprocess.run([sys.executable, "-c", script], check=True)).peak_memory > 700 * 2**20


def test_without_the_kernels_counters(monkeypatch):
    """Where the system doesn't tell who waited, all but processor time may have been lost."""
    monkeypatch.setattr(meter._Counter, "read", lambda self: None)
    [found] = undisturbed(lambda: [measured(lambda: (spin(0.1), time.sleep(0.1)))])
    assert alone(found) == pytest.approx(found.cpu_time)
    assert 0.1 <= found.cpu_time < 0.15


def test_counters_that_are_missing():
    """A file that is not there is no error."""
    assert meter._Counter("/no/such/file").read() is None


def test_a_forked_child_measures_anew():
    """The parent's thread is not the child's, and what the parent measures does not go on there."""
    ours, theirs = os.pipe()
    with Meter():
        if not (child := os.fork()):
            try:
                found = measured(lambda: spin(0.1))
                os.write(theirs, f"{found.cpu_time} {found.lost} {found._shared}".encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    cpu, lost, shared = os.read(ours, 100).decode().split()
    os.close(ours)
    os.close(theirs)
    assert 0.1 <= float(cpu) < 0.2
    assert float(lost) < 10
    assert shared == "False"
