"""The algebra: fragments and whole-number coefficients, against QCManyBody and against its definition."""

import math
import os
import subprocess
import sys
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qcelemental.models.v2 import Molecule
from qcmanybody import ManyBodyCore
from qcmanybody.utils import delabeler, labeler

from mbexec import Contribution, Expansion, FragmentSets, InputError, expand

TREATMENTS = [["nocp"], ["cp"], ["vmfc"], ["cp", "nocp", "vmfc"], ["vmfc", "cp"], ["nocp", "cp"]]


def helium(nfr):
    """A row of helium atoms, one a fragment."""
    return Molecule(
        symbols=["He"] * nfr,
        geometry=[[0, 0, 4.0 * i] for i in range(nfr)],
        fragments=[[i] for i in range(nfr)],
        fragment_charges=[0.0] * nfr,
        fragment_multiplicities=[1] * nfr,
    )


def schemes(nfr, max_nbody):
    """One, two and three model chemistries over the levels, with and without a supersystem."""
    one = dict.fromkeys(range(1, max_nbody + 1), "a")
    two = {n: "a" if n < 2 else "b" for n in one}
    three = {n: "abc"[min(n, 3) - 1] for n in one}
    plain = [one, two, three]
    outer = [{**levels, "supersystem": "s"} for levels in plain] if max_nbody < nfr else []
    return [*plain, *outer]


def cases():
    """Every valid combination for two to four fragments."""
    for nfr in (2, 3, 4):
        for max_nbody, bsse, total in product(range(1, nfr + 1), TREATMENTS, (True, False)):
            for levels in schemes(nfr, max_nbody):
                yield nfr, bsse, levels, total, False
            if max_nbody == nfr and "vmfc" not in bsse:
                yield nfr, bsse, dict.fromkeys(range(1, nfr + 1), "a"), total, True


def core_of(nfr, bsse, levels, total, whole_only):
    return ManyBodyCore(
        helium(nfr),
        list(bsse),
        levels,
        return_total_data=total,
        supersystem_ie_only=whole_only,
        embedding_charges={},
    )


def expansion_of(core, nfr, levels, total, whole_only):
    max_nbody = 1 if whole_only else max(n for n in levels if n != "supersystem")
    return expand(
        FragmentSets.full(nfr, max_nbody),
        bsse_type=[bsse.value for bsse in core.bsse_type],
        levels=levels,
        return_total_data=total,
        supersystem_ie_only=whole_only,
    )


def tasks_of(expansion):
    sets = list(expansion.sets)
    return [
        (expansion.mcs[mc], sets[frag], sets[bas])
        for mc, frag, bas in zip(expansion.mc, expansion.frag, expansion.bas, strict=True)
    ]


def id_of(case):
    nfr, bsse, levels, total, whole_only = case
    return f"{nfr}-{'+'.join(bsse)}-{''.join(levels.values())}-{'total' if total else 'ie'}{'-whole' * whole_only}"


@pytest.mark.parametrize("case", list(cases()), ids=id_of)
def test_tasks_and_sums_equal_qcmanybody(case):
    """The tasks are those of iterate_molecules, and random energies add up to the same n-body sums."""
    nfr, _, levels, total, whole_only = case
    core = core_of(*case)
    expansion = expansion_of(core, nfr, levels, total, whole_only)
    tasks = tasks_of(expansion)
    wanted = {(mc, tuple(frag), tuple(bas)) for mc, frag, bas in map(delabeler, labels_of(core))}
    assert len(tasks) == len(wanted)
    assert set(tasks) == wanted
    if not tasks:
        return
    energies = np.random.default_rng(len(tasks)).normal(size=len(tasks))
    answer = core.analyze({labeler(*t): {"energy": float(e)} for t, e in zip(tasks, energies, strict=True)})
    for row in expansion.rows:
        found = expansion.total(row.bsse, row.nbody) @ energies
        assert found == pytest.approx(answer["energy_body_dict"][f"{row.nbody}{row.bsse}"], abs=1e-12)


def labels_of(core):
    return [label for _, label, _ in core.iterate_molecules()]


@pytest.mark.parametrize("bsse", TREATMENTS, ids="+".join)
def test_order_is_nbody_then_model_chemistry_then_frag_then_bas(bsse):
    """Tasks stand in the documented order, compared as tuples."""
    levels = {1: "z", 2: "a", 3: "a"}
    tasks = tasks_of(expand(FragmentSets.full(4, 3), bsse_type=bsse, levels=levels, return_total_data=True))
    assert tasks == sorted(tasks, key=lambda t: (len(t[1]), ["z", "a"].index(t[0]), t[1], t[2]))


def test_order_does_not_depend_on_the_hash_seed():
    """Several PYTHONHASHSEEDs print the same tasks."""
    script = (
        "from mbexec import FragmentSets, expand\n"
        "e = expand(FragmentSets.full(4, 3), bsse_type=['cp', 'vmfc'], levels={1: 'hi', 2: 'lo', 3: 'lo'},"
        " return_total_data=True)\n"
        "print(e.mcs, e.mc.tolist(), e.frag.tolist(), e.bas.tolist(), e.coefficients.tolist())"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "2", "3")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize(("nfr", "max_nbody"), [(5, 3), (6, 6), (20, 2), (9, 4)])
def test_full_expansion_has_the_closed_form_coefficients(nfr, max_nbody):
    """Nocp through n bodies: (-1)^(n-k) C(N-k-1, n-k), the textbook formula."""
    expansion = expand(
        FragmentSets.full(nfr, max_nbody),
        bsse_type=["nocp"],
        levels=dict.fromkeys(range(1, max_nbody + 1), "a"),
        return_total_data=True,
    )
    for n in range(1, max_nbody + 1):
        expected = [
            0 if k > n else (-1) ** (n - k) * math.comb(nfr - k - 1, n - k) if n < nfr else int(k == nfr)
            for k in expansion.nbody
        ]
        assert expansion.total("nocp", n).tolist() == expected


@st.composite
def closed_collections(draw):
    """A random collection of sets of 3 to 7 fragments, with all their subsets."""
    nfr = draw(st.integers(3, 7))
    seeds = draw(st.lists(st.sets(st.integers(1, nfr), min_size=1, max_size=min(4, nfr - 1)), min_size=1, max_size=8))
    singles = {(i,) for i in range(1, nfr + 1)}
    below = {c for s in seeds for k in range(1, len(s) + 1) for c in combinations(sorted(s), k)}
    return nfr, sorted(singles | below)


@given(closed_collections(), st.sampled_from(["nocp", "cp", "vmfc"]), st.integers(0, 2**32 - 1))
@settings(max_examples=80, deadline=None)
def test_screened_contributions_equal_inclusion_exclusion(collection, bsse, seed):
    """For any closed collection each n-body contribution is the sum of signed subset energies, by definition."""
    nfr, kept = collection
    sets = FragmentSets.closed(nfr, kept)
    orders = sorted({len(s) for s in kept})
    expansion = expand(sets, bsse_type=[bsse], levels=dict.fromkeys(orders, "a"), return_total_data=True)
    rng = np.random.default_rng(seed)
    energies = rng.integers(-1000, 1000, len(expansion)).astype(float)
    energy = {(frag, bas): e for (_, frag, bas), e in zip(tasks_of(expansion), energies, strict=True)}
    everyone = tuple(range(1, nfr + 1))
    for n in orders:
        expected = 0.0
        for whole in (s for s in kept if len(s) == n):
            for k in range(1, n + 1):
                for part in combinations(whole, k):
                    bas = {"nocp": part, "cp": everyone if n > 1 else part, "vmfc": whole}[bsse]
                    expected += (-1) ** (n - k) * energy[part, bas]
        assert expansion.total(bsse, n, n) @ energies == expected


@given(closed_collections(), st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_an_additive_property_is_reproduced(collection, seed):
    """A property that is a sum over the kept sets is given back exactly by the whole expansion."""
    nfr, kept = collection
    sets = FragmentSets.closed(nfr, kept)
    weights = dict(zip(kept, np.random.default_rng(seed).integers(-99, 99, len(kept)).tolist(), strict=True))
    levels = dict.fromkeys(range(1, max(map(len, kept)) + 1), "a")
    expansion = expand(sets, bsse_type=["nocp"], levels=levels, return_total_data=True)
    energies = [sum(w for s, w in weights.items() if set(s) <= set(frag)) for _, frag, _ in tasks_of(expansion)]
    assert int(expansion.total("nocp", nfr) @ np.array(energies)) == sum(weights.values())


def test_a_collection_that_lacks_a_subset_is_refused():
    """The missing set is named."""
    with pytest.raises(InputError, match=r"\(1, 3\) is missing"):
        FragmentSets.closed(4, [(1,), (2,), (3,), (4,), (1, 2), (2, 3), (1, 2, 3)])


@pytest.mark.parametrize("bad", [(), (0, 1), (1, 5), (2, 2)], ids=str)
def test_what_is_no_set_of_fragments_is_refused(bad):
    """Empty sets, numbers out of range and repeats are named."""
    with pytest.raises(InputError, match="is not a set of fragments"):
        FragmentSets.closed(4, [(1,), bad])


def test_large_sets_are_found_beyond_64_bit_keys():
    """Sixteen fragments in full, vmfc: sets of sixteen need keys of more than 64 bits."""
    sets = FragmentSets.full(16, 16)
    some = sets.by_size[15]
    assert sets.index(some).tolist() == sets.members(15).tolist()
    assert sets[sets.all_fragments] == tuple(range(1, 17))
    assert len(sets) == 2**16 - 1


@pytest.mark.parametrize(("nfr", "max_nbody", "random"), [(16, 3, 392), (16, 4, 1712), (64, 3, 15375)])
def test_amplification_is_the_root_of_the_sum_of_squares(nfr, max_nbody, random):
    """Noise of 1e-8 in each energy spoils the total by that times the stated factor."""
    levels = dict.fromkeys(range(1, max_nbody + 1), "a")
    expansion = expand(FragmentSets.full(nfr, max_nbody), bsse_type=["nocp"], levels=levels, return_total_data=True)
    worst, spread = expansion.amplification("nocp", max_nbody)
    assert round(spread) == random
    noise = 1e-8 * np.random.default_rng(3).normal(size=(200, len(expansion)))
    errors = noise @ expansion.total("nocp", max_nbody)
    assert np.std(errors) == pytest.approx(1e-8 * spread, rel=0.2)
    assert np.abs(errors).max() < 1e-8 * worst


@pytest.mark.parametrize("bsse", ["nocp", "cp", "vmfc"])
def test_increments_sum_to_the_contributions(bsse):
    """Added over the sets of a size, they are that size's n-body contribution."""
    levels = {1: "a", 2: "a", 3: "b"}
    expansion = expand(FragmentSets.full(5, 3), bsse_type=[bsse], levels=levels, return_total_data=True)
    energies = np.random.default_rng(1).normal(size=len(expansion))
    found = expansion.increments(bsse, energies)
    assert len(found) == 5 + 10 + 10
    for n in (1, 2, 3):
        summed = sum(value for frag, value in found.items() if len(frag) == n)
        assert summed == pytest.approx(expansion.total(bsse, n, n) @ energies, abs=1e-12)


def test_increments_leave_out_what_is_not_known():
    """A missing dimer takes with it the sets that hold it, and no others."""
    levels = dict.fromkeys((1, 2, 3), "a")
    expansion = expand(FragmentSets.full(4, 3), bsse_type=["nocp"], levels=levels, return_total_data=True)
    energies = np.ones(len(expansion))
    energies[[t[1] for t in tasks_of(expansion)].index((1, 2))] = np.nan
    found = expansion.increments("nocp", energies)
    assert [s for s in expansion.sets if s not in found] == [(1, 2), (1, 2, 3), (1, 2, 4), (1, 2, 3, 4)]


def test_a_supersystem_alone_has_no_increments_beyond_the_monomers():
    """With supersystem_ie_only nothing between monomers and cluster can be told apart."""
    expansion = expand(
        FragmentSets.full(30, 1),
        bsse_type=["nocp"],
        levels=dict.fromkeys(range(1, 31), "a"),
        return_total_data=True,
        supersystem_ie_only=True,
    )
    assert expansion.rows == (Contribution("nocp", 1, "a"), Contribution("nocp", 30, "a"))
    assert list(expansion.increments("nocp", np.zeros(len(expansion)))) == [(i,) for i in range(1, 31)]


def test_a_planner_can_list_tasks_of_its_own():
    """from_tasks orders them and makes no coefficients."""
    expansion = Expansion.from_tasks(4, [("b", (1, 2), (1, 2, 3)), ("a", (2,), (2,)), ("b", (1, 2), (1, 2))])
    assert tasks_of(expansion) == [("a", (2,), (2,)), ("b", (1, 2), (1, 2)), ("b", (1, 2), (1, 2, 3))]
    assert expansion.rows == ()
    assert expansion.coefficients.shape == (3, 0)


def test_many_sets_are_those_that_one_by_one_gives():
    """In any order; the same set is the same object, which travels to workers once in a batch."""
    sets = FragmentSets.closed(6, [*combinations(range(1, 7), 1), (1, 2), (3, 5), (1, 3), (1, 5), (1, 3, 5)])
    indices = np.array([len(sets) - 1, 0, 7, 9, 0, len(sets) - 1, 3])
    found = sets.at(indices)
    assert found == [sets[int(index)] for index in indices]
    assert found[0] is found[5]
    assert sets.at(np.array([], dtype=int)) == []
