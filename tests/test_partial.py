"""What a run gives when fragments failed or never ran: which sums are exact, and estimates of the others."""

import io
import json
import re
import threading
from functools import lru_cache
from itertools import combinations

import numpy as np
import pytest
import qcelemental as qcel
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from qcelemental.models.v2 import FailedOperation
from rich.console import Console

import mbexec
from mbexec import TaskError, TaskResult, cli, hookimpl, tables
from mbexec.core import engine
from mbexec.core.engine import read_job
from mbexec.plugins.manybody import ManyBody, merging
from mbexec.plugins.manybody.apart import Fragments
from tests.systems import WATER_HEXAMER, argon, job

CHAIN = "\n--\n".join(f"Ar 0 0 {z}" for z in (0, 3.8, 7.7, 11.7, 15.8))  # each distance longer than the one before
LABELS = ("low", "middle", "high")


@lru_cache
def planned(nfr=4, max_nbody=3, mcs=1, bsse="nocp", driver="energy", total=None, supersystem=False, whole_only=False):
    """A plan for argon atoms, with so many model chemistries up to the highest order."""
    given_job = job(argon(nfr), bsse=bsse.split("+"), driver=driver, cluster_properties="none")
    given_job["mbe"] |= {} if total is None else {"return_total_data": total}
    labels = LABELS[:mcs]
    levels = {str(max_nbody - place): label for place, label in enumerate(labels[:max_nbody])}
    if supersystem:
        levels["supersystem"] = "whole"
    if mcs == 1 and not supersystem:
        given_job["mbe"] |= {"max_nbody": max_nbody, "supersystem_ie_only": whole_only}
    else:
        given_job["mbe"]["levels"] = levels
        given_job["program"] = {label: {"program": "model-potential", "method": "lj"} for label in levels.values()}
    return mbexec.plan(given_job)


def numbers(plan, seed):
    """Numbers that no chemistry has, for each task: none is zero, and no two add up to a third."""
    rng = np.random.default_rng(seed)
    shapes = {"energy": lambda n: (), "gradient": lambda n: (n, 3), "hessian": lambda n: (3 * n, 3 * n)}
    driver = plan.spec.specification.driver.value
    wanted = {"energy": ["energy"], "gradient": ["energy", "gradient"], "hessian": list(shapes)}[driver]
    return [{name: rng.normal(size=shapes[name](len(task.bas))) - 3 for name in wanted} for task in plan]


def merged(plan, values, failed=(), lost=()):
    """The result when some tasks failed and some never ran."""
    error = TaskError("convergence_error", "no convergence")
    results = [
        TaskResult(i, error=error) if i in failed else TaskResult(i, values[i])
        for i in range(len(plan))
        if i not in lost
    ]
    return ManyBody().merge_results(plan, results)


def partial_of(result):
    assert isinstance(result, FailedOperation)
    return result.error.extras["partial"]


def named(result):
    """The named sums of a complete run."""
    found = {key: value for key, value in result.properties.model_dump().items() if value is not None}
    return {key: value for key, value in found.items() if key.startswith("return_") or "corrected" in key}


def assert_honest(plan, failed, lost=(), seed=1):
    """Exact sums are those of the complete run to the last bit, whatever the missing results are; the others change.

    A sum that is zero with these numbers is one of nothing.
    """
    values, others = numbers(plan, seed), numbers(plan, seed + 1)
    missing = {*failed, *lost}
    complete = named(merged(plan, values))
    changed = named(merged(plan, [others[i] if i in missing else values[i] for i in range(len(plan))]))
    found = partial_of(merged(plan, values, failed, lost))
    something = {key for key, value in complete.items() if np.any(value)}
    assert found["properties"].keys() | found["estimates"].keys() == something
    assert not found["properties"].keys() & found["estimates"].keys()
    for key, value in found["properties"].items():
        assert bits(value) == bits(complete[key]) == bits(changed[key]), key
    for key in found["estimates"]:
        assert bits(complete[key]) != bits(changed[key]), key


def bits(value):
    array = np.asarray(value, dtype=np.float64)
    return array.size, array.tobytes()


# What is exact


@pytest.mark.parametrize("mcs", [1, 2, 3])
@pytest.mark.parametrize("max_nbody", [1, 2, 3, 4])
@pytest.mark.parametrize("bsse", ["nocp", "cp", "vmfc"])
def test_any_one_calculation_that_fails(bsse, max_nbody, mcs):
    """Whichever it is, each named sum is exact or depends on it."""
    plan = planned(4, max_nbody, min(mcs, max_nbody), bsse, total=True)
    for place in range(len(plan)):
        assert_honest(plan, {place})


@pytest.mark.parametrize("driver", ["gradient", "hessian"])
@pytest.mark.parametrize("bsse", ["nocp", "cp", "vmfc"])
def test_derivatives_that_are_exact(bsse, driver):
    """The same of gradients and Hessians, of which only sums are kept."""
    plan = planned(3, 3, 2, bsse, driver)
    for place in range(len(plan)):
        assert_honest(plan, {place})


PLANS = st.one_of(
    st.builds(
        planned,
        nfr=st.just(5),
        max_nbody=st.integers(3, 4),
        mcs=st.integers(1, 3),
        bsse=st.sampled_from(["nocp", "cp", "vmfc", "cp+nocp+vmfc"]),
        total=st.sampled_from([None, True, False]),
    ),
    st.builds(
        planned,
        nfr=st.just(4),
        max_nbody=st.integers(1, 3),
        mcs=st.integers(1, 1),
        bsse=st.sampled_from(["nocp", "cp", "vmfc", "nocp+cp"]),
        total=st.booleans(),
        driver=st.sampled_from(["energy", "gradient"]),
        supersystem=st.just(True),
    ),
    st.builds(
        planned,
        nfr=st.just(4),
        max_nbody=st.just(4),
        bsse=st.sampled_from(["nocp", "cp", "nocp+cp"]),
        total=st.booleans(),
        driver=st.sampled_from(["energy", "gradient"]),
        whole_only=st.just(True),
    ),
)


@settings(max_examples=60, deadline=None)
@given(plan=PLANS, data=st.data())
def test_any_calculations_that_are_missing(plan, data):
    """Some failed and some never ran, with several treatments, model chemistries, supersystems and monomers or none."""
    places = st.sets(st.integers(0, len(plan) - 1), max_size=6)
    failed = data.draw(places)
    lost = data.draw(places) - failed
    if failed | lost:
        assert_honest(plan, failed, lost)


def test_nothing_at_all():
    """Where no calculation gave a result, no sum is known, not even that of nothing; all others are named."""
    plan = planned(3, 2, total=True)
    found = partial_of(merged(plan, [], lost=range(len(plan))))
    assert found["properties"] == {}
    assert found["estimates"].keys() > {"return_energy", "nocp_corrected_total_energy_through_1_body"}
    assert {entry["estimate"] for entry in found["estimates"].values()} == {None}


def test_monomers_that_cancel_do_not_matter():
    """Through all orders the cluster is what it is, whatever its monomers are."""
    plan = planned(3, 3, total=True)
    values = numbers(plan, 2)
    found = partial_of(merged(plan, values, {0, 1, 2}))
    assert found["properties"]["nocp_corrected_total_energy_through_3_body"] == values[-1]["energy"]
    assert "nocp_corrected_interaction_energy_through_3_body" in found["estimates"]


def test_totals_are_not_named_where_monomers_are_zero():
    """As in a complete run: zero stands for not computed."""
    plan = planned(3, 2, total=True)
    values = [value if task.nbody > 1 else {"energy": 0.0} for task, value in zip(plan, numbers(plan, 3), strict=True)]
    found = partial_of(merged(plan, values, {len(plan) - 1}))
    assert [key for key in (*found["properties"], *found["estimates"]) if "total" in key] == []


def test_further_properties():
    """mbe.properties are told by the names that they have in a complete run: numbers estimated, vectors not."""
    shapes = {"mp2_correlation_energy": (), "scf_dipole_moment": (3,)}
    plan = mbexec.plan(job(argon(4), max_nbody=2, properties=list(shapes)))
    rng = np.random.default_rng(4)
    values = [{"energy": rng.normal(), **{name: rng.normal(size=s) for name, s in shapes.items()}} for _ in plan]
    complete = merged(plan, values).extras["mbexec"]["properties"]
    place = max(task.index for task in plan if task.frag == (1, 4))
    found = partial_of(merged(plan, values, {place}))
    own = {key: value for key, value in found["properties"].items() if "mp2" in key or "dipole" in key}
    assert own
    assert all(bits(value) == bits(complete[key]) for key, value in own.items())
    depending = {key for key in complete if "2_body" in key or "through" not in key}
    assert {key for key in found["estimates"] if "mp2" in key or "dipole" in key} == depending
    assert found["estimates"]["nocp_corrected_total_mp2_correlation_energy"]["estimate"] is not None
    assert found["estimates"]["nocp_corrected_total_scf_dipole_moment"]["estimate"] is None


# What is missing


def test_what_failed_and_what_never_ran():
    """Failures with the program's words; of the others how many, and which."""
    plan = planned(4, 2)
    result = merged(plan, numbers(plan, 5), failed={9, 2}, lost={0, 5})
    assert result.error.extras["failed"] == [
        {"label": plan[i].label, "error_type": "convergence_error", "error_message": "no convergence"} for i in (2, 9)
    ]
    assert partial_of(result)["not_run"] == {"count": 2, "labels": [plan[0].label, plan[5].label]}
    assert result.error.error_message == (
        f"4 of 10 fragment calculations gave no result. The first, {plan[2].label}: no convergence"
    )


def test_a_hundred_labels_are_listed():
    """The rest is counted: of calculations and of fragment sets."""
    plan = planned(12, 3)
    found = partial_of(merged(plan, numbers(plan, 6), lost=range(60, len(plan))))
    assert found["not_run"]["count"] == len(plan) - 60
    assert found["not_run"]["labels"] == [plan[i].label for i in range(60, 160)]
    triples = found["unknown_increments"][-1]
    assert (triples["count"], triples["of"], len(triples["fragments"])) == (220, 220, 100)


@pytest.mark.parametrize(
    ("bsse", "frag", "bas", "expected"),
    [
        ("nocp", (1, 2), (1, 2), {2: [[1, 2]], 3: [[1, 2, 3], [1, 2, 4]]}),
        ("nocp", (4,), (4,), {1: [[4]], 2: [[1, 4], [2, 4], [3, 4]], 3: [[1, 2, 4], [1, 3, 4], [2, 3, 4]]}),
        ("cp", (4,), (4,), {1: [[4]]}),
        ("cp", (4,), (1, 2, 3, 4), {2: [[1, 4], [2, 4], [3, 4]], 3: [[1, 2, 4], [1, 3, 4], [2, 3, 4]]}),
        ("cp", (1, 2, 3), (1, 2, 3, 4), {3: [[1, 2, 3]]}),
    ],
)
def test_increments_that_become_unknown(bsse, frag, bas, expected):
    """Those of the fragment sets that need what is missing, in the basis in which they need it."""
    plan = planned(4, 3, bsse=bsse, total=True)
    (place,) = [task.index for task in plan if (task.frag, task.bas) == (frag, bas)]
    found = partial_of(merged(plan, numbers(plan, 7), {place}))["unknown_increments"]
    assert {entry["nbody"]: entry["fragments"] for entry in found} == expected
    assert {(e["bsse_type"], e["model_chemistry"], e["supersystem"]) for e in found} == {(bsse, "(auto)", False)}


def test_increments_in_the_basis_of_the_set():
    """With vmfc a monomer in the basis of a pair is missing in that pair alone; not in nocp, which comes with it."""
    plan = planned(4, 3, bsse="vmfc", total=True)
    (place,) = [task.index for task in plan if (task.frag, task.bas) == ((1,), (1, 3))]
    found = partial_of(merged(plan, numbers(plan, 8), {place}))
    assert [(e["bsse_type"], e["nbody"], e["fragments"]) for e in found["unknown_increments"]] == [
        ("vmfc", 2, [[1, 3]])
    ]
    assert "nocp_corrected_total_energy" in found["properties"]
    assert "vmfc_corrected_3_body_contribution_to_energy" in found["properties"]


def test_the_model_chemistry_of_each_order():
    """A pair of the model chemistry of triples is missing in them, not in the pairs' own order."""
    plan = planned(4, 3, 2)
    (place,) = [task.index for task in plan if (task.mc, task.frag) == ("low", (2, 3))]
    found = partial_of(merged(plan, numbers(plan, 9), {place}))
    assert [(e["nbody"], e["model_chemistry"], e["count"]) for e in found["unknown_increments"]] == [(3, "low", 2)]
    assert "nocp_corrected_total_energy_through_2_body" in found["properties"]


def test_a_supersystem_is_one_increment():
    """What it adds is unknown as soon as anything that is subtracted from it is."""
    plan = planned(4, 2, supersystem=True)
    (place,) = [task.index for task in plan if (task.mc, task.frag) == ("whole", (1, 2))]
    found = partial_of(merged(plan, numbers(plan, 10), {place}))
    (entry,) = found["unknown_increments"]
    assert (entry["supersystem"], entry["count"], entry["of"], entry["fragments"]) == (True, 1, 1, [[1, 2, 3, 4]])
    assert "nocp_corrected_total_energy_through_2_body" in found["properties"]
    told = found["estimates"]["nocp_corrected_total_energy"]
    assert told == {
        "estimate": None,
        "bound": None,
        "reason": "Nothing compares with what the whole cluster adds: no bound.",
        "unknown": 1,
        "of": 4 + 6 + 1,
    }


def test_a_supersystem_that_is_known():
    """What it adds is part of an estimate of which pairs are missing."""
    plan = planned(4, 2, supersystem=True)
    values = numbers(plan, 15)
    complete = named(merged(plan, values))
    (place,) = [task.index for task in plan if (task.mc, task.frag) == ("low", (1, 4))]
    told = partial_of(merged(plan, values, {place}))["estimates"]["nocp_corrected_interaction_energy"]
    energies = {(task.mc, task.frag): value["energy"] for task, value in zip(plan, values, strict=True)}
    lost = energies["low", (1, 4)] - energies["low", (1,)] - energies["low", (4,)]
    assert told["estimate"] == pytest.approx(complete["nocp_corrected_interaction_energy"] - lost, abs=1e-12)
    assert (told["unknown"], told["of"], told["bound"] is None) == (1, 6 + 1, False)


def test_a_cluster_less_its_monomers():
    """With supersystem_ie_only there is nothing in between to estimate from."""
    plan = planned(4, 4, bsse="nocp", total=True, whole_only=True)
    found = partial_of(merged(plan, numbers(plan, 11), {len(plan) - 1}))
    assert "nocp_corrected_total_energy_through_1_body" in found["properties"]
    told = found["estimates"]["nocp_corrected_interaction_energy"]
    assert (told["estimate"], told["bound"], told["unknown"], told["of"]) == (None, None, 1, 1)
    assert told["reason"] == "Nothing compares with what the whole cluster adds: no bound."


def test_the_extras_are_json():
    """They survive being written and read to the last bit, gradients too."""
    plan = planned(4, 3, 2, "vmfc", "gradient")
    result = merged(plan, numbers(plan, 12), {30}, {3})
    extras = result.error.extras
    assert json.loads(json.dumps(extras)) == extras
    assert json.loads(result.serialize("json"))["error"]["extras"] == extras


# Estimates


def pairs(plan, values):
    """Results whose pair increments are given, of monomers of no energy."""
    return [{"energy": float(values.get(task.frag, 0.0))} for task in plan]


def pair_estimate(geometry, values, *missing):
    """What is told of the pairs' contribution when some are missing."""
    plan = mbexec.plan(job(geometry, max_nbody=2))
    places = {task.index for task in plan if task.frag in missing}
    found = partial_of(merged(plan, pairs(plan, values), places))
    return found["estimates"]["nocp_corrected_2_body_contribution_to_energy"]


# In rising order of distance: neighbours, next neighbours, and so on.
VALUES = {
    (1, 2): -8.0,
    (2, 3): 0.5,
    (3, 4): -0.25,
    (4, 5): 4.0,
    (1, 3): -0.125,
    (2, 4): 16.0,
    (3, 5): 2.0,
    (1, 4): 1.0,
    (2, 5): -32.0,
    (1, 5): 64.0,
}


def test_an_estimate_is_what_is_known():
    """The known increments added up."""
    told = pair_estimate(CHAIN, VALUES, (2, 4))
    assert told["estimate"] == sum(VALUES.values()) - VALUES[2, 4]
    assert (told["unknown"], told["of"]) == (1, 10)


@pytest.mark.parametrize(
    ("missing", "bound"),
    [
        ([(1, 3)], 2 * 8.0),
        ([(3, 5)], 2 * 16.0),
        ([(3, 5), (1, 5)], 2 * 16.0 + 2 * 32.0),
        ([(1, 3), (2, 4)], 2 * 8.0 + 2 * 8.0),
        ([(4, 5)], None),
        ([(1, 5), (4, 5)], None),
    ],
    ids=str,
)
def test_a_bound_is_twice_the_largest_that_is_as_close(missing, bound):
    """For each unknown increment, and added up; none where one of them has fewer than four to compare with."""
    assert pair_estimate(CHAIN, VALUES, *missing)["bound"] == bound


def test_the_closest_has_no_bound():
    """It says which sets have nothing to compare with."""
    told = pair_estimate(CHAIN, VALUES, (1, 2))
    assert told["estimate"] == sum(VALUES.values()) - VALUES[1, 2]
    assert told["bound"] is None
    assert told["reason"] == (
        "Fewer than 4 sets of the same kinds of fragments that are known are as close together as [1, 2]: no bound."
    )
    assert "as close together as [1, 2] or as [2, 3]:" in pair_estimate(CHAIN, VALUES, (1, 2), (2, 3))["reason"]
    assert "as [1, 2] or as 9 others:" in pair_estimate(CHAIN, VALUES, *VALUES)["reason"]


def test_nothing_known_of_an_order_is_no_estimate():
    """Without a single pair, what is left is another sum, and that is told to be exact."""
    told = pair_estimate(CHAIN, VALUES, *VALUES)
    assert (told["estimate"], told["unknown"]) == (None, 10)


@pytest.mark.parametrize("missing", [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)], ids=str)
def test_as_close_by_symmetry_is_as_close(missing):
    """Rounded coordinates do not make one of six equal distances the shortest."""
    tetrahedron = "Ar 0 0 0\n--\nAr 3.8 0 0\n--\nAr 1.9 3.2909 0\n--\nAr 1.9 1.0970 3.1027"
    assert pair_estimate(tetrahedron, dict.fromkeys(VALUES, 3.0), missing)["bound"] == 6.0


def test_only_fragments_of_the_same_kinds_are_compared():
    """An ion and an atom say nothing of two atoms, however close they are, nor an atom of another element."""
    ion = "1 1\nNa 0 0 0\n--\n" + "\n--\n".join(f"Ar 0 0 {z}" for z in (3, 7, 12, 18, 25))
    values = {pair: 1.0 if 1 in pair else 3.0 for pair in combinations(range(1, 7), 2)}
    assert pair_estimate(ion, values, (1, 6))["bound"] == 2 * 1.0
    assert pair_estimate(ion, values, (2, 6))["bound"] == 2 * 3.0
    assert pair_estimate(ion, values, (1, 5))["bound"] is None
    assert pair_estimate(ion.replace("1 1\nNa", "Ne"), values, (1, 6))["bound"] == 2 * 1.0


def test_fragments_are_as_far_apart_as_their_closest_atoms():
    """Whatever their centres are; of three fragments, the farthest two count."""
    rods = "C 0 0 0\nC 0 0 1.5\nC 0 0 3\n--\nC 0 0 6\nC 0 0 7.5\nC 0 0 9\n--\nC 4 0 0\nC 4 0 1.5\nC 4 0 3"
    fragments = Fragments(mbexec.plan(job(rods)).spec.molecule)
    bohr = qcel.constants.bohr2angstroms
    assert fragments.apart(np.array([[1, 2], [1, 3], [2, 3]])) == pytest.approx(np.array([3, 4, 5]) / bohr, abs=1e-3)
    assert fragments.apart(np.array([[1, 2, 3]])) == pytest.approx([5 / bohr], abs=1e-3)


def test_unknown_monomers_leave_totals_unknown():
    """No estimate and no bound of totals; interactions with cp do not need them, those with nocp are bounded."""
    plan = planned(10, 2, bsse="nocp+cp", total=True)
    energies = mbexec.run(plan.spec, executor="serial").energies
    values = [{"energy": energy - 500 * task.nbody} for task, energy in zip(plan, energies, strict=True)]
    complete = named(merged(plan, values))
    (place,) = [task.index for task in plan if task.bas == (2,)]
    found = partial_of(merged(plan, values, {place}))
    assert found["properties"]["cp_corrected_interaction_energy"] == complete["cp_corrected_interaction_energy"]
    for key in ("nocp_corrected_total_energy_through_1_body", "cp_corrected_total_energy"):
        told = found["estimates"][key]
        assert (told["estimate"], told["bound"]) == (None, None)
        assert told["reason"] == "Nothing tells how large the energies of unknown monomers are: no bound."
    told = found["estimates"]["nocp_corrected_interaction_energy"]
    assert told["unknown"] == 9
    assert abs(told["estimate"] - complete["nocp_corrected_interaction_energy"]) <= told["bound"] < 0.1


def assert_contained(plan, energies, fewest):
    """With any one calculation missing, estimate and bound contain what a complete run gives; most have a bound."""
    values = [{"energy": energy} for energy in energies.tolist()]
    complete = named(merged(plan, values))
    bounded = 0
    for place in range(len(plan)):
        for key, told in partial_of(merged(plan, values, {place}))["estimates"].items():
            if told["bound"] is not None:
                bounded += 1
                assert abs(told["estimate"] - complete[key]) <= told["bound"] + 1e-12, (plan[place].label, key)
    assert bounded > fewest


def test_bounds_hold_for_argon():
    """Of ten argon atoms with triple dipoles, whichever calculation is missing."""
    found = mbexec.run(job(argon(10), max_nbody=3, cluster_properties="none"), executor="serial")
    assert_contained(found.plan, found.energies, 700)


def test_pairwise_additive_triples_have_no_bound_to_speak_of():
    """Where three-body terms are zero, so is what a missing triple may add."""
    program = {"program": "model-potential", "method": "lj"}
    found = mbexec.run(job(argon(6), max_nbody=3, program=program), executor="serial")
    values = [{"energy": energy} for energy in found.energies.tolist()]
    for place in [task.index for task in found.plan if task.nbody == 3]:
        told = partial_of(merged(found.plan, values, {place}))["estimates"]["nocp_corrected_interaction_energy"]
        assert told["estimate"] == pytest.approx(found.result.properties.nocp_corrected_interaction_energy, abs=1e-15)
        assert told["bound"] is None or told["bound"] < 1e-15


@pytest.mark.qc
@pytest.mark.parametrize(("bsse", "max_nbody", "fewest"), [("nocp", 3, 150), ("cp", 2, 40), ("vmfc", 2, 200)])
def test_bounds_hold_for_water(bsse, max_nbody, fewest):
    """Of a water hexamer, whichever monomer, pair or triple is missing."""
    program = {"program": "pyscf", "method": "hf", "basis": "sto-3g"}
    given = job(WATER_HEXAMER, bsse=bsse, max_nbody=max_nbody, program=program, cluster_properties="none")
    found = mbexec.run(given, executor="threads")
    assert_contained(found.plan, found.energies, fewest)


@pytest.mark.qc
def test_trimers_that_do_not_converge():
    """A real failure: exact sums are those of a run with more iterations, and the estimate's bound holds."""
    program = {"program": "pyscf", "method": "hf", "basis": "sto-3g", "keywords": {"conv_tol_grad": 5.6e-7}}
    given = job(WATER_HEXAMER, max_nbody=3, driver="gradient", program=program)
    complete = named(mbexec.run(given, executor="threads").result)
    found = mbexec.run(given, executor="threads", **{"program.keywords": {"conv_tol_grad": 5.6e-7, "max_cycle": 9}})
    assert {entry["error_type"] for entry in found.result.error.extras["failed"]} == {"convergence_error"}
    exact, estimates = partial_of(found.result)["properties"], partial_of(found.result)["estimates"]
    assert "nocp_corrected_total_gradient_through_2_body" in exact
    assert all(bits(value) == bits(complete[key]) for key, value in exact.items())
    told = estimates["nocp_corrected_interaction_energy"]
    assert 0 < told["unknown"] < 20
    assert 0 < abs(told["estimate"] - complete["nocp_corrected_interaction_energy"]) <= told["bound"]


# Runs


TOY = {"program": "toy-potential", "method": "lj-atm"}


def test_a_program_that_fails():
    """A model chemistry that never works: what the others give is that of a run in which it does."""
    given = job(argon(4), bsse=["cp", "nocp"], driver="gradient", levels={"1": "a", "2": "bad", "3": "c"})
    given["program"] = dict.fromkeys(("a", "bad", "c"), TOY)
    complete = named(mbexec.run(given, executor="threads").result)
    given["program"]["bad"] = {**TOY, "keywords": {"fail": "convergence_error"}}
    found = mbexec.run(given, executor="threads")
    assert found.result.error.error_type == "convergence_error"
    exact = partial_of(found.result)["properties"]
    assert {"cp_corrected_3_body_contribution_to_gradient", "nocp_corrected_3_body_contribution_to_energy"} <= set(
        exact
    )
    assert all(bits(value) == bits(complete[key]) for key, value in exact.items())
    estimates = partial_of(found.result)["estimates"]
    assert estimates["return_gradient"]["reason"] == "No estimate is made of gradients, Hessians and moments."
    assert {entry["model_chemistry"] for entry in partial_of(found.result)["unknown_increments"]} == {"bad"}


def test_a_run_that_is_stopped(install):
    """Half way, with the monomers done: they are exact, and what did not run is no failure."""
    stop = threading.Event()

    class Stopping:
        @hookimpl
        def submit_level(self, level, work):
            for task in level:
                yield work(task)
                if task.index == 6:
                    stop.set()

    install("stopping-executor", {"stopping": Stopping})
    given = job(argon(5), max_nbody=2, program=TOY, return_total_data=True, run={"schedule": "nbody"})
    spec, config = read_job(given, {"run.executor": "stopping"}, to_run=True)
    found = engine.execute(spec, config, stop)
    complete = mbexec.run(given, executor="serial")
    assert found.result.error.extras["failed"] == []
    assert (found.result.error.error_type, found.result.error.error_message) == (
        "unknown_error",
        "8 of 15 fragment calculations gave no result. They did not run.",
    )
    told = partial_of(found.result)
    assert told["not_run"] == {"count": 8, "labels": [found.plan[i].label for i in range(7, 15)]}
    (entry,) = told["unknown_increments"]
    assert (entry["nbody"], entry["count"], entry["of"]) == (2, 8, 10)
    estimate = told["estimates"]["nocp_corrected_interaction_energy"]["estimate"]
    assert estimate == sum(complete.contributions["nocp"][pair] for pair in [(1, 2), (1, 3)])


def test_a_complete_run_does_not_pay(monkeypatch):
    """Nothing of it is done where nothing is missing."""
    monkeypatch.setattr(merging, "partial_result", None)
    assert mbexec.run(job(argon(3)), executor="serial").result.success


# The command line


def shown(plan, result):
    """What the command line prints of a run that failed, blanks made one."""
    console = Console(width=160, file=io.StringIO())
    console.print(tables.failures(plan, result))
    return " ".join(console.file.getvalue().split())


def test_tables_tell_exact_sums_from_estimates():
    """First what failed, then the exact sums as a complete run shows them, then estimates with their bounds."""
    plan = planned(9, 3, bsse="nocp", total=True)
    energies = mbexec.run(plan.spec, executor="serial").energies
    values = [{"energy": energy - 500 * task.nbody} for task, energy in zip(plan, energies, strict=True)]
    (place,) = [task.index for task in plan if task.frag == (1, 3)]
    result = merged(plan, values, {place})
    seen = shown(plan, result)
    failed, exact, estimates = re.split("Exact: what is missing|Estimates: these depend", seen)
    assert "1 fragment calculation failed" in failed
    assert '["(auto)", [1, 3], [1, 3]] convergence_error model-potential lj-atm: no convergence' in failed
    total = partial_of(result)["properties"]["nocp_corrected_total_energy_through_1_body"]
    assert f"total 1 {total:.10f}" in exact
    assert "interaction" not in exact
    for kind, key, unknown in [
        ("interaction 2", "nocp_corrected_interaction_energy_through_2_body", "1 of 36"),
        ("contribution 2", "nocp_corrected_2_body_contribution_to_energy", "1 of 36"),
        ("3", "nocp_corrected_3_body_contribution_to_energy", "7 of 84"),
    ]:
        told = partial_of(result)["estimates"][key]
        in_kj = told["bound"] * qcel.constants.hartree2kJmol
        assert f"{kind} {unknown} {told['estimate']:.8f} {told['bound']:.8f} {in_kj:.4f}" in estimates
    assert seen.endswith("The bound is no theorem: it takes increments to decay with distance.")


def test_tables_say_why_there_is_no_bound():
    """A dash in the table, and the reason below it once."""
    plan = mbexec.plan(job(CHAIN, max_nbody=2))
    (place,) = [task.index for task in plan if task.frag == (1, 2)]
    seen = shown(plan, merged(plan, pairs(plan, VALUES), {place}))
    assert f"contribution 2 1 of 10 {sum(VALUES.values()) + 8:.8f} - -" in seen
    assert seen.count("are as close together as [1, 2]: no bound.") == 1
    assert "theorem" not in seen


def test_tables_count_what_did_not_run():
    """Where nothing failed there is no table of failures."""
    plan = planned(4, 2)
    seen = shown(plan, merged(plan, numbers(plan, 13), lost={8, 9}))
    assert seen.startswith("0 fragment calculations failed, 2 did not run Exact:")


def test_tables_show_an_exact_gradient():
    """The one that would be returned."""
    plan = planned(3, 3, driver="gradient", total=True)
    result = merged(plan, numbers(plan, 14), {0})
    x, y, z = partial_of(result)["properties"]["return_gradient"][1]
    assert f"2 Ar {x:.10f} {y:.10f} {z:.10f}" in shown(plan, result)
    assert "No estimate is made of gradients, Hessians and moments." in shown(plan, result)


def test_tables_of_a_planner_that_tells_no_more():
    """A FailedOperation without extras is shown as well as can be."""
    plan = planned(3, 2)
    failed = FailedOperation(input_data=plan.spec, error={"error_type": "input_error", "error_message": "nothing"})
    assert shown(plan, failed) == "0 fragment calculations failed"


def test_the_command_shows_and_writes_it(tmp_path):
    """Exit code 1; the file holds what mbexec.run gives."""
    path = tmp_path / "job.json"
    given = job(argon(3), levels={"1": "good", "2": "bad"}, run={"executor": "serial", "reporters": []})
    given["program"] = {"good": TOY, "bad": {**TOY, "keywords": {"fail": "resource_error"}}}
    many = mbexec.plan(given).spec
    path.write_text(many.serialize("json"))
    done = CliRunner().invoke(cli.main, ["run", str(path), "-e", "serial", "-q", "-o", str(tmp_path / "result.json")])
    assert done.exit_code == 1
    assert "6 fragment calculations failed" in done.stdout
    assert "Estimates: these depend on what is missing." in done.stdout
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["error"]["extras"]["partial"] == partial_of(mbexec.run(many, executor="serial").result)
