"""Whether the parsl executor keeps its contract: a test for each rule of the conformance kit."""

import unittest

import pytest
from mbexec_parsl import Parsl

from mbexec.testing import EXECUTOR_RULES


@pytest.mark.parametrize("rule", EXECUTOR_RULES, ids=lambda rule: rule.__name__)
def test_parsl_keeps_every_rule(rule):
    """None is skipped: all capabilities that there are rules for are declared."""
    try:
        rule(Parsl, patience=240)
    except unittest.SkipTest as why:
        raise AssertionError(f"skipped: {why}") from why
