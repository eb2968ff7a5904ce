"""Which fragment calculations are the same up to a rigid motion, and which are not."""

import math
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from qcelemental.models.v2 import Molecule

from mbexec import FragmentSets, expand
from mbexec.plugins.manybody.symmetry import find_symmetry

TOLERANCE = 1e-3
HIDDEN = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))  # where centres of symmetry are likely


def cluster(*fragments, charges=None, multiplicities=None, masses=None):
    """A molecule of fragments, each of symbols and places in a0."""
    ends = np.cumsum([len(symbols) for symbols, _ in fragments])
    charges = charges or [0.0] * len(fragments)
    multiplicities = multiplicities or [1] * len(fragments)
    return Molecule(
        symbols=[symbol for symbols, _ in fragments for symbol in symbols],
        geometry=np.concatenate([np.reshape(places, (-1, 3)) for _, places in fragments]).astype(float),
        fragments=[np.arange(end - len(symbols), end) for end, (symbols, _) in zip(ends, fragments, strict=True)],
        fragment_charges=charges,
        fragment_multiplicities=multiplicities,
        molecular_charge=sum(charges),
        molecular_multiplicity=sum(m - 1 for m in multiplicities) + 1,
        fix_com=True,
        fix_orientation=True,
        validate=False,
        validated=True,
        **({} if masses is None else {"masses": masses}),
    )


def found_in(molecule, nbody=1, bsse="nocp", tolerance=TOLERANCE, **options):
    """The calculations of an expansion, and which are the same."""
    sets = FragmentSets.full(len(molecule.fragments), nbody)
    levels = dict.fromkeys(range(1, nbody + 1), "only")
    expansion = expand(sets, bsse_type=[bsse], levels=levels, return_total_data=True)
    return expansion, find_symmetry(molecule, expansion, tolerance, **options)


def rotation(rng, hand=1):
    """A random orthogonal matrix of that determinant."""
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * (hand * np.linalg.det(q))


def lumps(rng, size):
    """Places that are apart from each other, at random or with much symmetry."""
    if rng.random() < 0.4:
        grid = np.array(list(product(range(2), repeat=3))) * rng.choice([1.5, 2.0])
        return rng.permutation(grid)[:size] + rng.normal(size=3)
    if rng.random() < 0.2:
        return np.outer(np.arange(size) * 1.7, rotation(rng)[0])
    places = np.empty((0, 3))
    while len(places) < size:
        place = rng.uniform(-3, 3, size=3)
        if all(np.linalg.norm(place - other) > 1.0 for other in places):
            places = np.vstack([places, place])
    return places


def moved(molecule, expansion, symmetry, place):
    """Where the motion puts the atoms of a duplicate, but for a translation, and where they are."""
    index = int(symmetry.duplicates[place])
    here, there = (
        molecule.geometry[np.concatenate([molecule.fragments[i - 1] for i in expansion.sets[int(expansion.bas[task])]])]
        for task in (index, int(symmetry.representative[index]))
    )
    image = there[symmetry.source(place)] @ symmetry.rotations[place].T
    return image, here


def assert_right(molecule, expansion, symmetry):
    """Every motion is a rigid one and does what is said of it."""
    for place in range(len(symmetry.duplicates)):
        turn = symmetry.rotations[place]
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert sorted(symmetry.source(place)) == list(range(len(symmetry.source(place))))
        image, here = moved(molecule, expansion, symmetry, place)
        apart = np.linalg.norm((image - image.mean(axis=0)) - (here - here.mean(axis=0)), axis=1).max()
        assert apart == pytest.approx(symmetry.deviations[place], abs=1e-12)
        assert apart <= symmetry.tolerance
        assert symmetry.representative[symmetry.duplicates[place]] < symmetry.duplicates[place]


def least_deviation(symbols, places, others_symbols, others):
    """By all permutations and both hands, with Horn's quaternions: the greatest distance after the best superposition.

    B. K. P. Horn, J. Opt. Soc. Am. A 4, 629 (1987).
    """
    best = math.inf
    x, y = places - places.mean(axis=0), others - others.mean(axis=0)
    for order in permutations(range(len(symbols))):
        if [others_symbols[i] for i in order] != list(symbols):
            continue
        for hand in (1, -1):
            s = (hand * x).T @ y[list(order)]
            delta = np.array([s[1, 2] - s[2, 1], s[2, 0] - s[0, 2], s[0, 1] - s[1, 0]])
            matrix = np.block([[np.trace(s), delta], [delta[:, None], s + s.T - np.trace(s) * np.eye(3)]])
            w, *v = np.linalg.eigh(matrix)[1][:, -1]
            v = np.array(v)
            turned = (w * w - v @ v) * hand * x + 2 * np.outer(hand * x @ v, v) + 2 * w * np.cross(v, hand * x)
            best = min(best, np.linalg.norm(turned - y[list(order)], axis=1).max())
    return best


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(1, 10), kinds=st.integers(1, 3), hand=st.sampled_from([1, -1]))
def test_every_rigid_motion_is_found(seed, size, kinds, hand):
    """Turned, reflected, moved, and with atoms in another order, a molecule is the same."""
    rng = np.random.default_rng(seed)
    size = min(size, 8) if seed % 2 else size
    places = lumps(rng, size) if size <= 8 else lumps(rng, 8)
    size = len(places)
    symbols = rng.choice(["H", "C", "O"][:kinds], size)
    order = rng.permutation(size)
    image = places[order] @ rotation(rng, hand).T + rng.normal(size=3) * 20 + 50
    molecule = cluster((symbols, places), (symbols[order], image))
    expansion, symmetry = found_in(molecule, tolerance=1e-6)
    assert symmetry.representative.tolist() == [0, 0]
    assert_right(molecule, expansion, symmetry)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(2, 5), power=st.floats(-4.5, -1.5), hand=st.sampled_from([1, -1]))
def test_what_is_not_the_same_is_never_taken_for_it(seed, size, power, hand):
    """A distorted molecule is the same if, and only if, the best of all superpositions is within the tolerance."""
    rng = np.random.default_rng(seed)
    places = lumps(rng, size)
    symbols = rng.choice(["H", "O"], size)
    order = rng.permutation(size)
    image = places[order] @ rotation(rng, hand).T + 30.0 + 10**power * rng.normal(size=(size, 3))
    molecule = cluster((symbols, places), (symbols[order], image))
    expected = least_deviation(symbols, places, symbols[order], image)
    assume(abs(expected / TOLERANCE - 1) > 0.01)
    expansion, symmetry = found_in(molecule)
    assert symmetry.runs.tolist() == [True, bool(expected > TOLERANCE)]
    assert_right(molecule, expansion, symmetry)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32), bsse=st.sampled_from(["nocp", "vmfc"]))
def test_whole_clusters_that_are_turned_have_nothing_new(seed, bsse):
    """Two clusters that are the same, far apart: each set within the second is the same as one within the first."""
    rng = np.random.default_rng(seed)
    water = np.array([[0.0, 0.0, 0.0], [1.43, 0.0, 1.11], [-1.43, 0.0, 1.11]])
    first = [water @ rotation(rng).T + 7 * place for place in np.array(HIDDEN[:3])]
    turn = rotation(rng, rng.choice([1, -1]))
    order = rng.permutation(3)
    second = [(first[i] @ turn.T + 100)[[0, 2, 1]] for i in order]
    molecule = cluster(*[("OHH", places) for places in first + second])
    expansion, symmetry = found_in(molecule, nbody=3, bsse=bsse, tolerance=1e-6)
    assert_right(molecule, expansion, symmetry)
    standing = {expansion.sets[int(bas)] for bas in expansion.bas[symmetry.runs]}
    assert not any(set(bas) <= {4, 5, 6} for bas in standing)
    assert {(1,), (1, 2), (1, 3), (2, 3), (1, 2, 3)} <= standing


def test_a_chain_of_small_differences_is_cut():
    """Each is within the tolerance of what stands for it, which is the first that is; so the same is not transitive."""
    bonds = [2.0 + 1.5 * TOLERANCE * step for step in range(4)]  # neighbours deviate by 0.75 of the tolerance
    molecule = cluster(*[("HH", [[0, 0, 20 * n], [bond, 0, 20 * n]]) for n, bond in enumerate(bonds)])
    _, symmetry = found_in(molecule)
    assert symmetry.representative.tolist() == [0, 0, 2, 2]
    assert symmetry.deviation == pytest.approx(0.75 * TOLERANCE, rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"charges": [0.0, 2.0]},
        {"multiplicities": [1, 3]},
        {"masses": [1.00782503223] * 3 + [2.01410177812]},
    ],
    ids=str,
)
def test_what_decides_the_numbers_must_be_the_same(options):
    """Charge, multiplicity and isotopes tell fragments apart."""
    places = np.array([[0.0, 0.0, 0.0], [1.5, 0.0, 0.0]])
    same = cluster(("HH", places), ("HH", places + 9))
    other = cluster(("HH", places), ("HH", places + 9), **options)
    assert found_in(same)[1].runs.tolist() == [True, False]
    assert found_in(other)[1].runs.tolist() == [True, True]


def test_elements_must_be_the_same():
    """Of two atoms as far apart, one may be another element."""
    places = np.array([[0.0, 0.0, 0.0], [1.5, 0.0, 0.0]])
    molecule = cluster(("HH", places), ("HF", places + 9), ("FH", places - 9))
    assert found_in(molecule)[1].representative.tolist() == [0, 1, 1]


def test_fragments_go_to_fragments():
    """The same atoms in the same places, parted into fragments in another way, are something else."""
    corners = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [2.0, 3.0, 0.0]])
    short = [corners[:2], corners[2:]]
    molecule = cluster(*[("HH", places) for places in short], *[("HH", (corners + 40)[[i, i + 2]]) for i in (0, 1)])
    expansion, symmetry = found_in(molecule, nbody=2)
    pairs = {expansion.sets[int(frag)]: run for frag, run in zip(expansion.frag, symmetry.runs, strict=True)}
    assert pairs[1, 2]
    assert pairs[3, 4]


def test_model_chemistries_are_kept_apart():
    """The same molecules with another model chemistry are another calculation."""
    sets = FragmentSets.full(2, 2)
    expansion = expand(sets, bsse_type=["nocp"], levels={1: "high", 2: "low"}, return_total_data=True)
    molecule = cluster((["He"], [[0, 0, 0]]), (["He"], [[0, 0, 5]]))
    symmetry = find_symmetry(molecule, expansion, TOLERANCE)
    assert [expansion.mcs[mc] for mc in expansion.mc] == ["high", "high", "low", "low", "low"]
    assert symmetry.representative.tolist() == [0, 0, 2, 2, 4]


def test_ghosts_have_places():
    """With cp, a monomer is the same only if its ghosts are as well, and a ghost is no real atom."""
    row = cluster(*[(["He"], [[0, 0, z]]) for z in (0.0, 5.0, 10.0)])
    expansion, symmetry = found_in(row, bsse="cp", nbody=2)
    frags = [expansion.sets[int(frag)] for frag in expansion.frag]
    ghosted = expansion.frag != expansion.bas
    alone = {frag: run for frag, run, ghost in zip(frags, symmetry.runs, ghosted, strict=True) if ghost}
    assert alone == {(1,): True, (2,): True, (3,): False, (1, 2): True, (1, 3): True, (2, 3): False}


def test_a_fixed_origin_allows_no_translation():
    """Turned about the origin they are the same, moved away from it they are not."""
    bond = np.array([[3.0, 0.0, 0.0], [4.5, 0.0, 0.0]])
    molecule = cluster(("HF", bond), ("HF", bond[:, [1, 0, 2]]), ("HF", bond + 1), ("HF", -bond))
    assert found_in(molecule)[1].representative.tolist() == [0, 0, 0, 0]
    assert found_in(molecule, fixed=True)[1].representative.tolist() == [0, 0, 2, 0]


def test_a_rotation_is_preferred_to_a_reflection():
    """Only mirror images that can't be turned into each other are reflected."""
    rng = np.random.default_rng(5)
    hand = np.array([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 2.5, 0.0], [0.0, 0.0, 3.0]])
    flat = hand[:3]
    molecule = cluster(
        *[("CHFN", places + 30 * i) for i, places in enumerate([hand, hand @ rotation(rng), -hand])],
        *[("CHF", places - 40 * i) for i, places in enumerate([flat, -flat @ rotation(rng)], start=1)],
    )
    _, symmetry = found_in(molecule, tolerance=1e-6)
    assert symmetry.representative.tolist() == [0, 0, 0, 3, 3]
    assert np.linalg.det(symmetry.rotations) == pytest.approx([1, -1, 1])


def test_many_sets_need_little_time():
    """4,525 sets of an argon lattice: few are unique, and finding them is no work of minutes."""
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    molecule = cluster(*[(["Ar"], [7.1 * place]) for place in grid])
    expansion, symmetry = found_in(molecule, nbody=3)
    assert len(expansion) == 27 + 351 + 2925
    # Squared distances of pairs in a 3 x 3 x 3 grid: 1 2 3 4 5 6 8 9 12.
    assert [int(symmetry.runs[expansion.nbody == n].sum()) for n in (1, 2)] == [1, 9]
    triples = expansion.sets.by_size[3] - 1
    sides = [((grid[triples[:, a]] - grid[triples[:, b]]) ** 2).sum(axis=1) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert int(symmetry.runs[expansion.nbody == 3].sum()) == len(np.unique(np.sort(sides, axis=0), axis=1).T)
