"""Results against QCManyBody 0.8, which runs the same programs through QCEngine and adds up in its own way."""

from itertools import product

import numpy as np
import pytest
import qcengine
from qcelemental.models.v2 import AtomicInput
from qcengine.programs.model import ProgramHarness
from qcmanybody import ManyBodyCore
from qcmanybody.v2 import ManyBodyComputer

import mbexec
from mbexec.core.context import Cluster
from mbexec.core.engine import read_job
from mbexec.core.potential import ModelPotential
from tests.oracle import assert_equal
from tests.oracles import assert_same as assert_fields_equal
from tests.oracles import comparable
from tests.systems import HELIUM_TETRAMER, IONS, PYSCF, RADICALS, WATER_TRIMER, argon, job


class Registered(ProgramHarness):
    """The model potential as QCEngine, and so QCManyBody, can call it."""

    _defaults = {  # noqa: RUF012 - the base class declares it as a ClassVar
        "name": "model-potential",
        "scratch": False,
        "thread_safe": True,
        "thread_parallel": False,
        "node_parallel": False,
        "managed_memory": False,
    }

    @staticmethod
    def found(raise_error=False):
        return True

    def compute(self, input_data, config):
        return ModelPotential().compute(input_data, config)


@pytest.fixture(autouse=True)
def _one_core_and_our_programs(monkeypatch):
    """QCManyBody gives each fragment all cores, which PySCF answers with other last bits."""
    from qcengine.programs.base import programs

    monkeypatch.setenv("QCENGINE_NCORES", "1")
    monkeypatch.setitem(programs, "model-potential", Registered())


@pytest.fixture
def _pyscf(monkeypatch):
    from mbexec_pyscf import PySCFHarness
    from qcengine.programs.base import programs

    monkeypatch.setitem(programs, "pyscf", PySCFHarness())


def both(tables):
    """The same job through mbexec and through QCManyBody's own computer."""
    spec, _ = read_job(tables, {})
    return mbexec.run(spec, executor="serial"), ManyBodyComputer.from_manybodyinput(spec)


ALL = ["cp", "nocp", "vmfc"]
PAIRS = "\n--\n".join(f"Ar {4 * i}.0 {i % 2}.3 0.0\nHe {4 * i}.0 {i % 2}.3 2.9" for i in range(4))
CHEMISTRIES = {
    "high": {"program": "model-potential", "method": "lj-atm"},
    "middle": {"program": "model-potential", "method": "lj-atm", "keywords": {"c9": {"Ar": 900.0}}},
    "low": {"program": "model-potential", "method": "lj"},
    "cheap": {"program": "model-potential", "method": "lj", "keywords": {"epsilon": {"Ar": 0.0005}}},
}


def schemes():
    """One, two and three model chemistries over the levels of four fragments, with and without a supersystem."""
    for n in (1, 2, 3, 4):
        outer = {"supersystem": "cheap"}
        yield {n: "high"}
        if n > 1:
            yield {1: "high", n: "low"}
        if n > 2:
            yield {1: "high", 2: "middle", n: "low"}
        if n < 4:
            yield {n: "high", **outer}
        if n in (2, 3):
            yield {1: "high", n: "low", **outer}


MANY = {1: "high", 2: "middle", 3: "low"}


def level_cases():
    """All of them with every treatment; but not the one where nothing is computed, which QCManyBody can't do.

    One treatment alone of most of them at night only: test_matrix.py has those of given numbers.
    """
    for levels, bsse, total in product(schemes(), (["nocp"], ["cp"], ["vmfc"], ALL), (True, False)):
        if (levels, bsse, total) != ({1: "high"}, ["cp"], False):
            name = "-".join(f"{key}{label}" for key, label in levels.items())
            yield pytest.param(
                levels,
                bsse,
                total,
                id=f"{name}-{'+'.join(bsse)}-{'total' if total else 'interaction'}",
                marks=[] if bsse == ALL or levels == MANY else pytest.mark.nightly,
            )


@pytest.mark.parametrize(("levels", "bsse", "total"), list(level_cases()))
def test_model_chemistries_over_levels(levels, bsse, total):
    """Energies, gradients and Hessians of four pairs of atoms: every property of every treatment and order."""
    program = {label: CHEMISTRIES[label] for label in levels.values()}
    levels = {str(key): label for key, label in levels.items()}
    ours, theirs = both(
        job(PAIRS, bsse=bsse, driver="hessian", program=program, levels=levels, return_total_data=total)
    )
    assert_equal(ours.result, theirs)


@pytest.mark.parametrize("total", [True, False], ids=["total", "interaction"])
@pytest.mark.parametrize("whole_only", [True, False], ids=["whole-only", "all-orders"])
@pytest.mark.parametrize("bsse", [["nocp"], ["cp"], ["nocp", "cp"]], ids="+".join)
@pytest.mark.parametrize("driver", ["energy", "gradient", "hessian"])
def test_supersystem_ie_only(driver, bsse, whole_only, total):
    """Monomers and the whole cluster alone, and the same with everything between."""
    ours, theirs = both(job(PAIRS, bsse=bsse, driver=driver, supersystem_ie_only=whole_only, return_total_data=total))
    assert_equal(ours.result, theirs)


@pytest.mark.parametrize("bsse", [["nocp"], ["cp"], ["vmfc"], ALL], ids="+".join)
@pytest.mark.parametrize("driver", ["energy", "gradient"])
@pytest.mark.parametrize("max_nbody", [2, 3, 4])
def test_defaults_of_each_driver(driver, bsse, max_nbody):
    """Without return_total_data, energies are interaction and gradients total data."""
    ours, theirs = both(job(PAIRS, bsse=bsse, driver=driver, max_nbody=max_nbody))
    assert_equal(ours.result, theirs)


def test_nothing_to_compute_is_zero():
    """Interaction data of monomers with cp needs no fragment: QCManyBody stops with a KeyError, or makes one up."""
    tables = job(PAIRS, bsse="cp", driver="gradient", max_nbody=1, return_total_data=False)
    found = mbexec.run(tables, executor="loky")
    assert len(found.plan) == 0
    assert found.result.return_result.tolist() == np.zeros((8, 3)).tolist()


@pytest.mark.qc
@pytest.mark.parametrize("driver", ["energy", "gradient"])
def test_cluster_results_are_qcmanybodys(driver, monkeypatch):
    """With the protocol "all", every AtomicResult: of it QCManyBody leaves out the program's name."""
    from mbexec_tblite import TBLiteHarness
    from qcengine.programs.base import programs

    monkeypatch.setitem(programs, "tblite", TBLiteHarness())
    program = {"program": "tblite", "method": "gfn2-xtb"}
    tables = job(WATER_TRIMER, bsse=["nocp"], driver=driver, max_nbody=2, program=program, cluster_results="all")
    ours, theirs = both(tables)
    mine, other = ours.result.cluster_results, theirs.cluster_results
    assert sorted(mine) == sorted(other)
    for label, result in other.items():
        left, right = comparable(mine[label]), comparable(result)
        assert right["input_data"]["specification"].pop("program") == ""
        assert left["input_data"]["specification"].pop("program") == "tblite"
        assert_fields_equal(left, right)


def test_cluster_results_are_left_out():
    """Without the protocol there are none on either side."""
    ours, theirs = both(job(argon(2)))
    assert ours.result.cluster_results == theirs.cluster_results == {}


def test_text_table_is_qcmanybodys():
    """The table in stdout is the same to the digits shown."""
    ours, theirs = both(job(argon(4), bsse=ALL, max_nbody=3))
    assert ours.result.stdout == theirs.stdout


@pytest.mark.qc
@pytest.mark.usefixtures("_pyscf")
@pytest.mark.parametrize("driver", ["energy", "gradient"])
@pytest.mark.parametrize("geometry", [HELIUM_TETRAMER, WATER_TRIMER], ids=["He4", "water-trimer"])
@pytest.mark.parametrize(
    "bsse", [*(pytest.param([one], id=one, marks=pytest.mark.nightly) for one in ALL), pytest.param(ALL, id="all")]
)
def test_pyscf(geometry, bsse, driver):
    """HF through PySCF: every property agrees to 1e-12; each treatment alone at night."""
    ours, theirs = both(job(geometry, bsse=bsse, driver=driver, program={**PYSCF, "basis": "sto-3g"}))
    assert_equal(ours.result, theirs)


@pytest.mark.qc
@pytest.mark.usefixtures("_pyscf")
def test_pyscf_on_ions():
    """Charges 0, 1 and -1, two model chemistries and a supersystem: every field agrees to 1e-12."""
    chemistry = {"high": {**PYSCF, "basis": "3-21g"}, "low": {**PYSCF, "basis": "sto-3g"}}
    program = {**chemistry, "cheap": {**PYSCF, "basis": "minao"}}
    levels = {"1": "high", "2": "low", "supersystem": "cheap"}
    ours, theirs = both(job(IONS, bsse=ALL, driver="gradient", program=program, levels=levels))
    assert_equal(ours.result, theirs)


@pytest.mark.parametrize("bsse", [["nocp"], ["cp"], ["vmfc"], ALL], ids="+".join)
@pytest.mark.parametrize(
    "geometry", [HELIUM_TETRAMER, WATER_TRIMER, RADICALS], ids=["He4", "water-trimer", "ions and radicals"]
)
def test_labels_and_molecules_are_those_of_iterate_molecules(geometry, bsse):
    """Each task's label and molecule, field by field, stand in QCManyBody's iteration, and nothing else does."""
    plan = mbexec.plan(job(geometry, bsse=bsse, max_nbody=3))
    core = ManyBodyCore(
        plan.spec.molecule,
        bsse,
        dict.fromkeys((1, 2, 3), "(auto)"),
        return_total_data=False,
        supersystem_ie_only=False,
        embedding_charges={},
    )
    theirs = {label: molecule for _, label, molecule in core.iterate_molecules()}
    assert sorted(task.label for task in plan) == sorted(theirs)
    cluster = Cluster.of(plan.spec.molecule)
    for task in plan:
        ours = cluster.fragment(task.frag, task.bas).model_dump()
        wanted = theirs[task.label].model_dump()
        assert sorted(ours) == sorted(wanted)
        for key in wanted:
            if key not in ("provenance", "name"):
                assert_same(ours[key], wanted[key])


def assert_same(ours, wanted):
    if isinstance(wanted, list) and wanted and isinstance(wanted[0], np.ndarray):
        assert [a.tolist() for a in ours] == [a.tolist() for a in wanted]
    else:
        np.testing.assert_array_equal(ours, wanted)


def test_fragment_hash_is_qcelementals():
    """A fragment cut from slices has the hash of the validated molecule."""
    plan = mbexec.plan(job(WATER_TRIMER, bsse="cp"))
    cluster = Cluster.of(plan.spec.molecule)
    ours = cluster.fragment((1, 3), (1, 2, 3))
    theirs = plan.spec.molecule.get_fragment([0, 2], [1], orient=False, group_fragments=False)
    assert ours.get_hash() == theirs.get_hash()


def test_qcengine_works_unchanged_beside_a_run():
    """qcengine.compute gives the same before and after a run in the same process."""
    spec, _ = read_job(job(argon(2)), {})
    request = AtomicInput(
        molecule=spec.molecule,
        specification={"program": "model-potential", "driver": "energy", "model": {"method": "lj"}},
    )
    before = qcengine.compute(request, "model-potential")
    mbexec.run(spec, executor="threads")
    after = qcengine.compute(request, "model-potential")
    assert before.return_result == after.return_result
    assert before.provenance.creator == after.provenance.creator == "mbexec"
