"""What a result says besides its number, and who gets it."""

from __future__ import annotations

import importlib.metadata
import json
import pickle

import numpy as np
import pytest
import qcengine
from mbexec_psi4 import Psi4Harness
from qcengine.programs.psi4 import Psi4Harness as EngineHarness

import mbexec

pytestmark = [pytest.mark.qc, pytest.mark.usefixtures("psi4")]


def test_entry_point():
    """The distribution announces the program by its name."""
    (entry,) = importlib.metadata.entry_points(group="mbexec.programs", name="psi4")
    assert entry.load() is Psi4Harness


def test_face(psi4):
    """The harness is found, tells psi4's version, says that threads may share it, and pickles."""
    program = Psi4Harness()
    assert program.found(raise_error=True)
    assert program.get_version().startswith("1.3")
    assert (program.name, program.thread_safe, program.thread_parallel) == ("psi4", True, True)
    assert (program.managed_memory, program.scratch, program.node_parallel) == (True, True, False)
    assert pickle.loads(pickle.dumps(program)) == program


def test_provenance_and_output(fragment, compute, config, capfd, tmp_path, monkeypatch):
    """A result tells program, version, resources and psi4's output; nothing reaches the screen or the directory."""
    (empty := tmp_path / "empty").mkdir()
    monkeypatch.chdir(empty)
    result = compute(fragment(), protocols={"native_files": "input"})
    provenance = result.provenance
    assert (provenance.creator, provenance.version) == ("Psi4", Psi4Harness().get_version())
    assert (provenance.routine, provenance.memory, provenance.nthreads) == ("psi4.energy", 1.0, 1)
    assert "==> Iterations <==" in result.stdout
    assert result.extras["mbexec_psi4_version"] == importlib.metadata.version("mbexec-psi4")
    assert json.loads(result.native_files["input"])["method"] == "hf"
    assert capfd.readouterr() == ("", "")
    assert not list(empty.iterdir())


def test_protocols(fragment, compute):
    """Output and input files are kept only where the protocols say so."""
    result = compute(fragment(), protocols={"stdout": False})
    assert result.stdout is None
    assert not result.native_files


def test_geometry_is_kept(fragment, compute):
    """The gradient is in the frame of the molecule: turned with it, not by psi4."""
    water = fragment()
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    gradient = compute(water, driver="gradient").return_result
    turned = compute(fragment(geometry=water.geometry @ turn.T), driver="gradient").return_result
    assert np.abs(turned - gradient @ turn.T).max() < 1e-7


def test_open_shells_are_unrestricted(fragment, compute):
    """An open shell is uhf unless told otherwise, in any case of letters."""
    cation = fragment(molecular_charge=1, molecular_multiplicity=2)
    default, uhf, rohf = (
        compute(cation, keywords=keywords).return_result
        for keywords in ({}, {"Reference": "UHF"}, {"reference": "rohf"})
    )
    assert default == uhf < rohf


def test_finite_differences(fragment, compute):
    """Derivatives are analytic, and by differences only where the function's arguments ask for it."""
    keywords = {"e_convergence": 1e-10, "d_convergence": 1e-9, "scf_type": "pk"}
    analytic = compute(fragment(), driver="gradient", keywords=keywords)
    numerical = compute(fragment(), driver="gradient", keywords=keywords | {"function_kwargs": {"dertype": 0}})
    assert np.abs(analytic.return_result - numerical.return_result).max() < 1e-4
    assert not np.array_equal(analytic.return_result, numerical.return_result)


ANSWER = """
    numbers = dict.fromkeys(["calcinfo_nbasis", "calcinfo_nmo", "calcinfo_nalpha", "calcinfo_nbeta"], 1)
    answer = {"value": -1.0, "gradient": None, "variables": {}, "debye": 2.5, "version": "1.3.2", **numbers}
    json.dump(answer, open("answer.json", "w"))
    told = {"argv": sys.argv, "environ": dict(os.environ), "request": json.load(open("request.json"))}
    json.dump(told, open("output.txt", "w"))
"""


def test_resources(fragment, atomic_input, config, fake):
    """psi4 and its libraries get the cores and the scratch directory, its arrays most of the memory."""
    fake("1.3.2", ANSWER)
    task = atomic_input(fragment((1,), (1, 2)), basis="6-31g", keywords={"scf_type": "pk"})
    result = Psi4Harness().compute(task, config.model_copy(update={"ncores": 3, "memory": 2.0}))
    told = json.loads(result.stdout)
    assert told["argv"][told["argv"].index("-n") + 1] == "3"
    assert {told["environ"][f"{name}_NUM_THREADS"] for name in ("OMP", "MKL", "OPENBLAS")} == {"3"}
    assert told["environ"]["PSI_SCRATCH"].startswith(config.scratch_directory)
    request = told["request"]
    assert request["memory"] == int(1.9 * 1024**3)
    assert (request["basis"], request["keywords"]) == ("6-31g", {"scf_type": "pk"})
    assert request["molecule"]["real"] == [True] * 3 + [False] * 3
    assert (result.return_result, result.provenance.nthreads) == (-1.0, 3)


def test_through_qcengine(fragment, atomic_input, compute):
    """Put in the place of QCEngine's own, the program gives through QCEngine what it gives called directly."""
    assert isinstance(qcengine.get_program("psi4", check=False), EngineHarness)
    qcengine.unregister_program("psi4")
    try:
        qcengine.register_program(Psi4Harness())
        task = atomic_input(fragment((1,), (1, 2)))
        result = qcengine.compute(task, "psi4", raise_error=True, task_config={"ncores": 1, "memory": 1})
        wrong = qcengine.compute(atomic_input(fragment(), "xyzzy"), "psi4", task_config={"ncores": 1, "memory": 1})
    finally:
        qcengine.unregister_program("psi4")
        qcengine.register_program(EngineHarness())
    assert result.return_result == compute(fragment((1,), (1, 2))).return_result
    assert (wrong.success, wrong.error.error_type) == (False, "input_error")


def test_executors(tmp_path):
    """A dimer with its counterpoise correction is the same to the last bit in one thread and in several."""
    job = {
        "molecule": {"geometry": "He 0 0 0\n--\nHe 0 0.3 2.9"},
        "mbe": {"bsse_type": "cp"},
        "program": {"program": "psi4", "method": "hf", "basis": "6-31g"},
        "task": {"ncores": 1, "memory": 0.5, "scratch_directory": str(tmp_path)},
    }
    serial, threads = (mbexec.run(job, executor=name, workers=2) for name in ("serial", "threads"))
    assert serial.result.success, serial.result.error.error_message
    assert threads.result.return_result == serial.result.return_result
    assert np.array_equal(threads.energies, serial.energies)
    assert list(tmp_path.glob("mbexec-psi4-*")) == []
    assert isinstance(qcengine.get_program("psi4", check=False), EngineHarness)
