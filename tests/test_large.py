"""Large molecules: what takes the place of what others do in quadratic time gives the same."""

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qcelemental.models.v2 import Molecule
from qcelemental.molutil import guess_connectivity

from mbexec import InputError
from mbexec.core.coordinates import parse_geometry
from mbexec.core.geometry import check_apart, fragments_of
from mbexec.core.jobfile import from_job
from mbexec.plugins.manybody import merging
from tests.systems import HELIUM_TETRAMER, IONS, RADICALS, WATER_TRIMER


@pytest.mark.parametrize(
    "geometry", [WATER_TRIMER, IONS, RADICALS, HELIUM_TETRAMER, "U 0 0 0\n--\n-2 1\n8 3e-7 -1e-9 3", "Ar 0 0 0"]
)
@pytest.mark.parametrize("name", [None, "mine"])
def test_the_molecule_of_a_job_is_as_qcelemental_makes_it(geometry, name):
    """Field by field, types included, and with the same hash, as if QCElemental had validated what the job says."""
    found = parse_geometry(geometry, 1.0)
    ends = np.cumsum([len(fragment.symbols) for fragment in found])
    multiplicities = [fragment.checked_multiplicity(i) for i, fragment in enumerate(found, start=1)]
    theirs = Molecule(
        symbols=[symbol for fragment in found for symbol in fragment.symbols],
        geometry=np.concatenate([fragment.places for fragment in found]),
        fragments=[np.arange(end - len(fragment.symbols), end) for fragment, end in zip(found, ends, strict=True)],
        fragment_charges=[fragment.charge for fragment in found],
        fragment_multiplicities=multiplicities,
        molecular_charge=sum(fragment.charge for fragment in found),
        molecular_multiplicity=sum(m - 1 for m in multiplicities) + 1,
        fix_com=True,
        fix_orientation=True,
        fix_symmetry="c1",
        **({"name": name} if name else {}),
    )
    table = {"units": "bohr", "geometry": geometry, **({"name": name} if name else {})}
    ours = from_job(table, {}, {"program": "model-potential", "method": "lj"}, Path()).molecule
    assert ours.get_hash() == theirs.get_hash()
    assert ours.model_fields_set - {"provenance"} == theirs.model_fields_set - {
        "provenance",
        "schema_name",
        "schema_version",
    }
    for field in theirs.__dict__.keys() - {"provenance"}:
        assert_identical(getattr(ours, field), getattr(theirs, field))


def assert_identical(one, other):
    """In type, shape and every bit."""
    assert type(one) is type(other)
    if isinstance(other, np.ndarray):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    elif isinstance(other, list):
        assert len(one) == len(other)
        for mine, theirs in zip(one, other, strict=True):
            assert_identical(mine, theirs)
    else:
        assert one == other


@pytest.mark.filterwarnings("ignore:No two atoms are close enough")  # which is right
@given(st.integers(0, 2**32 - 1), st.sampled_from(["HO", "HCNO", "HeAr", "LiCsI", "HU"]))
@settings(max_examples=80, deadline=None)
def test_atoms_that_are_joined_to_fragments(seed, elements):
    """The same groups as by QCElemental's bonds, one after another; refused alike where they are out of order."""
    rng = np.random.default_rng(seed)
    nat = int(rng.integers(1, 30))
    known = [element for element in ("H", "He", "Li", "C", "N", "O", "Ar", "I", "Cs", "U") if element in elements]
    symbols = rng.choice(known, nat).tolist()
    places = rng.uniform(0, 4 * nat ** (1 / 3), (nat, 3))
    group = list(range(nat))
    for a, b in guess_connectivity(symbols, places, threshold=1.2):
        group = [group[a] if each == group[b] else each for each in group]
    expected = [[atom for atom in range(nat) if group[atom] == first] for first in dict.fromkeys(group)]
    if [atom for part in expected for atom in part] == list(range(nat)):
        found = fragments_of(symbols, places, "auto", None, None)
        assert [len(fragment.symbols) for fragment in found] == [len(part) for part in expected]
    else:
        with pytest.raises(InputError, match="don't follow the order of the atoms"):
            fragments_of(symbols, places, "auto", None, None)


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.15), st.sampled_from([1, 2, 3]))
@settings(max_examples=80, deadline=None)
def test_atoms_on_top_of_each_other(seed, distance, flat):
    """Two atoms are refused exactly if they are nearer than 0.1 a0: in space, in a sheet, in a row."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(5 if axis < flat else 1) for axis in range(3)], indexing="ij"), axis=-1)
    places = 2.0 * grid.reshape(-1, 3)
    way = rng.normal(size=3)
    places = rng.permutation(np.vstack([places, places[0] + distance * way / np.linalg.norm(way)]))
    symbols = ["He"] * len(places)
    if abs(distance - 0.1) > 1e-9 and distance > 0.1:
        check_apart(symbols, places)
    elif abs(distance - 0.1) > 1e-9:
        with pytest.raises(InputError, match="a0 apart"):
            check_apart(symbols, places)


def test_the_repulsion_of_many_nuclei():
    """Pair by pair, with more atoms than are looked at together; ghosts repel nobody."""
    rng = np.random.default_rng(3)
    nat = 2 * merging._TILE + 37
    real = rng.random(nat) < 0.9
    molecule = Molecule(
        symbols=rng.choice(["H", "O", "Xe"], nat),
        geometry=rng.uniform(0, 90, (nat, 3)).round(8),
        real=real,
        validate=False,
        validated=True,
    )
    z = molecule.atomic_numbers.astype(float) * real
    expected = math.fsum(
        z[a] * z[b] / math.dist(molecule.geometry[a], molecule.geometry[b]) for a, b in combinations(range(nat), 2)
    )
    assert merging.nuclear_repulsion(molecule) == pytest.approx(expected, rel=1e-14)
