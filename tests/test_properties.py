"""Properties besides energy, gradient and Hessian: mbe.properties."""

import io

import numpy as np
import pytest
from qcelemental.models.v2 import AtomicResult
from qcmanybody.v2 import ManyBodyComputer
from rich.console import Console

import mbexec
from mbexec import InputError, tables
from tests.systems import PYSCF, WATER_TRIMER, argon, job

MOMENTS = ["scf_dipole_moment", "scf_quadrupole_moment", "mp2_correlation_energy"]


@pytest.fixture
def moments(install):
    """A program whose numbers depend on where each atom is and on whether it is real."""

    class Moments:
        name = "moments"
        thread_safe = True
        ghosts = "honoured"
        leave_out = ()

        @staticmethod
        def found(raise_error=False):
            return True

        def compute(self, input_data, config):
            molecule = input_data.molecule
            weight = np.where(molecule.real, 1.0, 0.01)
            x = molecule.geometry
            size = weight.sum()
            properties = {
                "return_energy": -(size**1.1),
                "scf_dipole_moment": size**1.3 * (weight @ x),
                "scf_quadrupole_moment": size**1.2 * np.einsum("a,ai,aj->ij", weight, x, x),
                "mp2_correlation_energy": -0.01 * size**1.4,
            }
            kept = {name: value for name, value in properties.items() if name not in self.leave_out}
            return AtomicResult(
                input_data=input_data,
                molecule=molecule,
                return_result=properties["return_energy"],
                properties=kept,
                success=True,
                provenance={"creator": "moments"},
            )

    install("moments-program", {"moments": Moments}, group="mbexec.programs")
    return Moments


def moments_job(**mbe):
    return job(argon(4), program={"program": "moments", "method": "any"}, **{"properties": MOMENTS, **mbe})


def sums_of_qcmanybody(found, names):
    """What QCManyBody's own algebra makes of the fragments' properties, by its names."""
    core = ManyBodyComputer.from_manybodyinput(found.plan.spec, build_tasks=False).qcmb_core
    components = {
        label: {"energy": values.return_energy} | {name: getattr(values, name) for name in names}
        for label, values in found.result.cluster_properties.items()
    }
    results = core.analyze(components)["results"]
    return {key: value for key, value in results.items() if any(name in key for name in names)}


def assert_sums_equal(found, names):
    ours, theirs = found.result.extras["mbexec"]["properties"], sums_of_qcmanybody(found, names)
    assert set(ours) == set(theirs)
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key], value, rtol=1e-12, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("bsse_type", ["nocp", "cp", "vmfc", ["cp", "nocp", "vmfc"]], ids=str)
@pytest.mark.parametrize("mbe", [{}, {"max_nbody": 2}, {"max_nbody": 3, "return_total_data": True}], ids=str)
def test_against_qcmanybody(moments, bsse_type, mbe):
    """Every sum that QCManyBody makes of them, of numbers, vectors and tensors."""
    assert_sums_equal(mbexec.run(moments_job(bsse_type=bsse_type, **mbe), executor="serial"), MOMENTS)


def test_with_levels_and_a_supersystem(moments):
    """Several model chemistries in one sum."""
    given = moments_job(bsse_type="nocp", levels={"1": "high", "2": "low", "supersystem": "whole"})
    given["program"] = {label: {"program": "moments", "method": label} for label in ("high", "low", "whole")}
    assert_sums_equal(mbexec.run(given, executor="serial"), MOMENTS)


@pytest.mark.qc
@pytest.mark.parametrize("executor", ["threads", "asyncio", "loky"])
def test_the_same_bits(executor):
    """On every executor, in whatever order they arrive."""
    given = job(WATER_TRIMER, program={"program": "tblite", "method": "GFN2-xTB"}, properties=["scf_dipole_moment"])
    found, serial = (
        mbexec.run(given, executor=name, workers=2).result.extras["mbexec"]["properties"]
        for name in (executor, "serial")
    )
    assert serial
    assert {key: value.tolist() for key, value in found.items()} == {k: value.tolist() for k, value in serial.items()}


def test_a_program_that_has_none(moments):
    """Each fragment fails, and says of what there is none."""
    moments.leave_out = ("scf_quadrupole_moment",)
    found = mbexec.run(moments_job(), executor="serial")
    listed = found.result.error.extras["failed"]
    assert len(listed) == len(found.plan)
    assert "gives no scf_quadrupole_moment, which mbe.properties asks for" in listed[0]["error_message"]


@pytest.mark.parametrize(
    "name", ["dipole", "return_gradient", "scf_total_gradient", "scf_iterations", "calcinfo_natom"]
)
def test_what_can_not_be_expanded(name):
    """Names that QCSchema doesn't have, and properties that are no numbers or differ in size."""
    with pytest.raises(InputError, match=f"has '{name}', which can't be expanded; .*scf_dipole_moment"):
        mbexec.plan(job(argon(3), properties=[name]))


@pytest.mark.parametrize("given", ["scf_dipole_moment", [1], {"scf_dipole_moment": 1}], ids=str)
def test_wrong_extras(given):
    """In QCSchema it is checked like a setting."""
    spec = mbexec.plan(job(argon(3))).spec.model_dump()
    spec["specification"]["extras"] = {"mbexec": {"properties": given}}
    with pytest.raises(InputError, match=r'"properties"\] = .* must be a list of names'):
        mbexec.plan(spec)


def test_the_input_keeps_them(moments):
    """A result's input, run again, gives them again."""
    first = mbexec.run(moments_job(), executor="serial").result
    again = mbexec.run(first.input_data, executor="serial").result
    key = "nocp_corrected_total_scf_dipole_moment"
    ours, theirs = (found.extras["mbexec"]["properties"][key] for found in (first, again))
    assert np.array_equal(ours, theirs)


@pytest.mark.qc
def test_dipole_moments_of_water():
    """All orders of the expansion together are the whole cluster's own dipole moment."""
    given = job(WATER_TRIMER, program=PYSCF, bsse_type=["nocp", "cp"], properties=["scf_dipole_moment"])
    found = mbexec.run(given, executor="threads")
    assert_sums_equal(found, ["scf_dipole_moment"])
    total = found.result.extras["mbexec"]["properties"]["nocp_corrected_total_scf_dipole_moment"]
    whole = found.result.cluster_properties['["(auto)", [1, 2, 3], [1, 2, 3]]'].scf_dipole_moment
    np.testing.assert_allclose(total, whole, rtol=0, atol=1e-12)


def test_tables_show_them(moments):
    """Energies, vectors and tensors, each with its unit; the figures are those of the result."""
    found = mbexec.run(moments_job(max_nbody=2), executor="serial")
    console = Console(width=200, file=io.StringIO())
    console.print(tables.results(found.plan, found.result))
    shown = console.file.getvalue()
    for name, value in found.result.extras["mbexec"]["properties"].items():
        if "total" in name and "2_body" in name:
            assert f"{np.ravel(value)[0]:.{6 if np.ndim(value) else 10}f}" in shown
    for heading in (
        "x / e a0 ",
        "yz / e a0^2",
        "mp2_correlation_energy, no counterpoise",
    ):
        assert heading in shown
