"""Whether the loky executor keeps its contract: a test for each rule of the conformance kit."""

import pytest
from mbexec_loky import Loky

from mbexec.testing import EXECUTOR_RULES

UNDECLARED = pytest.mark.xfail(strict=True, reason="Loky does not declare isolates_processes yet")


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(rule, marks=[UNDECLARED] * (rule.__name__ == "declarations_hold"), id=rule.__name__)
        for rule in EXECUTOR_RULES
    ],
)
def test_loky_keeps_every_rule(rule):
    """Or is skipped, with the reason, where a rule is for what it does not declare."""
    rule(Loky)
