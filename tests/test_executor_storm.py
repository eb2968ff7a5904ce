"""Every executor by every rule of the kit, again and again, each time in another random order."""

import os
import random
import time
import unittest
from collections import Counter, defaultdict
from functools import partial

import psutil
import pytest

import mbexec
from mbexec.core.manager import find_plugin
from mbexec.testing import EXECUTOR_RULES
from tests.systems import argon, job
from tests.test_executors import EXECUTORS, bits

ROUNDS = int(os.environ.get("EXECUTOR_ROUNDS", "200"))
PATIENCE = 300  # s; a rule takes seconds, also on a busy machine
SPREAD = 64  # file descriptors and threads that may be open more or less: idle workers, each with three


class Storm:
    """What was tried, and what came of it.

    Attributes
    ----------
    outcomes
        How often each executor kept, skipped or broke each rule.
    seconds
        What each executor's rules took together.
    faults
        A sentence for each rule that was broken, with the round.
    """

    def __init__(self):
        self.outcomes = defaultdict(Counter)
        self.seconds = defaultdict(float)
        self.faults = []

    def attempt(self, number, executor, name, call):
        """Call, and note how it went; whatever is raised is a fault."""
        start = time.perf_counter()
        try:
            call()
        except unittest.SkipTest:
            outcome = "skipped"
        except Exception as fault:
            outcome = "broken"
            self.faults.append(f"round {number}, {executor}, {name}: {type(fault).__name__}: {fault}")
        else:
            outcome = "kept"
        self.outcomes[executor, name][outcome] += 1
        self.seconds[executor, name] += time.perf_counter() - start

    def table(self):
        """A line for each executor, then one for each rule."""
        lines = []
        for place, title in enumerate(("executor", "rule")):
            lines.append(f"{title:<40}{'kept':>8}{'skipped':>9}{'broken':>8}{'s each':>8}")
            for name in sorted({key[place] for key in self.outcomes}):
                keys = [key for key in self.outcomes if key[place] == name]
                sums = sum((self.outcomes[key] for key in keys), Counter())
                tried = max(1, sums["kept"] + sums["broken"])
                each = sum(self.seconds[key] for key in keys) / tried
                lines.append(f"{name:<40}{sums['kept']:>8}{sums['skipped']:>9}{sums['broken']:>8}{each:>8.2f}")
        return "\n".join(lines)


def held():
    """File descriptors and threads of this process."""
    own = psutil.Process()
    return own.num_fds(), own.num_threads()


@pytest.mark.nightly
@pytest.mark.timeout(0)  # each rule has its own
def test_every_executor_keeps_every_rule_in_any_order(capfd):
    """In one process that goes on and on; and 2,324 fragments give the same bits with 1 to 8 workers, in any schedule.

    ``EXECUTOR_ROUNDS`` says how often, 200 times if it is not set.
    """
    tables = job(argon(24), bsse="nocp", max_nbody=3, driver="gradient")
    expected = bits(mbexec.run(tables, executor="serial"))

    def same_bits(executor):
        asked = {"workers": random.randint(1, 8), "schedule": random.choice(["cost", "nbody"])}
        assert bits(mbexec.run(tables, executor=executor, **asked)) == expected, asked

    storm = Storm()
    trials = []
    for name in EXECUTORS:
        make = find_plugin(name, "executor")
        trials += [(name, rule.__name__, partial(rule, make, patience=PATIENCE)) for rule in EXECUTOR_RULES]
        trials.append((name, "the_same_bits_of_many_fragments", partial(same_bits, name)))
    before, start, told = None, time.monotonic(), 0
    for number in range(1, ROUNDS + 1):
        random.shuffle(trials)
        for executor, name, call in trials:
            storm.attempt(number, executor, name, call)
        capfd.readouterr()  # what rules and workers print
        new, told = storm.faults[told:], len(storm.faults)
        spent = time.monotonic() - start
        with capfd.disabled():
            print("\n".join([f"round {number} of {ROUNDS}, {spent:.0f} s, {told} broken", *new]), flush=True)
        before = before or held()
    with capfd.disabled():
        print(storm.table(), flush=True)
    assert not storm.faults
    grown = [now - then for now, then in zip(held(), before, strict=True)]
    assert max(grown) <= SPREAD, f"file descriptors and threads grew by {grown}"
