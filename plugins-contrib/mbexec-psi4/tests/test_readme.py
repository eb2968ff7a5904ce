"""What the README says is so."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import qcengine
from qcengine.programs.psi4 import Psi4Harness as EngineHarness

pytestmark = pytest.mark.qc

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("psi4")
def test_example(capsys):
    """The example runs as it stands."""
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names = {}
    try:
        exec(code, names)
    finally:
        qcengine.unregister_program("psi4")
        qcengine.register_program(EngineHarness())
    assert names["result"].properties.mp2_total_energy == pytest.approx(-2.8810, abs=1e-4)
    assert np.abs(names["result"].return_result.sum(axis=0)).max() < 1e-7
    assert capsys.readouterr().out.startswith("-2.88")
