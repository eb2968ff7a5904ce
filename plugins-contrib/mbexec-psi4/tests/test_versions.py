"""Which psi4 is ours, which is QCEngine's, and which is nobody's."""

from __future__ import annotations

import json
import sys

import pytest
from mbexec_psi4 import Psi4Harness, harness
from mbexec_psi4.executable import version_of
from qcengine.programs.psi4 import Psi4Harness as EngineHarness

import mbexec

pytestmark = pytest.mark.qc

# What QCEngine looks for besides the command: a module that takes QCSchema v1 only, as psi4 1.9's does.
MODULE = """
class driver:
    class p4util:
        @staticmethod
        def state_to_atomicinput(): ...
"""

# What psi4 1.9 does: answer an AtomicInput in place.
NEWER = """
    from qcelemental.models.v1 import AtomicInput, AtomicResult
    from qcelemental.util import deserialize
    path = sys.argv[sys.argv.index("--qcschema") + 1]
    given = AtomicInput(**deserialize(open(path, "rb").read(), "msgpack-ext"))
    if "SEEN" in os.environ:
        seen = json.loads(given.json()) | {"command": sys.argv[1:]}
        json.dump(seen, open(os.environ["SEEN"] + "/" + str(len(os.listdir(os.environ["SEEN"]))), "w"))
    answer = AtomicResult(
        **given.dict(exclude={"provenance"}),
        properties={"return_energy": -1.9}, return_result=-1.9, success=True,
        provenance={"creator": "Psi4", "version": "1.9", "routine": "fake"},
    )
    open(path, "wb").write(answer.serialize("msgpack-ext"))
"""


@pytest.fixture
def newer(fake, monkeypatch):
    """Install a psi4 1.9 that is none, with its module."""
    command = fake("1.9", NEWER)
    (command.parent / "psi4.py").write_text(MODULE)
    monkeypatch.syspath_prepend(command.parent)
    yield command
    sys.modules.pop("psi4", None)


def test_newer_is_left_to_qcengine(newer, fragment, atomic_input, config, monkeypatch):
    """Psi4 1.9 is found, and computes, through QCEngine's own harness; ours stays out of it."""
    monkeypatch.setattr(harness, "run_psi4", None)
    task = atomic_input(fragment())
    result = Psi4Harness().compute(task, config)
    assert Psi4Harness.found(raise_error=True)
    assert Psi4Harness().get_version() == "1.9"
    assert result.return_result == -1.9
    assert result.provenance.routine == "fake"
    assert result.model_dump_json() == EngineHarness().compute(task, config).model_dump_json()


@pytest.mark.usefixtures("newer")
def test_newer_through_mbexec(tmp_path):
    """A run that asks for psi4 gets QCEngine's harness where psi4 is newer."""
    job = {
        "molecule": {"geometry": "He 0 0 0\n--\nHe 0 0 3"},
        "mbe": {"bsse_type": "nocp"},
        "program": {"program": "psi4", "method": "hf", "basis": "6-31g"},
        "task": {"ncores": 1, "memory": 0.5, "scratch_directory": str(tmp_path)},
    }
    found = mbexec.run(job, executor="serial")
    assert found.result.success, found.result.error.error_message
    assert found.energies.tolist() == [-1.9, -1.9, -1.9]


# A cation and a radical.
IONS = """
1 1
Li 0 0 0
--
0 2
O 0 0 2.1
H 0 0.8 2.6
"""
STATES = {  # real atoms, charge, multiplicity of each fragment
    ("Li", "O", "H"): {((1, 0, 0), 1, 1), ((0, 1, 1), 0, 2), ((1, 1, 1), 1, 2)},
    ("Li",): {((1,), 1, 1)},
    ("O", "H"): {((1, 1), 0, 2)},
}


@pytest.mark.usefixtures("newer")
@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_newer_gets_the_right_inputs(tmp_path, monkeypatch, executor):
    """Ghosts, charge, multiplicity, method, basis and keywords of each fragment, and none of another's keywords."""
    seen = tmp_path / "seen"
    seen.mkdir()
    monkeypatch.setenv("SEEN", str(seen))
    job = {
        "molecule": {"geometry": IONS},
        "mbe": {"bsse_type": "cp", "return_total_data": True},
        "program": {"program": "psi4", "method": "mp2", "basis": "cc-pvdz", "keywords": {"freeze_core": True}},
        "task": {"ncores": 1, "memory": 0.5, "scratch_directory": str(tmp_path)},
    }
    found = mbexec.run(job, executor=executor, workers=1)
    assert found.result.success, found.result.error.error_message
    asked = {}
    for given in (json.loads(path.read_text()) for path in seen.iterdir()):
        molecule = given["molecule"]
        symbols, multiplicity = tuple(molecule["symbols"]), molecule["molecular_multiplicity"]
        real = tuple(map(int, molecule.get("real", [True] * len(symbols))))
        asked.setdefault(symbols, set()).add((real, molecule["molecular_charge"], multiplicity))
        assert given["driver"] == "energy"
        assert (given["model"]["method"], given["model"]["basis"]) == ("mp2", "cc-pvdz")
        # QCEngine's harness asks for uhf where there are unpaired electrons.
        open_shell = {"reference": "uhf"} if multiplicity > 1 else {}
        assert given["keywords"] == {"freeze_core": True} | open_shell
        assert given["command"][given["command"].index("--memory") + 1] == "0.5GiB"
    assert asked == STATES


@pytest.mark.parametrize(
    ("version", "ours"), [("1.3", True), ("1.3.2", True), ("1.4a1", True), ("1.4a2.dev160", False), ("1.4rc1", False)]
)
def test_versions(fake, monkeypatch, version, ours):
    """QCEngine's harness is asked from the release on that takes its input."""
    fake(version)
    asked = []
    monkeypatch.setattr(EngineHarness, "found", staticmethod(lambda raise_error: asked.append(raise_error) or True))
    assert Psi4Harness.found()
    assert (asked == []) == ours


def test_version_is_asked_once(fake):
    """The command is run once in the life of a process, and leaves nothing where it is called."""
    command = fake("1.3.2")
    first = version_of(str(command))
    command.write_text("exit 1")
    assert version_of(str(command)) == first == "1.3.2"


def test_too_old(fake):
    """Psi4 1.2 is refused with what to install."""
    command = fake("1.2.1")
    assert not Psi4Harness.found()
    with pytest.raises(ModuleNotFoundError, match=rf"psi4 1\.2\.1 at {command} is too old; install psi4 1\.3 or newer"):
        Psi4Harness.found(raise_error=True)


@pytest.mark.parametrize("version", ["", "undefined"])
def test_no_version(fake, version):
    """A psi4 that tells no version is refused, with what to do."""
    command = fake(version)
    assert not Psi4Harness.found()
    with pytest.raises(ModuleNotFoundError, match=f"psi4 is at {command}, but `psi4 --version` tells no version"):
        Psi4Harness.found(raise_error=True)


def test_broken(fake):
    """A psi4 that can't be started is refused in the same words."""
    command = fake("1.3.2")
    command.write_text("#!/no/such/python\n")
    with pytest.raises(ModuleNotFoundError, match=r"tells no version \(FileNotFoundError"):
        Psi4Harness.found(raise_error=True)


def test_not_installed(monkeypatch, tmp_path):
    """Without a psi4 QCEngine is asked, and its advice is given."""
    monkeypatch.setattr(harness, "find_psi4", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(EngineHarness, "found", staticmethod(lambda raise_error: _no_module(raise_error)))
    assert not Psi4Harness.found()
    with pytest.raises(ModuleNotFoundError, match="conda install psi4"):
        Psi4Harness.found(raise_error=True)


def _no_module(raise_error):
    if raise_error:
        raise ModuleNotFoundError("Please install via `conda install psi4 -c conda-forge`.")
    return False
