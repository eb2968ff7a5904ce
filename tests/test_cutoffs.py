"""Distance cutoffs: which fragment sets they keep, what comes of them, and what they refuse."""

import math
from itertools import combinations

import numpy as np
import pytest
import qcelemental as qcel
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import mbexec
from mbexec import FragmentSets, InputError, expand
from tests.systems import HELIUM_TETRAMER, WATER_HEXAMER, WATER_TRIMER, argon, job
from tests.test_partial import assert_honest

A0 = 1 / qcel.constants.bohr2angstroms
MEASURES = ("closest_atoms", "centers_of_mass")
TOLERANCE = 2e-3  # a0; pairs this little beyond a cutoff may be within


def kept(plan):
    """The sets that contribute, by size."""
    sets = plan.expansion.sets
    return {n: {tuple(s) for s in sets.contributing(n).tolist()} for n in sets.by_size if n < sets.nfr or sets.whole}


def distances(molecule, measure):
    """Between all pairs of fragments, by numpy alone, a0."""
    nfr = len(molecule.fragments)
    found = {}
    for i, j in combinations(range(nfr), 2):
        a, b = (molecule.geometry[molecule.fragments[k]] for k in (i, j))
        if measure == "centers_of_mass":
            m, n = (np.asarray(molecule.masses)[molecule.fragments[k]] for k in (i, j))
            found[i + 1, j + 1] = float(np.linalg.norm(m @ a / m.sum() - n @ b / n.sum()))
        else:
            found[i + 1, j + 1] = float(np.linalg.norm(a[:, None] - b[None], axis=-1).min())
    return found


def by_brute_force(molecule, max_nbody, cutoff, measure):
    """Every combination whose pairs, and those of each of its subsets, are within their cutoffs, a0."""
    apart = distances(molecule, measure)
    found = {}
    for n in range(1, max_nbody + 1):
        limits = [cutoff.get(k, math.inf) for k in range(2, n + 1)]
        found[n] = {
            s
            for s in combinations(range(1, len(molecule.fragments) + 1), n)
            if all(apart[pair] <= min(limits) for pair in combinations(s, 2))
        }
    return found


def bits(plan):
    """All arrays of a plan, as bytes."""
    e = plan.expansion
    arrays = [e.mc, e.frag, e.bas, e.coefficients, *e.sets.by_size.values()]
    return [(a.dtype.str, a.shape, a.tobytes()) for a in arrays], e.rows, e.mcs, list(e.sets.by_size)


@st.composite
def clusters(draw):
    """A few fragments of one to three atoms, thrown into a box; as the text of a geometry in angstrom."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=3, max_size=7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    parts = []
    for size in sizes:
        atoms = rng.uniform(0, 9, 3) + np.cumsum(rng.uniform(0.7, 1.2, (size, 3)), axis=0)
        symbols = rng.choice(["He", "Ne", "Ar"], size)
        parts.append("\n".join(f"{s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip(symbols, atoms, strict=True)))
    return "\n--\n".join(parts)


CUTOFFS = st.dictionaries(st.integers(2, 4), st.floats(0.5, 12.0), min_size=1)


@given(clusters(), CUTOFFS, st.sampled_from(MEASURES), st.booleans())
@settings(max_examples=150, deadline=None)
@pytest.mark.filterwarnings("ignore:mbe.cutoff for", "ignore:The cutoffs keep no two")
def test_the_sets_that_are_kept(geometry, cutoff, measure, whole):
    """Those that brute force over all combinations finds."""
    nfr = geometry.count("--") + 1
    max_nbody = nfr if whole else min(4, nfr)
    cutoff = {n: r for n, r in cutoff.items() if n <= max_nbody}
    given_job = job(geometry, max_nbody=max_nbody, cutoff_measure=measure)
    if cutoff:
        given_job["mbe"]["cutoff"] = {str(n): r for n, r in cutoff.items()}
    plan = mbexec.plan(given_job)
    limits = {n: r * A0 for n, r in cutoff.items()}
    apart = distances(plan.spec.molecule, measure).values()
    assume(not any(limit < distance < limit + TOLERANCE for limit in limits.values() for distance in apart))
    expected = by_brute_force(plan.spec.molecule, max_nbody, limits, measure)
    assert kept(plan) == {n: sets for n, sets in expected.items() if n < nfr or sets}


def test_a_cutoff_that_is_set_by_its_order_leaves_those_of_others():
    """As all settings do that are named one by one; a table of cutoffs replaces the job's."""
    tables = job(argon(6), max_nbody=3, cutoff={"2": 7.0, "3": 5.0})

    def lengths(given):
        found = mbexec.plan(tables, **given).spec.specification.extras["mbexec"]["cutoff"]
        return {int(order): round(length / A0, 6) for order, length in found.items()}

    assert lengths({"mbe.cutoff.3": 6.0}) == {2: 7.0, 3: 6.0}
    assert lengths({"mbe.cutoff.2": 8.0, "mbe.cutoff.3": 6.0}) == {2: 8.0, 3: 6.0}
    assert lengths({"mbe.cutoff": {"3": 6.0}}) == {3: 6.0}


def test_cutoffs_need_an_end_of_the_expansion():
    """Without, it would go on to all fragments, which takes for ever where those are many."""
    told = r"^mbe.cutoff without mbe.max_nbody would make an expansion up to all 6 fragments; set max_nbody to "
    with pytest.raises(InputError, match=told):
        mbexec.plan(job(argon(6), cutoff={"2": 7.0}))
    with pytest.raises(InputError, match=r"set max_nbody to the size of the largest sets, such as 2\."):
        mbexec.plan(job(argon(2), cutoff={"2": 7.0}))


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("supersystem", [False, True], ids=["", "supersystem"])
@pytest.mark.parametrize("mcs", [1, 2])
@pytest.mark.parametrize("bsse", [["nocp"], ["cp"], ["vmfc"], ["cp", "nocp", "vmfc"]], ids="+".join)
@pytest.mark.parametrize("max_nbody", [2, 3, 6])
def test_a_cutoff_beyond_the_cluster_changes_no_bit(max_nbody, bsse, mcs, supersystem, measure):
    """The plan is that of the full expansion, array by array."""
    given_job = job(WATER_HEXAMER, bsse=bsse, return_total_data=True)
    labels = {"low": "lj", "high": "lj-atm", "whole": "lj"}
    levels = {"1": "high", str(max_nbody): "low"} if mcs == 2 else {str(max_nbody): "low"}
    if supersystem and max_nbody < 6:
        levels["supersystem"] = "whole"
    given_job["mbe"]["levels"] = levels
    given_job["program"] = {
        label: {"program": "model-potential", "method": labels[label]} for label in dict.fromkeys(levels.values())
    }
    full = mbexec.plan(given_job)
    given_job["mbe"] |= {"cutoff": {str(n): 1e4 for n in range(2, max_nbody + 1)}, "cutoff_measure": measure}
    assert bits(mbexec.plan(given_job)) == bits(full)


@pytest.mark.parametrize("bsse", ["nocp", "cp", "vmfc"])
def test_a_cutoff_beyond_the_cluster_gives_the_same_result(bsse):
    """To the last bit, gradient and text table included."""
    given_job = job(argon(5), bsse=bsse, driver="gradient", max_nbody=3, run={"executor": "serial"})
    full = mbexec.run(given_job).result
    given_job["mbe"]["cutoff"] = {"2": 100.0, "3": 100.0}
    screened = mbexec.run(given_job).result
    assert screened.model_dump(include={"properties", "return_result", "stdout"}).__repr__() == (
        full.model_dump(include={"properties", "return_result", "stdout"}).__repr__()
    )


def test_a_set_goes_with_its_subsets():
    """A triple whose pair is beyond the tighter cutoff of pairs is dropped; a warning says that its own has no use."""
    given_job = job(HELIUM_TETRAMER, max_nbody=3, cutoff={"2": 4.0, "3": 9.0})
    with pytest.warns(UserWarning, match="for 3 bodies has no effect: .*for 2 bodies is less"):
        plan = mbexec.plan(given_job)
    assert kept(plan)[2] == {(1, 2), (1, 3), (1, 4), (3, 4)}
    assert kept(plan)[3] == {(1, 3, 4)}


def test_an_order_without_a_cutoff():
    """All pairs count where triples alone have a cutoff; triples of near pairs where pairs alone have one."""
    far = job(HELIUM_TETRAMER, max_nbody=3, cutoff={"3": 4.3})
    assert {n: len(sets) for n, sets in kept(mbexec.plan(far)).items() if n < 4} == {1: 4, 2: 6, 3: 2}
    near = job(HELIUM_TETRAMER, max_nbody=3, cutoff={"2": 4.3})
    assert {n: len(sets) for n, sets in kept(mbexec.plan(near)).items() if n < 4} == {1: 4, 2: 5, 3: 2}


SHELLS = {"sc": [1, 2, 3, 4, 5, 6, 8, 9], "fcc": [2, 4, 6, 8, 10]}  # squares of distances, half or whole constants


def lattice(kind, size, constant, turn):
    """Points of a lattice as whole numbers, and places: turned at random and rounded as QCSchema rounds them, a0."""
    grid = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[grid.sum(axis=1) % 2 == 0] if kind == "fcc" else grid
    q, _ = np.linalg.qr(np.random.default_rng(turn).normal(size=(3, 3)))
    return grid, (constant * grid @ q).round(8)


@given(st.sampled_from(sorted(SHELLS)), st.floats(2.5, 9.0), st.data())
@settings(max_examples=60, deadline=None)
def test_what_is_equal_by_symmetry_is_kept_or_dropped_together(kind, constant, data):
    """On a lattice a cutoff keeps whole shells, also where it is a shell's distance, or that less the tolerance."""
    grid, places = lattice(kind, 4, constant, data.draw(st.integers(0, 99)))
    shell = data.draw(st.sampled_from(SHELLS[kind]))
    off = data.draw(st.sampled_from([0.0, 1e-12, -1e-12, 1e-9, -1e-9, -1e-3, -1e-3 - 1e-9, -1e-3 + 1e-9]))
    geometry = "\n--\n".join(f"Ar {x:.8f} {y:.8f} {z:.8f}" for x, y, z in places)
    cutoff = constant * shell**0.5 + off
    given_job = job(geometry, max_nbody=3, cutoff={"2": cutoff})
    given_job["molecule"]["units"] = "bohr"
    found = kept(mbexec.plan(given_job))
    squares = {(i + 1, j + 1): int(((grid[i] - grid[j]) ** 2).sum()) for i, j in combinations(range(len(grid)), 2)}
    assert found[2] in ({p for p, s in squares.items() if s <= shell}, {p for p, s in squares.items() if s < shell})
    if abs(off) <= 1e-9:
        assert found[2] == {p for p, s in squares.items() if s <= shell}


def test_a_pair_potential_loses_what_is_cut_off():
    """Of Lennard-Jones argon the total misses the sum over the pairs that are dropped, and nothing else."""
    given_job = job(argon(12), max_nbody=3, run={"executor": "serial"}, return_total_data=True)
    given_job["program"]["method"] = "lj"
    full = mbexec.run(given_job)
    given_job["mbe"]["cutoff"] = {"2": 6.0}
    screened = mbexec.run(given_job)
    pairs = {s: e for s, e in full.contributions["nocp"].items() if len(s) == 2}
    dropped = pairs.keys() - kept(screened.plan)[2]
    assert len(dropped) > 20
    lost = full.result.return_result - screened.result.return_result
    assert lost == pytest.approx(sum(pairs[s] for s in dropped), abs=1e-15)
    assert screened.contributions["nocp"] == {
        s: e for s, e in full.contributions["nocp"].items() if s in set().union(*kept(screened.plan).values())
    }


def test_qcschema_has_cutoffs_in_atomic_units():
    """In a QCSchema input they stand in the extras, in a0, and give the same plan."""
    given_job = job(WATER_TRIMER, max_nbody=3, cutoff={2: 2.0}, cutoff_measure="closest_atoms")
    plan = mbexec.plan(given_job)
    assert {len(sets) for sets in plan.expansion.sets.by_size.values()} <= {3, 1, 0}
    own = plan.spec.specification.extras["mbexec"]
    assert own == {"cutoff": {"2": pytest.approx(2.0 * A0)}, "cutoff_measure": "closest_atoms"}
    assert bits(mbexec.plan(plan.spec.model_dump())) == bits(plan)
    given_job["molecule"]["units"] = "bohr"
    assert mbexec.plan(given_job).spec.specification.extras["mbexec"]["cutoff"] == {"2": 2.0}


@pytest.mark.parametrize(
    "cutoff",
    [
        *(6.0, [6.0], {}),
        *({"2": length} for length in (0.0, -1.0, "6", True, math.inf, math.nan)),
        *({order: 6.0} for order in ("1", "02", "two")),
    ],
    ids=str,
)
def test_what_is_no_cutoff(cutoff):
    """Orders from 2 up, with lengths above 0: in a job file, and in QCSchema."""
    with pytest.raises(InputError, match=r"mbe\.cutoff = .* must be a table of lengths above 0 by number of bodies"):
        mbexec.plan(job(argon(3), cutoff=cutoff))
    if cutoff != {}:
        spec = mbexec.plan(job(argon(3))).spec.model_dump()
        spec["specification"]["extras"] = {"mbexec": {"cutoff": cutoff}}
        with pytest.raises(InputError, match=r'"cutoff"\] = .* must be a table of lengths above 0 in a0'):
            mbexec.plan(spec)


def test_what_is_no_measure():
    """The two words are told: in a job file, and in QCSchema."""
    with pytest.raises(InputError, match=r'cutoff_measure = .oxygen. must be "closest_atoms" or "centers_of_mass"'):
        mbexec.plan(job(argon(3), cutoff={"2": 6.0}, cutoff_measure="oxygen"))
    spec = mbexec.plan(job(argon(3))).spec.model_dump()
    spec["specification"]["extras"] = {"mbexec": {"cutoff_measure": "oxygen"}}
    with pytest.raises(InputError, match=r'"cutoff_measure"\] = .oxygen. must be "closest_atoms" or "c'):
        mbexec.plan(spec)


def test_a_cutoff_beyond_the_expansion():
    """It names the order, and where the expansion ends."""
    with pytest.raises(InputError, match="a length for 3 bodies, but the expansion ends at 2"):
        mbexec.plan(job(argon(4), max_nbody=2, cutoff={"3": 6.0}))


def test_a_cutoff_beyond_the_levels():
    """To raise max_nbody would contradict them."""
    given = job(argon(4), levels={2: "a", "supersystem": "b"}, cutoff={"3": 6.0})
    given["program"] = dict.fromkeys("ab", given["program"])
    with pytest.raises(InputError, match=r"ends at 2; leave it out, or add an order to mbe\.levels\."):
        mbexec.plan(given)


def test_a_cutoff_without_orders_in_between():
    """supersystem_ie_only and a cutoff contradict each other."""
    with pytest.raises(InputError, match="supersystem_ie_only has no orders in between"):
        mbexec.plan(job(argon(3), supersystem_ie_only=True, cutoff={"2": 6.0}))


@pytest.mark.parametrize(
    ("length", "words"),
    [(50.0, "more than 700 pairs of fragments within"), (8.0, "more than 700 sets of 3 fragments")],
)
def test_more_than_could_ever_run(monkeypatch, length, words):
    """Cutoffs that are too long are refused before memory is filled."""
    monkeypatch.setattr("mbexec.plugins.manybody.planning._MOST", 700)
    with pytest.raises(InputError, match=words):
        mbexec.plan(job(argon(60), max_nbody=3, cutoff={"2": length}))


def test_cutoffs_of_arguments_replace_those_of_the_job(tmp_path):
    """Like levels, and unlike other tables, they are not laid over one another."""
    given_job = job(argon(5), max_nbody=3, cutoff={"2": 6.0, "3": 4.5})
    plan = mbexec.plan(given_job, **{"mbe.cutoff": {"2": 8.0}})
    assert plan.spec.specification.extras["mbexec"]["cutoff"] == {"2": pytest.approx(8.0 * A0)}


# The algebra


@st.composite
def collections(draw):
    """A random collection closed under subsets, and up to which order it holds all sets."""
    nfr = draw(st.integers(2, 7))
    complete = draw(st.integers(1, min(3, nfr)))
    seeds = draw(st.lists(st.sets(st.integers(1, nfr), min_size=1, max_size=min(5, nfr)), max_size=6))
    below = {c for s in seeds for k in range(1, len(s) + 1) for c in combinations(sorted(s), k)}
    all_sets = {c for k in range(1, complete + 1) for c in combinations(range(1, nfr + 1), k)}
    return nfr, complete, sorted(below | all_sets)


@given(collections(), st.data())
@settings(max_examples=150, deadline=None)
def test_a_k_body_additive_function_is_reproduced(collection, data):
    """Exactly, if all sets of up to k are kept; otherwise what the sets that are kept add, in any treatment."""
    nfr, complete, sets = collection
    bsse = data.draw(st.sampled_from(["nocp", "cp", "vmfc"]))
    order = data.draw(st.integers(1, min(4, nfr)))
    every = [c for k in range(1, order + 1) for c in combinations(range(1, nfr + 1), k)]
    drawn = data.draw(st.lists(st.integers(-999, 999), min_size=len(every), max_size=len(every)))
    weights = dict(zip(every, drawn, strict=True))
    levels = dict.fromkeys(range(1, max(map(len, sets)) + 1), "a")
    expansion = expand(FragmentSets.closed(nfr, sets), bsse_type=[bsse], levels=levels, return_total_data=True)
    frags = [expansion.sets[int(i)] for i in expansion.frag]
    energies = np.array([sum(w for s, w in weights.items() if set(s) <= set(frag)) for frag in frags])
    total = int(expansion.total(bsse, nfr) @ energies)
    assert total == sum(weights.get(s, 0) for s in sets)
    if order <= complete:
        assert total == sum(weights.values())


@given(
    collections(), st.lists(st.sampled_from("abc"), min_size=7, max_size=7), st.booleans(), st.integers(0, 2**32 - 1)
)
@settings(max_examples=100, deadline=None)
def test_several_model_chemistries_and_a_supersystem(collection, labels, total, seed):
    """Each order by inclusion and exclusion in its own model chemistry; the supersystem adds the whole cluster less
    its own expansion; no task is asked for that nothing counts, and what is not asked for does not matter.
    """
    nfr, _, sets = collection
    highest = max(map(len, sets))
    levels = dict(zip(range(1, highest + 1), labels, strict=False))
    if highest < nfr:
        levels["supersystem"] = "s"
    expansion = expand(FragmentSets.closed(nfr, sets), bsse_type=["nocp"], levels=levels, return_total_data=total)
    rng = np.random.default_rng(seed)
    energies = rng.integers(-999, 999, len(expansion))
    tasks = [(expansion.mcs[m], expansion.sets[int(f)]) for m, f in zip(expansion.mc, expansion.frag, strict=True)]
    energy = dict(zip(tasks, energies.tolist(), strict=True))

    def order(mc, n):
        parts = [(s, t) for s in sets if len(s) == n for k in range(1, n + 1) for t in combinations(s, k)]
        return sum((-1) ** (n - len(t)) * energy.setdefault((mc, t), 123_457) for _, t in parts)

    expected = sum(order(levels[n], n) for n in range(1, highest + 1))
    if highest < nfr:
        expected += energy["s", tuple(range(1, nfr + 1))] - sum(order("s", n) for n in range(1, highest + 1))
    assert int(expansion.total("nocp", nfr) @ energies) == expected
    assert expansion.coefficients.any(axis=1).all()


def test_a_whole_cluster_that_is_dropped_is_still_a_basis():
    """With cp, and max_nbody the number of fragments, the cluster's basis is there though it has no term itself."""
    plan = mbexec.plan(job(HELIUM_TETRAMER, bsse="cp", max_nbody=4, cutoff={"2": 4.3}))
    expansion = plan.expansion
    assert not expansion.sets.whole
    assert expansion.nbody.max() == 3
    assert {expansion.sets[int(bas)] for bas in expansion.bas} == {(1, 2, 3, 4)}
    assert not expansion.total("cp", 4, 4).any()


def test_the_increments_of_a_screened_expansion():
    """They are those of the sets that are kept, and add up to the contributions, where an order is empty too."""
    found = mbexec.run(job(argon(6), max_nbody=6, cutoff={"2": 5.0}, run={"executor": "serial"}))
    assert set(found.contributions["nocp"]) == set().union(*kept(found.plan).values())
    for n in range(1, 7):
        summed = math.fsum(e for s, e in found.contributions["nocp"].items() if len(s) == n)
        name = f"nocp_corrected_{n}_body_contribution_to_energy"
        assert n == 1 or summed == pytest.approx(getattr(found.result.properties, name, 0.0) or 0.0, abs=1e-15)


@pytest.mark.parametrize("bsse", ["nocp", "cp", "vmfc"])
def test_a_calculation_that_fails_within_cutoffs(bsse):
    """Whichever it is (of vmfc, a ninth), each named sum is exact or said to depend on it, as in the full expansion."""
    plan = mbexec.plan(job(argon(6), bsse=bsse, max_nbody=6, cutoff={"2": 6.5}, return_total_data=True))
    assert plan.expansion.left_out[2][0] > 0
    assert not plan.expansion.sets.whole
    for place in range(0, len(plan), 9 if bsse == "vmfc" else 1):
        assert_honest(plan, {place})
