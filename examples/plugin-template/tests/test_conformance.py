"""Whether the executor keeps its contract: a test for each rule."""

import pytest
from mbexec_processes import Processes

from mbexec.testing import EXECUTOR_RULES


@pytest.mark.parametrize("rule", EXECUTOR_RULES)
def test_executor(rule):
    rule(Processes)
