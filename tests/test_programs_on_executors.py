"""Real programs on every executor: one answer."""

import numpy as np
import pytest

import mbexec
from tests.systems import WATER_TRIMER, job
from tests.test_executors import EVERYTHING, EXECUTORS, bits

pytestmark = pytest.mark.qc

DIMER = "\n--\n".join(WATER_TRIMER.split("\n--\n")[:2])
SMALL = {"method": "hf", "basis": "sto-3g"}
PYSCF, NWCHEM, PSI4 = ({"program": name, **SMALL} for name in ("pyscf", "nwchem", "psi4"))
TBLITE, XTB = ({"program": name, "method": "GFN2-xTB"} for name in ("tblite", "xtb"))
MOPAC = {"program": "mopac", "method": "pm6"}
MP2 = {**PYSCF, "method": "mp2"}
JOBS = {
    "pyscf": job(WATER_TRIMER, bsse=EVERYTHING, driver="gradient", program=PYSCF),
    "pyscf-hessian": job(DIMER, bsse="cp", driver="hessian", program=PYSCF),
    "tblite": job(WATER_TRIMER, bsse=["cp", "nocp"], driver="gradient", program=TBLITE),
    "xtb": job(WATER_TRIMER, bsse=["cp", "nocp"], driver="gradient", program=XTB),
    "mopac": job(WATER_TRIMER, bsse="nocp", driver="gradient", program=MOPAC),
    "psi4": job(DIMER, bsse=EVERYTHING, driver="gradient", program=PSI4),
    "mixed": job(WATER_TRIMER, bsse=EVERYTHING, levels={"1": "high", "2": "low"}, program={"high": MP2, "low": PYSCF}),
    "vmfc alone": job(WATER_TRIMER, bsse="vmfc", driver="gradient", program=PYSCF),
    "supersystem alone": job(WATER_TRIMER, bsse="cp", supersystem_ie_only=True, program=PYSCF),
    "inner levels": job(
        WATER_TRIMER,
        bsse=["cp", "nocp"],
        driver="gradient",
        levels={"1": "high", "2": "low", "supersystem": "whole"},
        program={"high": MP2, "low": PYSCF, "whole": TBLITE},
        return_total_data=True,
    ),
}


NOISY = {
    "gradient": job(DIMER, bsse=EVERYTHING, driver="gradient", program=NWCHEM),
    "hessian": job(DIMER, bsse="nocp", driver="hessian", program=NWCHEM),
}


@pytest.mark.parametrize("tables", JOBS.values(), ids=JOBS)
def test_one_answer(tables):
    """Whatever the executor: these programs are deterministic at one thread."""
    tables = tables | {"task": {"ncores": 1, "memory": 1}}
    serial, *others = (bits(mbexec.run(tables, executor=name, workers=2)) for name in EXECUTORS)
    assert [name for name, other in zip(EXECUTORS[1:], others, strict=True) if other != serial] == []


@pytest.mark.parametrize("tables", NOISY.values(), ids=NOISY)
def test_one_answer_but_for_noise(tables):
    """NWChem goes by free memory and disk, which differ from moment to moment: energies by 1e-12 E_h as measured."""
    tables = tables | {"task": {"ncores": 1, "memory": 1}}
    serial, *others = (mbexec.run(tables, executor=name, workers=2) for name in EXECUTORS)
    for name, other in zip(EXECUTORS[1:], others, strict=True):
        assert other.result.success, other.result.error.extras["failed"]
        np.testing.assert_allclose(other.energies, serial.energies, rtol=0, atol=1e-11, err_msg=name)
        mine, expected = other.result.return_result, serial.result.return_result
        np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-9, err_msg=name)


def waters(count):
    """Water molecules on a lattice, each turned another way, in angstrom."""
    rng = np.random.default_rng(11)
    own = np.array([[0, 0, 0], [0.757, 0.586, 0], [-0.757, 0.586, 0]])
    lines = []
    for number in range(count):
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        atoms = own @ rotation + 3.1 * np.array([number % 3, number // 3 % 3, number // 9])
        lines.append("\n".join(f"{s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip("OHH", atoms, strict=True)))
    return "\n--\n".join(lines)


@pytest.mark.parametrize(
    "workers", [2, *(pytest.param(count, marks=pytest.mark.nightly) for count in (1, 3, 4, 5, 6, 7, 8))]
)
def test_many_waters(workers):
    """2,324 fragments of 24 waters, GFN2-xTB: the same bits on every executor."""
    tables = job(waters(24), bsse="nocp", max_nbody=3, program=TBLITE) | {"task": {"ncores": 1, "memory": 1}}
    serial, *others = (bits(mbexec.run(tables, executor=name, workers=workers)) for name in EXECUTORS)
    assert [name for name, other in zip(EXECUTORS[1:], others, strict=True) if other != serial] == []
