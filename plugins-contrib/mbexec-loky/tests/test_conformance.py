"""Whether the loky executor keeps its contract: a test for each rule of the conformance kit."""

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
