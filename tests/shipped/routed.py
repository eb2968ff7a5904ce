"""A pytest plugin for QCManyBody's own tests: what they compute is computed by mbexec.

``ManyBodyComputer.from_manybodyinput`` becomes :func:`mbexec.run`. Many of those tests want the same fragments, so the
programs answer a question that they have answered before from memory. What was done is counted and written to the file
that ``ROUTED_COUNTS`` names.
"""

from __future__ import annotations

import functools
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import qcmanybody.v1
import qcmanybody.v2
from mbexec_psi4 import Psi4Harness
from qcengine.programs.nwchem.runner import NWChemHarness

import mbexec

DONE: Counter[str] = Counter()


def remembered(compute: Any) -> Any:
    """The same question, the same answer."""
    answers: dict[tuple[str, ...], Any] = {}

    @functools.wraps(compute)
    def asked(self: Any, input_data: Any, config: Any) -> Any:
        specification = input_data.specification.model_dump_json()
        molecule = input_data.molecule
        question = (self.name, specification, molecule.get_hash(), str(molecule.real.tolist()))
        DONE["asked"] += 1
        if question not in answers:
            DONE["computed"] += 1
            answers[question] = compute(self, input_data, config)
        return answers[question]

    return asked


def routed(computer: type, version: int) -> Any:
    """What takes the place of a computer's ``from_manybodyinput``."""
    own = computer.from_manybodyinput

    def from_manybodyinput(input_model: Any, build_tasks: bool = True) -> Any:
        if not build_tasks:
            return own(input_model, build_tasks=False)
        found = mbexec.run(input_model, executor="threads", reporters=[])
        assert found.result.success, found.result.error.error_message
        assert found.report.failed == 0
        DONE["runs"] += 1
        return found.result.convert_v(version)

    return staticmethod(from_manybodyinput)


def pytest_configure(config: pytest.Config) -> None:
    """Route the computers of both QCSchema versions."""
    for name in ("psi4", "nwchem", "cfour", "geometric", "optking", "qcengine", "addon"):
        config.addinivalue_line("markers", f"{name}: of QCManyBody's tests")
    for harness in (Psi4Harness, NWChemHarness):
        harness.compute = remembered(harness.compute)
    for computer, version in ((qcmanybody.v1.ManyBodyComputer, 1), (qcmanybody.v2.ManyBodyComputer, 2)):
        computer.from_manybodyinput = routed(computer, version)


def pytest_sessionfinish() -> None:
    """Tell what was done."""
    Path(os.environ["ROUTED_COUNTS"]).write_text(json.dumps(DONE))
