"""One job with three programs at once: PySCF for monomers, tblite for pairs, NWChem for the whole cluster."""

import numpy as np
import pytest
from qcengine.programs import base
from qcmanybody.v2 import ManyBodyComputer

import mbexec
from mbexec.core.harness import find_harness
from tests.systems import WATER_TRIMER, job

pytestmark = pytest.mark.qc

PROGRAMS = {
    "high": {"program": "pyscf", "method": "hf", "basis": "sto-3g"},
    "low": {"program": "tblite", "method": "gfn2-xtb"},
    "whole": {"program": "nwchem", "method": "hf", "basis": "sto-3g", "keywords": {"scf__thresh": 1e-8}},
}
LEVELS = {"1": "high", "2": "low", "supersystem": "whole"}
EXECUTORS = ["serial", "threads", "asyncio", "loky"]


def tables(driver="energy", bsse=("nocp", "cp")):
    return job(
        WATER_TRIMER, bsse=list(bsse), driver=driver, program=PROGRAMS, levels=LEVELS, return_total_data=True
    ) | {"task": {"ncores": 1, "memory": 1.0}}


@pytest.fixture(scope="module")
def found():
    """The job on every executor."""
    return {name: mbexec.run(tables(), executor=name, workers=2) for name in EXECUTORS}


def test_three_programs_on_every_executor(found):
    """One answer from each: the same bits, but for NWChem's noise in what has the whole cluster in it."""
    serial = found["serial"]
    for name in EXECUTORS:
        assert found[name].result.success, found[name].result.error.error_message
        np.testing.assert_allclose(found[name].energies, serial.energies, rtol=0, atol=1e-11, err_msg=name)
        quiet = [task.index for task in serial.plan if task.mc != "whole"]
        np.testing.assert_array_equal(found[name].energies[quiet], serial.energies[quiet], err_msg=name)
        mine, expected = (each.result.properties.model_dump() for each in (found[name], serial))
        assert sorted(mine) == sorted(expected)
        for key, value in expected.items():
            assert mine[key] == (value if isinstance(value, str) else pytest.approx(value, rel=0, abs=1e-11)), key
    chemistries = {task.mc for task in serial.plan}
    assert chemistries == {"high", "low", "whole"}


def test_three_programs_are_qcmanybodys(found, monkeypatch):
    """Every property agrees with QCManyBody, which calls the same programs through QCEngine and adds up itself."""
    monkeypatch.setenv("QCENGINE_NCORES", "1")
    monkeypatch.setenv("QCENGINE_MEMORY", "1")
    for name, target in (("pyscf", "mbexec_pyscf:PySCFHarness"), ("tblite", "mbexec_tblite:TBLiteHarness")):
        monkeypatch.setitem(base.programs, name, find_harness(name, target))
    theirs = ManyBodyComputer.from_manybodyinput(mbexec.plan(tables()).spec)
    mine, other = found["serial"].result.properties.model_dump(), theirs.properties.model_dump()
    assert sorted(mine) == sorted(other)
    for key, value in other.items():
        if not isinstance(value, str):
            assert mine[key] == pytest.approx(value, abs=1e-10), key


def test_three_programs_by_hand(found):
    """The total energy without counterpoise: monomers high, what pairs add low, what the whole adds beyond both."""
    energies = {
        (task.mc, task.frag): energy
        for task, energy in zip(found["serial"].plan, found["serial"].energies.tolist(), strict=True)
        if task.frag == task.bas
    }
    monomers, pairs = [(1,), (2,), (3,)], [(1, 2), (1, 3), (2, 3)]

    def through_two(mc):
        return sum(energies[mc, pair] for pair in pairs) - sum(energies[mc, one] for one in monomers)

    high = sum(energies["high", one] for one in monomers)
    added = through_two("low") - sum(energies["low", one] for one in monomers)
    rest = energies["whole", (1, 2, 3)] - through_two("whole")
    assert found["serial"].result.return_result == pytest.approx(high + added + rest, abs=1e-10)
