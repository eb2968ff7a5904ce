"""Where fragments' numbers go in the cluster's arrays."""

import numpy as np
import pytest

import mbexec
from mbexec.plugins.manybody.layout import Layout, stacked
from tests.systems import job

UNEVEN = """
He 0 0 0
--
Ne 5 0 0
Ne 9 0 0
--
Ar 0 8 0
--
He 0 0 9
He 0 4 9
"""


def plan_of(geometry, bsse_type="vmfc"):
    tables = job(geometry, bsse_type=bsse_type, max_nbody=3, driver="gradient")
    return mbexec.plan(tables)


@pytest.mark.parametrize("order", [1, -1], ids=["in order", "reversed"])
def test_coordinates_are_those_of_the_basis_fragments_in_order(order):
    """For every task, whatever the sizes of its fragments, each task once."""
    plan = plan_of(UNEVEN)
    fragments = [np.asarray(atoms) for atoms in plan.spec.molecule.fragments]
    tasks = np.arange(len(plan))[::order]
    found = {}
    for places, coordinates in Layout.of(plan).blocks(tasks):
        for place, mine in zip(places, coordinates, strict=True):
            assert int(tasks[place]) not in found
            found[int(tasks[place])] = mine.tolist()
    for task in plan:
        atoms = np.concatenate([fragments[i - 1] for i in task.bas])
        assert found.pop(task.index) == [3 * atom + i for atom in atoms for i in range(3)]
    assert not found


def test_numbers_grow_with_the_arrays():
    """Those of gradients and Hessians, beside what every result takes."""
    plan = plan_of(UNEVEN, "nocp")
    layout = Layout.of(plan)
    width = np.array([3 * sum((1, 2, 1, 2)[i - 1] for i in task.bas) for task in plan])
    alone = layout.numbers([])
    assert (layout.numbers(["gradient"]) - alone == width).all()
    assert (layout.numbers(["gradient", "hessian"]) - alone == width + width**2).all()


@pytest.mark.parametrize(
    "made", [np.asfortranarray, np.float32, lambda a: a.astype(int)], ids=["not contiguous", "single", "whole numbers"]
)
def test_stacked_takes_any_numbers(made):
    """Arrays that are not in C order, or not of floats, give what np.stack does."""
    arrays = [made(np.arange(6.0).reshape(2, 3) + i) for i in range(3)]
    found = stacked(arrays)
    assert found.dtype == np.float64
    assert (found == np.stack(arrays)).all()
