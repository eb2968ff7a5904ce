"""The built-in model potential against formulas written out, finite differences and its own many-body expansion."""

import itertools
import math
import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qcelemental import constants
from qcelemental.models.v2 import AtomicInput, AtomicResult, Molecule

from mbexec.core import potential
from mbexec.core.errors import InputError
from mbexec.core.potential import ModelPotential, energy_and_derivatives, model_parameters

BUILT_IN = model_parameters({})
MIXED = ("Ar", "O", "H", "H", "Xe", "Na", "C")
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=15, deadline=None)


def positions(natom, seed=1, spacing=6.5):
    """Atoms near the points of a cubic lattice, a0."""
    side = math.ceil(natom ** (1 / 3))
    lattice = list(itertools.product(range(side), repeat=3))[:natom]
    return spacing * np.array(lattice, dtype=float) + np.random.default_rng(seed).uniform(-1, 1, (natom, 3))


def energy(symbols, geometry, triples=True, parameters=BUILT_IN):
    """The energy alone, E_h."""
    return energy_and_derivatives(symbols, geometry, parameters, triples=triples, order=0)[0]


def gradient(symbols, geometry, triples=True):
    """The gradient alone, E_h/a0."""
    return energy_and_derivatives(symbols, geometry, BUILT_IN, triples=triples, order=1)[1]


def written_out(symbols, geometry, triples=True, parameters=BUILT_IN):
    """Energy by loops, in distances and angles, and the sum of all terms without their signs."""
    terms = []
    for i, j in itertools.combinations(range(len(symbols)), 2):
        depth = math.sqrt(parameters.epsilon[symbols[i]] * parameters.epsilon[symbols[j]])
        x = math.sqrt(parameters.rmin[symbols[i]] * parameters.rmin[symbols[j]])
        r = math.dist(geometry[i], geometry[j])
        terms += [depth * (x / r) ** 12, -2 * depth * (x / r) ** 6]
    for three in itertools.combinations(range(len(symbols)), 3) if triples else ():
        c9 = math.prod(parameters.c9[symbols[k]] for k in three) ** (1 / 3)
        i, j, k = (geometry[atom] for atom in three)
        sides = math.dist(i, j) * math.dist(j, k) * math.dist(k, i)
        angles = cosine(i, j, k) * cosine(j, k, i) * cosine(k, i, j)
        terms += [c9 / sides**3, 3 * c9 * angles / sides**3]
    return math.fsum(terms), math.fsum(abs(term) for term in terms)


def cosine(apex, one, other):
    """The cosine of the angle at `apex`."""
    one, other = one - apex, other - apex
    return sum(one * other) / math.sqrt(sum(one * one) * sum(other * other))


def many_body_term(symbols, geometry, fragments, triples):
    """The n-body term of n fragments by inclusion and exclusion, and the sum of all energies without signs."""
    total = size = 0.0
    for n in range(1, len(fragments) + 1):
        for chosen in itertools.combinations(fragments, n):
            atoms = [atom for fragment in chosen for atom in fragment]
            found = energy([symbols[atom] for atom in atoms], geometry[atoms], triples)
            total += (-1) ** (len(fragments) - n) * found
            size += abs(found)
    return total, size


def request(symbols=("Ar", "Ar", "Ar"), geometry=None, driver="energy", method="lj-atm", basis=None, **more):
    """An input; what is not named goes to its specification."""
    geometry = positions(len(symbols)) if geometry is None else geometry
    molecule = Molecule(
        symbols=list(symbols),
        geometry=geometry,
        real=more.pop("real", [True] * len(symbols)),
        fix_com=True,
        fix_orientation=True,
        validate=False,
    )
    model = {"method": method, "basis": basis}
    return AtomicInput(molecule=molecule, specification={"driver": driver, "model": model, **more})


def compute(*args, **more):
    """The result of `request`."""
    return ModelPotential().compute(request(*args, **more), None)


@few
@given(seeds, st.booleans())
def test_energy_is_the_formula_written_out(seed, triples):
    """Pairs in r^-12 and r^-6 and triples in cosines give the same energy."""
    geometry = positions(7, seed)
    expected, size = written_out(MIXED, geometry, triples)
    assert energy(MIXED, geometry, triples) == pytest.approx(expected, rel=0, abs=1e-13 * size)


def test_energy_of_a_molecule_is_the_formula_written_out():
    """At the distances of chemical bonds, where terms are huge, the formula holds too."""
    water = np.array([[0.0, 0.0, 0.22], [0.0, 1.43, -0.89], [0.0, -1.43, -0.89]])
    expected, size = written_out("OHH", water)
    assert energy("OHH", water) == pytest.approx(expected, rel=0, abs=1e-13 * size)


def test_dimer_at_its_minimum():
    """At rmin the energy of Ar2 is the well depth and the gradient vanishes."""
    apart = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, BUILT_IN.rmin["Ar"]]])
    assert energy(("Ar", "Ar"), apart) == pytest.approx(-BUILT_IN.epsilon["Ar"], rel=1e-14)
    assert abs(gradient(("Ar", "Ar"), apart)).max() < 1e-17


def test_triple_of_an_equilateral_triangle():
    """Three equal sides r give 11/8 C9/r^9."""
    r = 7.0
    corners = r * np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.5, math.sqrt(0.75), 0.0]])
    triple = energy(("Ar",) * 3, corners) - energy(("Ar",) * 3, corners, triples=False)
    assert triple == pytest.approx(11 / 8 * BUILT_IN.c9["Ar"] / r**9, rel=1e-11)


def test_triple_of_three_atoms_in_a_row():
    """Two equal sides r on a line give -2 C9/(r^2 2r)^3."""
    r = 7.0
    row = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, r], [0.0, 0.0, 2 * r]])
    triple = energy(("Ar",) * 3, row) - energy(("Ar",) * 3, row, triples=False)
    assert triple == pytest.approx(-2 * BUILT_IN.c9["Ar"] / (2 * r**3) ** 3, rel=1e-11)


@few
@given(seeds, st.booleans())
def test_gradient_is_the_slope_of_the_energy(seed, triples):
    """Central differences of the energy give the gradient."""
    geometry, step = positions(7, seed), 1e-4
    slopes = np.empty((7, 3))
    for place in np.ndindex(7, 3):
        shift = np.zeros((7, 3))
        shift[place] = step
        rise = energy(MIXED, geometry + shift, triples) - energy(MIXED, geometry - shift, triples)
        slopes[place] = rise / (2 * step)
    found = gradient(MIXED, geometry, triples)
    np.testing.assert_allclose(found, slopes, rtol=0, atol=1e-6 * abs(found).max())


@few
@given(seeds, st.booleans())
def test_hessian_is_the_slope_of_the_gradient(seed, triples):
    """Central differences of the gradient give the Hessian."""
    geometry, step = positions(7, seed), 1e-4
    slopes = np.empty((21, 21))
    for row, place in enumerate(np.ndindex(7, 3)):
        shift = np.zeros((7, 3))
        shift[place] = step
        rise = gradient(MIXED, geometry + shift, triples) - gradient(MIXED, geometry - shift, triples)
        slopes[row] = rise.ravel() / (2 * step)
    hessian = energy_and_derivatives(MIXED, geometry, BUILT_IN, triples=triples, order=2)[2]
    np.testing.assert_allclose(hessian, slopes, rtol=0, atol=1e-6 * abs(hessian).max())


def test_hessian_is_symmetric_to_the_bit():
    """The Hessian equals its transpose exactly."""
    hessian = energy_and_derivatives(MIXED, positions(7), BUILT_IN, triples=True, order=2)[2]
    np.testing.assert_array_equal(hessian, hessian.T)


def test_forces_add_up_to_nothing():
    """Neither the molecule as a whole is pushed nor is it turned."""
    geometry = positions(7)
    forces = gradient(MIXED, geometry)
    assert abs(forces.sum(axis=0)).max() < 1e-15 * 7 * abs(forces).max()
    assert abs(np.cross(geometry, forces).sum(axis=0)).max() < 1e-13 * abs(forces).max()


@pytest.mark.parametrize("order", [0, 1])
def test_lower_orders_are_the_same_to_the_bit(order):
    """What is asked for besides changes neither the energy nor the gradient."""
    lower = energy_and_derivatives(MIXED, positions(7), BUILT_IN, triples=True, order=order)
    full = energy_and_derivatives(MIXED, positions(7), BUILT_IN, triples=True, order=2)
    np.testing.assert_array_equal(lower[order], full[order])
    assert lower[order + 1 :] == (None,) * (2 - order)


@few
@given(seeds)
def test_moved_and_turned_the_energy_is_the_same(seed):
    """A shift and a rotation leave the energy alone and turn the gradient."""
    random, geometry = np.random.default_rng(seed), positions(7, seed)
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    moved = geometry @ turn.T + random.uniform(-20, 20, 3)
    size, forces = written_out(MIXED, geometry)[1], gradient(MIXED, geometry) @ turn.T
    assert energy(MIXED, moved) == pytest.approx(energy(MIXED, geometry), rel=0, abs=1e-12 * size)
    np.testing.assert_allclose(gradient(MIXED, moved), forces, rtol=0, atol=1e-12 * abs(forces).max())


@few
@given(st.permutations(range(7)))
def test_the_order_of_atoms_does_not_matter(order):
    """Atoms in another order have the same energy and the same forces."""
    geometry = positions(7)
    symbols, size = [MIXED[atom] for atom in order], written_out(MIXED, geometry)[1]
    forces = gradient(MIXED, geometry)[order]
    assert energy(symbols, geometry[order]) == pytest.approx(energy(MIXED, geometry), rel=0, abs=1e-14 * size)
    np.testing.assert_allclose(gradient(symbols, geometry[order]), forces, rtol=0, atol=1e-13 * abs(forces).max())


@pytest.mark.parametrize("order", [0, 1, 2])
def test_chunks_of_triples_give_what_all_at_once_give(monkeypatch, order):
    """Energy, gradient and Hessian do not depend on how many triples are done at a time."""
    symbols, geometry = ("Ar", "O", "H") * 5, positions(15)
    at_once = energy_and_derivatives(symbols, geometry, BUILT_IN, triples=True, order=order)[order]
    monkeypatch.setattr(potential, "CHUNK", 10)
    chunked = energy_and_derivatives(symbols, geometry, BUILT_IN, triples=True, order=order)[order]
    np.testing.assert_allclose(chunked, at_once, rtol=0, atol=1e-13 * np.abs(at_once).max())


@pytest.mark.parametrize("natom", [3, 4, 15, 40])
@pytest.mark.parametrize("size", [1, 10, 100, 10**6])
def test_chunks_hold_each_triple_once(natom, size):
    """All chunks together are the triples i<j<k, each with its own three pairs."""
    number = {pair: p for p, pair in enumerate(itertools.combinations(range(natom), 2))}
    expected = [(number[i, j], number[j, k], number[i, k]) for i, j, k in itertools.combinations(range(natom), 3)]
    chunks = [potential._triples(natom, *pairs) for pairs in potential._chunks(natom, size)]
    assert [tuple(triple) for chunk in chunks for triple in chunk.T.tolist()] == expected
    assert max(chunk.shape[1] for chunk in chunks) <= size + natom


def test_memory_of_many_triples_is_bounded():
    """2.7 million triples are done in a fraction of the memory that they all would take at once."""
    symbols, geometry = ("Ar",) * 254, positions(254)
    tracemalloc.start()
    try:
        energy(symbols, geometry)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64e6  # bytes; three indices of each triple are 65e6 alone


def test_repeats_and_threads_give_the_same_bits():
    """Energy, gradient and Hessian are the same to the bit each time and in each thread."""
    symbols, geometry = ("Ar", "O", "H") * 14, positions(42)

    def bits(_):
        found = energy_and_derivatives(symbols, geometry, BUILT_IN, triples=True, order=2)
        return b"".join(np.asarray(value).tobytes() for value in found)

    expected = bits(0)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(bits, range(16))) == {expected}


FRAGMENTS = ((0, 1), (2, 3), (4,), (5, 6))


def test_four_body_term_vanishes():
    """No term of the potential has four fragments."""
    term, size = many_body_term(MIXED, positions(7), FRAGMENTS, triples=True)
    assert abs(term) < 2e-15 * size


def test_three_body_term_of_pairs_vanishes():
    """Without triples no term has three fragments."""
    term, size = many_body_term(MIXED, positions(7), FRAGMENTS[1:], triples=False)
    assert abs(term) < 2e-15 * size


def test_three_body_term_is_the_triples_across_fragments():
    """With triples, the 3-body term is the sum of those with an atom of each fragment."""
    geometry = positions(7)
    expected = 0.0
    for atoms in itertools.product(*FRAGMENTS[1:]):
        symbols = [MIXED[atom] for atom in atoms]
        three = geometry[list(atoms)]
        expected += written_out(symbols, three)[0] - written_out(symbols, three, triples=False)[0]
    term, size = many_body_term(MIXED, geometry, FRAGMENTS[1:], triples=True)
    assert term == pytest.approx(expected, rel=0, abs=2e-15 * size)
    assert abs(term) > 1e-9 * size


def test_built_in_parameters_of_argon():
    """Table values arrive in atomic units, and C9 is 3/4 alpha times 2 D x^6."""
    depth, x = 0.185 / constants.hartree2kcalmol, 3.868 / constants.bohr2angstroms
    assert (BUILT_IN.epsilon["Ar"], BUILT_IN.rmin["Ar"]) == pytest.approx((depth, x), rel=1e-15)
    assert BUILT_IN.c9["Ar"] == pytest.approx(0.75 * 11.083 * 2 * depth * x**6, rel=1e-14)


def test_keywords_override_parameters():
    """Each keyword replaces its parameter of its element and no other."""
    given_ = {"epsilon": {"Ar": 0.000379}, "rmin": {"Ar": 7.1}, "c9": {"Ar": 518.0}}
    own = model_parameters(given_)
    assert (own.epsilon["Ar"], own.rmin["Ar"], own.c9["Ar"]) == (0.000379, 7.1, 518.0)
    assert own.epsilon["Kr"] == BUILT_IN.epsilon["Kr"]
    expected = written_out(("Ar", "Ar", "Kr"), positions(3), parameters=own)[0]
    found = compute(("Ar", "Ar", "Kr"), keywords=given_).return_result
    assert found == pytest.approx(expected, rel=1e-12)


def test_keywords_give_elements_that_have_no_parameters():
    """An element outside the table runs with its parameters by keyword, without c9 where there are no triples."""
    own = {"epsilon": {"Fe": 1e-4}, "rmin": {"Fe": 6.0}}
    apart = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 6.0]])
    assert compute(("Fe", "Fe"), apart, method="lj", keywords=own).return_result == pytest.approx(-1e-4, rel=1e-14)
    with pytest.raises(InputError, match="c9"):
        compute(("Fe", "Fe"), apart, keywords=own)


def test_keywords_changed_in_place_are_seen():
    """Caches go by what keywords hold, not by which dictionary it is."""
    keywords = {"epsilon": {"Ar": 1e-4}}
    first = model_parameters(keywords)
    keywords["epsilon"]["Ar"] = 2e-4
    assert (first.epsilon["Ar"], model_parameters(keywords).epsilon["Ar"]) == (1e-4, 2e-4)


def test_parameters_cannot_be_written():
    """What the cache hands out is read-only."""
    with pytest.raises(TypeError):
        model_parameters({}).epsilon["Ar"] = 1.0


@pytest.mark.parametrize("driver", ["energy", "gradient", "hessian"])
def test_ghosts_change_nothing(driver):
    """Ghosts leave the numbers of real atoms as they are, to the bit, and have zeros themselves."""
    geometry, real = positions(5), np.array([True, False, True, True, False])
    found = compute(("Ar", "Fe", "O", "H", "He"), geometry, driver, real=real).return_result
    alone = compute(("Ar", "O", "H"), geometry[real], driver).return_result
    if driver == "energy":
        assert found == alone
        return
    rows = real if driver == "gradient" else np.repeat(real, 3)
    expected = np.zeros_like(found)
    expected[rows if driver == "gradient" else np.ix_(rows, rows)] = alone
    np.testing.assert_array_equal(found, expected)
    assert not np.signbit(found[~rows]).any()


def test_ghost_on_an_atom_is_allowed():
    """A ghost may be where an atom is."""
    same = np.zeros((2, 3))
    assert compute(("Ar", "Ar"), same, real=[True, False]).return_result == 0.0


@pytest.mark.parametrize("real", [[True], [False]])
def test_one_atom_or_none_has_no_energy(real):
    """With fewer than two real atoms everything is zero and in full shape."""
    result = compute(("Ar",), np.zeros((1, 3)), "hessian", real=real)
    assert result.properties.return_energy == 0.0
    np.testing.assert_array_equal(result.properties.return_gradient, np.zeros((1, 3)))
    np.testing.assert_array_equal(result.return_result, np.zeros((3, 3)))


@pytest.mark.parametrize(
    ("driver", "there"),
    [("energy", {"energy"}), ("gradient", {"energy", "gradient"}), ("hessian", {"energy", "gradient", "hessian"})],
)
def test_properties_follow_the_driver(driver, there):
    """A result holds what the driver asks for and everything of lower order."""
    result = compute(driver=driver)
    found = result.properties.model_dump()
    assert {name.removeprefix("return_") for name in found if name.startswith("return_")} == there
    assert found["calcinfo_natom"] == 3
    np.testing.assert_array_equal(result.return_result, found[f"return_{driver}"])


def test_result_is_whole():
    """A result carries its input, molecule and provenance, and survives a round trip through JSON."""
    asked = request(driver="hessian")
    result = ModelPotential().compute(asked, None)
    assert (result.success, result.input_data, result.molecule) == (True, asked, asked.molecule)
    assert (result.provenance.creator, result.provenance.routine) == ("mbexec", "mbexec.core.potential")
    assert result.provenance.version == ModelPotential().get_version()
    again = AtomicResult.model_validate_json(result.model_dump_json())
    np.testing.assert_array_equal(again.return_result, result.return_result)


@pytest.mark.parametrize("method", ["LJ-ATM", "Lj-Atm"])
def test_method_in_any_case_of_letters(method):
    """Capital letters in the method make no difference."""
    assert compute(method=method).return_result == compute().return_result


def test_method_lj_has_no_triples():
    """Method lj is the pairs alone."""
    assert compute(method="lj").return_result == energy(("Ar",) * 3, positions(3), triples=False)


def test_empty_basis_is_no_basis():
    """An empty string as basis is taken as none."""
    assert compute(basis="").return_result == compute().return_result


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"method": "mp2"}, ["no method 'mp2'", "Give lj or lj-atm"]),
        ({"basis": "sto-3g"}, ["no basis set", "'sto-3g'", "Leave it out"]),
        ({"driver": "properties"}, ["no driver 'properties'", "Give energy or gradient or hessian"]),
        ({"keywords": {"sigma": {"Ar": 1.0}}}, ["no keyword 'sigma'", "epsilon (E_h), rmin (a0), c9 (E_h a0^9)"]),
        ({"keywords": {"epsilon": 0.1}}, ["Keyword epsilon", "0.1", "epsilon = {Ar = 1.0}"]),
        ({"keywords": {"rmin": {"argon": 7.1}}}, ["Keyword rmin", "'argon'", "element symbols", "a0"]),
        ({"keywords": {"c9": {"Ar": -1.0}}}, ["Keyword c9", "-1.0", "not negative", "E_h a0^9"]),
        ({"keywords": {"c9": {"Ar": float("nan")}}}, ["Keyword c9", "nan", "finite"]),
        ({"keywords": {"c9": {"Ar": "518"}}}, ["Keyword c9", "'518'", "numbers"]),
        ({"keywords": {"c9": {"Ar": True}}}, ["Keyword c9", "True", "numbers"]),
        ({"symbols": ("Ar", "Fe")}, ["element 'Fe'", "H, He, Li", "Kr, I, Xe", "epsilon = {Fe = ...}", "c9 = {Fe"]),
        ({"geometry": np.zeros((3, 3))}, ["Ar at [0.0, 0.0, 0.0]", "0.0e+00 a0 apart", "0.001 a0"]),
        ({"geometry": np.full((3, 3), np.nan)}, ["nan a0 apart", "correct the geometry"]),
    ],
)
def test_what_is_refused(wrong, words):
    """What cannot be run is refused in words that say what was given and what is allowed."""
    asked = request(**wrong)
    with pytest.raises(InputError) as refusal:
        ModelPotential().compute(asked, None)
    assert [word for word in words if word not in str(refusal.value)] == []
    assert refusal.value.error_type == "input_error"


def test_one_is_not_true_in_the_cache():
    """True is refused as a number even after 1.0, which is equal to it, was accepted."""
    model_parameters({"c9": {"Ar": 1.0}})
    with pytest.raises(InputError):
        model_parameters({"c9": {"Ar": True}})


def test_harness_pickles_and_holds_nothing():
    """The program travels to workers as its class alone, and is the same after having run."""
    harness = ModelPotential()
    harness.compute(request(), None)
    again = pickle.loads(pickle.dumps(harness))
    assert (type(again), vars(again)) == (ModelPotential, {})


def test_harness_is_always_found():
    """The program needs nothing installed and may run in threads."""
    assert ModelPotential.found(raise_error=True)
    assert (ModelPotential.name, ModelPotential.thread_safe) == ("model-potential", True)
