"""Whether the loky executor keeps its contract: a test for each rule of the conformance kit."""

import subprocess
import sys
import unittest

import pytest
from mbexec_loky import Loky

from mbexec.testing import EXECUTOR_RULES


@pytest.mark.parametrize("rule", EXECUTOR_RULES, ids=lambda rule: rule.__name__)
def test_loky_keeps_every_rule(rule):
    """None is skipped: all capabilities that there are rules for are declared."""
    try:
        rule(Loky)
    except unittest.SkipTest as why:
        raise AssertionError(f"skipped: {why}") from why


ELSEWHERE = {"imports_are_declared", "no_process_is_left"}  # tried in a fresh process, whatever the method here


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_whatever_start_method_the_parent_has(method):
    """The kit in a process that is set to another one than fork; it is set so afterwards, too."""
    script = f"""
import multiprocessing
from mbexec import testing
from mbexec.testing import processes
from mbexec.testing.__main__ import main
testing.EXECUTOR_RULES = [rule for rule in testing.EXECUTOR_RULES if rule.__name__ not in {ELSEWHERE!r}]
processes._TIMEOUT = 1.5  # five times as long at a second trial
multiprocessing.set_start_method({method!r})
problem = main(["loky"])
assert problem is None, problem
assert multiprocessing.get_start_method() == {method!r}
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout
    assert done.stdout.count("kept") == len(EXECUTOR_RULES) - len(ELSEWHERE)
