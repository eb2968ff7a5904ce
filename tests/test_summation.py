"""Sums: exact, and so independent of the order of their terms."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mbexec import ArraySum, exact_dot

energies = st.floats(-1e4, 1e4, allow_subnormal=False)
counts = st.integers(-(2**20), 2**20)


def exactly(coefficients, values):
    """The sum in rational arithmetic, rounded once."""
    return float(sum((c * Fraction(v) for c, v in zip(coefficients, values, strict=True)), Fraction(0)))


@given(st.lists(st.tuples(counts, energies), max_size=50))
def test_dot_is_the_rational_sum_rounded_once(terms):
    """Bit for bit what exact rational arithmetic gives."""
    c, x = [t[0] for t in terms], [t[1] for t in terms]
    assert exact_dot(np.array(c, dtype=np.int64), np.array(x, dtype=np.float64)) == exactly(c, x)


def test_dot_survives_cancellation():
    """Thousands of large terms that cancel leave the last bit right."""
    rng = np.random.default_rng(0)
    c = rng.integers(-9000, 9000, 40_000)
    x = -228.0 + rng.normal(size=40_000)
    c = np.concatenate([c, -c])
    x = np.concatenate([x, x])
    x[0] += 1e-12
    assert exact_dot(c, x) == exactly(c.tolist(), x.tolist())


def test_dot_does_not_look_where_the_coefficient_is_zero():
    """A missing energy that does not count does not spoil the sum."""
    assert exact_dot(np.array([1, 0]), np.array([2.5, np.nan])) == 2.5


@given(st.lists(st.tuples(counts, st.floats(-100, 100)), min_size=1, max_size=30), st.randoms())
@settings(max_examples=100)
def test_array_sum_is_exact_and_order_free(terms, random):
    """Any order gives the same bits, and they are those of rational arithmetic."""
    shuffled = random.sample(terms, len(terms))
    totals = []
    for order in (terms, shuffled):
        total = ArraySum((1, 1))
        for c, x in order:
            total.add(np.array([c]), np.array([x]))
        totals.append(total.total([0])[0])
    assert totals[0].tobytes() == totals[1].tobytes()
    assert totals[0] == pytest.approx(exactly([t[0] for t in terms], [t[1] for t in terms]), rel=2e-16, abs=1e-40)


def test_array_sum_keeps_small_beside_large():
    """2^-150 is not lost beside 1e9 when the large terms cancel."""
    total = ArraySum((1, 2))
    total.add(np.array([1]), np.array([1e9, 1.0]))
    total.add(np.array([1]), np.array([2.0**-150, 2.0**-60]))
    total.add(np.array([-1]), np.array([1e9, 1.0]))
    assert total.total([0]).tolist() == [2.0**-150, 2.0**-60]


def test_array_sum_keeps_small_negative_values():
    """-1e-30 is held as well as 1e-30."""
    total = ArraySum((1, 1))
    total.add(np.array([3]), np.array([-1e-30]))
    assert total.total([0])[0] == pytest.approx(-3e-30, rel=1e-15)


def test_array_sum_carries_before_it_overflows():
    """Millions' worth of coefficients pass the limbs' capacity several times and stay exact."""
    total = ArraySum((1, 1))
    x = np.array([0.7])
    for _ in range(40):
        total.add(np.array([2**27 + 1]), x)
    assert total.total([0])[0] == float(40 * (2**27 + 1) * Fraction(0.7))


def test_array_sum_scatters_and_adds_rows():
    """Values land where the index says, each row with its own multiple, and rows add up."""
    total = ArraySum((2, 4, 3))
    values = np.arange(6.0).reshape(2, 3)
    total.add(np.array([2, -1]), values, np.ix_([1, 3], [0, 1, 2]))
    expected = np.zeros((4, 3))
    expected[[1, 3]] = values
    assert (total.total([0]) == 2 * expected).all()
    assert (total.total([0, 1]) == expected).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, 2.0**31], ids=str)
def test_array_sum_refuses_what_it_cannot_hold(bad):
    """Values that are not finite, or too large for the grid, are named."""
    with pytest.raises(ValueError, match="finite and below"):
        ArraySum((1, 2)).add(np.array([1]), np.array([1.0, bad]))


def test_array_sum_refuses_huge_coefficients():
    """A coefficient that one limb cannot take is named."""
    with pytest.raises(ValueError, match="coefficients must be below"):
        ArraySum((1, 1)).add(np.array([2**29]), np.array([1.0]))


@given(st.lists(st.tuples(counts, counts, st.floats(-100, 100)), min_size=1, max_size=30), st.integers(1, 5))
@settings(max_examples=50)
def test_many_at_once_give_the_bits_of_one_by_one(terms, batch):
    """Two sums over six places, each term at two of them: batches of any size make no difference."""
    single, many = ArraySum((2, 3, 2)), ArraySum((2, 3, 2))
    given = []
    for number, (first, second, x) in enumerate(terms):
        places = np.array([[number % 6], [(number + 2) % 6]])
        given.append((np.array([first, second]), np.array([[x], [x / 3]]), places))
        row, column = divmod(places[0, 0], 2)
        single.add(given[-1][0], np.array([[x]]), np.ix_([row], [column]))
        row, column = divmod(places[1, 0], 2)
        single.add(given[-1][0], np.array([[x / 3]]), np.ix_([row], [column]))
    for start in range(0, len(given), batch):
        many.add_many(*map(list, zip(*given[start : start + batch], strict=True)))
    for rows in ([0], [1], [0, 1]):
        assert many.total(rows).tobytes() == single.total(rows).tobytes()


def test_many_at_once_carry_before_they_overflow():
    """Coefficients that are too much for one batch are added in several."""
    total = ArraySum((1, 1))
    many = 40
    total.add_many([np.array([2**27 + 1])] * many, [np.array([0.7])] * many, [np.array([0])] * many)
    assert total.total([0])[0] == float(many * (2**27 + 1) * Fraction(0.7))


@given(st.lists(st.tuples(st.integers(-(2**52), 2**52), st.floats(allow_nan=False, allow_infinity=False)), max_size=20))
def test_dot_takes_any_coefficients_and_energies(terms):
    """Coefficients up to 2^52 and values as far apart as floats go."""
    c, x = [t[0] for t in terms], [t[1] for t in terms]
    try:
        expected = exactly(c, x)
    except OverflowError:
        return
    assert exact_dot(np.array(c, dtype=np.int64), np.array(x, dtype=np.float64)) == expected


values = st.floats(-(2.0**29), 2.0**29) | st.floats(-1e-8, 1e-8) | st.floats(-1e-25, 1e-25)


@given(st.lists(st.tuples(st.integers(-3000, 3000), values, values), min_size=1, max_size=40), st.integers(1, 7))
@settings(max_examples=200)
def test_array_sums_are_rational_sums_rounded_once(terms, batch):
    """To half a unit in the last place, as far as values reach no bit below 2^-160, in batches of any size."""
    total = ArraySum((1, 2))
    for start in range(0, len(terms), batch):
        c, x, y = map(np.array, zip(*terms[start : start + batch], strict=True))
        total.add_many(c[:, None], np.column_stack([x, y]), np.tile([0, 1], (len(c), 1)))
    cut = [(c, *(Fraction(int(Fraction(v) * 2**160), 2**160) for v in both)) for c, *both in terms]
    for place in (1, 2):
        expected = float(sum((t[0] * t[place] for t in cut), Fraction(0)))
        assert total.total([0])[place - 1] == expected


def test_array_sum_of_nothing_is_nothing():
    """No arrays, or such without numbers."""
    total = ArraySum((1, 2))
    total.add_many(np.zeros((0, 1), dtype=int), np.zeros((0, 2)), np.zeros((0, 2), dtype=int))
    assert total.total([0]).tolist() == [0.0, 0.0]


def test_array_sum_holds_the_largest_that_it_takes():
    """A thousand times the largest value with a large coefficient, whose sum is beyond 64 bits of whole numbers."""
    total = ArraySum((1, 1))
    largest = float(np.nextafter(2.0**30, 0))
    for _ in range(1000):
        total.add(np.array([2**28]), np.array([largest]))
    assert total.total([0])[0] == float(1000 * 2**28 * Fraction(largest))


@given(st.lists(st.tuples(counts, counts, st.floats(-100, 100), st.floats(-1e-9, 1e-9)), min_size=1, max_size=30))
@settings(max_examples=50)
def test_arrays_at_the_same_places_give_the_bits_of_any_others(terms):
    """Broadcast places, which add up in another way, and the same ones written out."""
    c, values = np.array([t[:2] for t in terms]), np.array([t[2:] for t in terms])
    places = np.broadcast_to(np.array([3, 1]), values.shape)
    alike, each = ArraySum((2, 4)), ArraySum((2, 4))
    alike.add_many(c, values, places)
    each.add_many(c, values, places.copy())
    for row in ([0], [1], [0, 1]):
        assert alike.total(row).tobytes() == each.total(row).tobytes()
