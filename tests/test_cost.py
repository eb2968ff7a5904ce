"""Expected costs, the order they give, and whether energies converge far enough for their sums."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from qcelemental.models.v2 import AtomicInput, AtomicSpecification

import mbexec
from mbexec.core.convergence import ACCURACY, convergence, sums, warn_of_errors
from mbexec.core.cost import costs, scaling
from mbexec.core.potential import ModelPotential
from mbexec.core.schedule import submissions
from tests.systems import WATER_TRIMER, argon, job

MIXED = "He 0 0 0\n--\n" + WATER_TRIMER.strip().partition("\n--")[0] + "\n--\nAr 9 9 9"


def specification(program="pyscf", method="hf", basis="6-31g", driver="energy", **keywords):
    """A model chemistry."""
    model = {"method": method, "basis": basis}
    return AtomicSpecification(program=program, driver=driver, model=model, keywords=keywords)


def planned(geometry, **settings):
    """The plan of a job."""
    return mbexec.plan(job(geometry, **settings))


@pytest.mark.parametrize(
    ("power", "methods"),
    {
        3: ["hf", "b3lyp", "pbe0-d3", "wb97x-v", "scf", "something-new"],
        5: ["mp2", "scs-mp2", "df-mp2", "cc2", "adc(2)", "b2plyp", "dsd-blyp", "MP2"],
        6: ["ccsd", "qcisd", "cisd", "mp3", "mp2.5", "mp4(sdq)", "lccd"],
        7: ["ccsd(t)", "CCSD(T)", "ccsd(at)", "qcisd(t)", "cc3", "mp4", "ccsd_t"],
        8: ["ccsdt"],
        10: ["ccsdtq"],
    }.items(),
)
def test_scaling_of_methods(power, methods):
    """Each class of methods has its formal scaling; what is not known counts as mean field."""
    assert [scaling(specification(method=method)) for method in methods] == [power] * len(methods)


def test_a_hessian_scales_with_one_power_more():
    """There are as many responses to solve for as coordinates."""
    assert scaling(specification(driver="hessian")) == scaling(specification(driver="gradient")) + 1


def test_a_method_without_a_basis_is_never_correlated():
    """The dispersion program mp2d is no MP2."""
    assert scaling(specification("mp2d", "mp2-dmp2", None)) == 3


def test_costs_count_the_functions_of_real_atoms_and_ghosts():
    """Helium, water and argon have minimal bases of 1, 7 and 9; a counterpoise basis has all of them."""
    program = {"program": "pyscf", "method": "mp2", "basis": "6-31g"}
    own = planned(MIXED, bsse="nocp", max_nbody=2, program=program)
    assert dict(zip([task.frag for task in own], costs(own).tolist(), strict=True)) == {
        (1,): 1**5, (2,): 7**5, (3,): 9**5, (1, 2): 8**5, (1, 3): 10**5, (2, 3): 16**5
    }  # fmt: skip
    everyones = planned(MIXED, bsse="cp", max_nbody=2, program=program)
    assert set(costs(everyones).tolist()) == {17.0**5}


def test_ghosts_cost_nothing_where_there_is_no_basis():
    """What is not computed does not count."""
    plan = planned(argon(3), bsse="cp", max_nbody=2)
    assert costs(plan).tolist() == [(9.0 * task.nbody) ** 3 for task in plan]


@pytest.mark.parametrize("basis", ["6-31g", None])
@pytest.mark.parametrize("bsse", ["nocp", "cp", "vmfc"])
def test_the_costliest_start_first(bsse, basis):
    """Costs never rise along the order, which has every task once; larger fragments lead among equal costs."""
    plan = planned(MIXED, bsse=bsse, max_nbody=3, program={"program": "pyscf", "method": "ccsd", "basis": basis})
    (order,) = submissions(plan, "cost")
    assert sorted(order.tolist()) == list(range(len(plan)))
    keys = list(zip(costs(plan)[order].tolist(), plan.expansion.nbody[order].tolist(), strict=True))
    assert keys == sorted(keys, reverse=True)


def test_a_costly_small_fragment_leads_cheap_large_ones():
    """One water costs more than three helium atoms."""
    geometry = "\n--\n".join(["He 0 0 0", "He 5 0 0", "He 0 5 0", MIXED.split("--")[1].strip()])
    plan = planned(geometry, max_nbody=3, program={"program": "pyscf", "method": "hf", "basis": "6-31g"})
    first = [plan[i].frag for i in submissions(plan, "cost")[0].tolist()]
    assert first.index((4,)) < first.index((1, 2, 3))


# What the programs' errors were for monomer, dimer and monomer in the trimer's basis, 6-31G, against tight thresholds.
MEASURED = [
    (specification(), 4e-13),
    (specification(conv_tol=1e-6), 4e-13),
    (specification(conv_tol=1e-6, conv_tol_grad=1e-3), 1.7e-8),
    (specification(method="mp2"), 4e-10),
    (specification(method="mp2", conv_tol=1e-8, conv_tol_grad=1e-4), 1.1e-7),
    (specification(method="ccsd"), 1.6e-10),
    (specification(method="ccsd", cc_conv_tol=1e-6, cc_conv_tol_normt=1e-4), 4e-7),
    (specification("psi4"), 2.8e-10),
    (specification("psi4", e_convergence=8, d_convergence=1e-8), 6e-14),
    (specification("psi4", "mp2"), 1.2e-9),
    (specification("psi4", "mp2", e_convergence=6, d_convergence=6), 1.5e-7),
    (specification("psi4", "ccsd", E_CONVERGENCE=1e-4, D_CONVERGENCE=1e-4), 9.8e-6),
    (specification("nwchem"), 9e-8),
    (specification("nwchem", scf__thresh=1e-8), 3.7e-11),
    (specification("nwchem", "b3lyp"), 1.4e-8),
    (specification("nwchem", "mp2"), 1.2e-8),
    (specification("nwchem", "mp2", scf__thresh=1e-8), 3.6e-11),
    (specification("nwchem", "ccsd"), 1.3e-7),
    (specification("nwchem", "ccsd", ccsd__thresh=1e-4), 2.3e-6),
    (specification("tblite", "GFN2-xTB", None), 1e-14),
    (specification("tblite", "GFN2-xTB", None, accuracy=1.0), 3.7e-10),
    (specification("tblite", "GFN2-xTB", None, accuracy=100.0), 1.4e-6),
]


@pytest.mark.parametrize(("model", "error"), MEASURED, ids=lambda v: getattr(v, "program", f"{v}"))
def test_expected_errors_bound_measured_ones(model, error):
    """What is expected is not below what was measured, and not a thousandfold above unless by rounding."""
    expected = convergence(model).error
    assert error <= expected <= max(1000 * error, 1e-12)


@pytest.mark.parametrize(
    "model",
    [
        specification("cfour"),
        specification("psi4", e_convergence="tight"),
        specification(conv_tol=True),
        specification(conv_tol=-1.0),
    ],
    ids=["cfour", "words", "boolean", "negative"],
)
def test_what_is_not_known_is_not_guessed(model):
    """Programs without an entry, and values that are no thresholds."""
    assert convergence(model) is None


def test_the_model_potential_has_nothing_to_converge():
    """There is no threshold to tell of."""
    found = convergence(specification("model-potential", "lj", None))
    assert (found.error, found.thresholds) == (0.0, {})


def loose(**keywords):
    """Sixteen argon atoms with PySCF, planned up to triples."""
    program = {"program": "pyscf", "method": "hf", "basis": "6-31g", "keywords": keywords}
    return planned(argon(16), max_nbody=3, program=program)


def test_a_loose_convergence_is_warned_of_with_what_is_enough():
    """The keywords that the warning asks for make the warning go away, and the last power of ten is needed."""
    with pytest.warns(UserWarning, match="nocp total energy") as told:
        warn_of_errors(loose(conv_tol=1e-6, conv_tol_grad=1e-3))
    assert "(conv_tol = 1e-06, conv_tol_grad = 0.001)" in str(told[0].message)
    asked = dict(re.findall(r"(\w+) = (\S+?)[,.]?(?= |$)", str(told[0].message).rpartition("set ")[2]))
    enough = {name: float(value) for name, value in asked.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_errors(loose(**enough))
    with pytest.warns(UserWarning, match="nocp"):
        warn_of_errors(loose(**{name: 10 * value for name, value in enough.items()}))


def test_defaults_are_good_enough_for_sixteen_fragments():
    """Nobody is bothered who changed nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_errors(loose())


def test_only_the_loose_model_chemistry_is_named():
    """Each is judged by how often its own energies count."""
    programs = {
        "tight": {"program": "pyscf", "method": "hf", "basis": "6-31g"},
        "loose": {"program": "tblite", "method": "GFN2-xTB", "keywords": {"accuracy": 100.0}},
        "strange": {"program": "cfour", "method": "hf", "basis": "6-31g"},
    }
    plan = planned(argon(5), program=programs, levels={1: "tight", 2: "loose", 3: "strange"})
    with pytest.warns(UserWarning, match="accuracy = 100") as told:
        warn_of_errors(plan)
    assert [str(w.message).split("'")[1] for w in told] == ["loose: tblite GFN2-xTB"]


def test_a_run_warns_before_it_begins(install):
    """Once, and the run goes on; here a program of the name that answers at once."""

    class Quick(ModelPotential):
        def compute(self, input_data, config):
            plain = specification("model-potential", "lj", None)
            return super().compute(AtomicInput(molecule=input_data.molecule, specification=plain), config)

    install("quick", {"nwchem": Quick}, group="mbexec.programs")
    program = {"program": "nwchem", "method": "hf", "keywords": {"scf__thresh": 1e-2}}
    with pytest.warns(UserWarning, match="scf__thresh = 0.01") as told:
        found = mbexec.run(job(argon(3), max_nbody=2, program=program), executor="serial")
    assert found.result.success
    assert len(told) == 1


def test_the_amplification_of_model_chemistries_adds_up():
    """Squares of the parts are the square of the whole."""
    plan = planned(argon(4), program={
        "a": {"program": "model-potential", "method": "lj"},
        "b": {"program": "model-potential", "method": "lj-atm"},
    }, levels={1: "a", 3: "b"})  # fmt: skip
    parts = np.array([plan.expansion.amplification("nocp", 3, mc=mc) for mc in ("a", "b")])
    worst, random = plan.expansion.amplification("nocp", 3)
    assert worst == parts[:, 0].sum()
    np.testing.assert_allclose(random, np.hypot(*parts[:, 1]))


@pytest.mark.parametrize(
    ("bsse", "total", "names"),
    [
        ("nocp", False, ["nocp total", "nocp interaction"]),
        ("cp", False, ["cp interaction"]),
        ("cp", True, ["cp total", "cp interaction"]),
    ],
)
def test_sums_are_those_that_come_out(bsse, total, names):
    """Counterpoise without total data has no total energy."""
    assert [name for name, _ in sums(planned(argon(3), bsse=bsse, return_total_data=total))] == names


@pytest.mark.sources
def test_the_thresholds_stand_in_the_docs():
    """The page of programs has each keyword that decides, with its default."""
    page = (Path(__file__).parents[1] / "docs/programs.md").read_text(encoding="utf-8")
    table = page.partition("## Convergence")[2].partition("\n## ")[0]
    for program in ("pyscf", "psi4", "tblite", "nwchem"):
        for method in ("hf", "b3lyp", "mp2", "ccsd"):
            basis = None if program == "tblite" else "6-31g"
            for name, value in convergence(specification(program, method, basis)).thresholds.items():
                assert re.search(rf"`{program}`.*`{name}`.*\b{value:g}\b", table), (program, name, value)
    assert f"{ACCURACY:g}" in table
