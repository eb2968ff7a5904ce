"""What a result says besides its number."""

from __future__ import annotations

import importlib.metadata
import pickle

import numpy as np
import pytest
import qcengine
from mbexec_tblite import TBLiteHarness
from tblite import library

pytestmark = pytest.mark.qc

VERSION = ".".join(map(str, library.get_version()))


@pytest.fixture
def _registered():
    """A run of mbexec in this process has registered it already, and nobody is the poorer for it."""
    if "tblite" not in qcengine.list_all_programs():
        qcengine.register_program(TBLiteHarness())


@pytest.mark.usefixtures("_registered")
@pytest.mark.parametrize("driver", ["energy", "gradient"])
def test_through_qcengine(fragment, atomic_input, compute, driver):
    """Registered, the program gives through QCEngine what it gives called directly."""
    task = atomic_input(fragment((1,), (1, 2)), driver=driver)
    result = qcengine.compute(task, "tblite", raise_error=True, task_config={"ncores": 1, "memory": 2})
    assert result.success
    direct = compute(fragment((1,), (1, 2)), driver=driver)
    assert np.array_equal(result.return_result, direct.return_result)
    assert result.properties.model_dump_json() == direct.properties.model_dump_json()


@pytest.mark.usefixtures("_registered")
def test_failure_through_qcengine(fragment, atomic_input):
    """Through QCEngine a refusal becomes a FailedOperation of its kind."""
    task = atomic_input(fragment(), keywords={"xyzzy": 1})
    result = qcengine.compute(task, "tblite", task_config={"ncores": 1, "memory": 2})
    assert not result.success
    assert result.error.error_type == "input_error"
    assert "tblite takes no keyword 'xyzzy'" in result.error.error_message


def test_entry_point():
    """The distribution announces the program by its name."""
    (entry,) = importlib.metadata.entry_points(group="mbexec.programs", name="tblite")
    assert entry.load() is TBLiteHarness


def test_face():
    """The harness is found, tells tblite's version, says that threads may share it, and pickles."""
    program = TBLiteHarness()
    assert program.found(raise_error=True)
    assert program.get_version() == VERSION == importlib.metadata.version("tblite")
    assert (program.name, program.thread_safe, program.thread_parallel) == ("tblite", True, True)
    assert (program.managed_memory, program.scratch, program.node_parallel) == (False, False, False)
    assert pickle.loads(pickle.dumps(program)) == program


@pytest.mark.parametrize("method", ["gfn1-xtb", "GFN1-XTB", " GFN1-xTB "])
def test_provenance(fragment, compute, method):
    """A result names the program, its version and the method as tblite spells it, however it was written."""
    result = compute(fragment(), method)
    provenance = result.provenance
    assert (provenance.creator, provenance.version, provenance.routine) == ("tblite", VERSION, "tblite.GFN1-xTB")
    assert result.extras == {"mbexec_tblite_version": importlib.metadata.version("mbexec-tblite")}


def test_properties(fragment, compute):
    """All atoms are counted, orbitals of the real ones; a gradient brings the energy, an energy no gradient."""
    energy = compute(fragment((1,), (1, 2)))
    gradient = compute(fragment((1,), (1, 2)), driver="gradient")
    known = gradient.properties
    assert (known.calcinfo_natom, known.calcinfo_nbasis, known.calcinfo_nmo) == (6, 6, 6)
    assert known.return_energy == known.scf_total_energy == energy.return_result
    assert np.array_equal(known.return_gradient, known.scf_total_gradient)
    assert np.array_equal(known.return_gradient, gradient.return_result)
    assert energy.properties.return_gradient is None


def test_dipole(fragment, compute):
    """The dipole moment of water is 0.9 e a0 or so, and turns with the molecule."""
    water = fragment()
    dipole = compute(water).properties.scf_dipole_moment
    assert dipole.shape == (3,)
    assert 0.7 < np.linalg.norm(dipole) < 1.0
    turned = compute(fragment(geometry=-water.geometry)).properties.scf_dipole_moment
    assert turned == pytest.approx(-dipole, abs=1e-6)


def test_output(fragment, compute, capfd):
    """What tblite prints is kept in the result where it was asked for, and reaches no screen."""
    assert "total energy" in compute(fragment(), keywords={"verbosity": 1}).stdout
    assert compute(fragment(), keywords={"verbosity": 1}, protocols={"stdout": False}).stdout is None
    assert compute(fragment()).stdout is None
    assert capfd.readouterr() == ("", "")
