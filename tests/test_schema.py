"""What goes in: job files and QCSchema in every form, one ManyBodyInput out; and what is refused, in one sentence."""

import copy
import json
import re
import sys

import numpy as np
import pytest
import qcelemental as qcel
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from qcelemental.models.v2 import AtomicInput, Molecule
from qcmanybody.models.v2 import ManyBodyInput

import mbexec
from mbexec import ConfigError, InputError, MbexecError
from mbexec.core.coordinates import parse_geometry, read_xyz
from mbexec.core.engine import read_job
from mbexec.core.geometry import check_apart
from tests.systems import WATER_TRIMER, argon, job

BOHR = qcel.constants.bohr2angstroms
TOML = '''
[molecule]
units = "bohr"
name = "three"
geometry = """
0 1
Ar 0 0 0
--
Ar 0 0 7
--
1 2
Ar 0 7 0
"""
[mbe]
bsse_type = ["cp", "vmfc"]
driver = "gradient"
levels = {1 = "high", 2 = "low"}
return_total_data = false
cluster_results = "all"
[program.high]
program = "model-potential"
method = "lj-atm"
keywords = {c9 = {Ar = 1.0}}
[program.low]
program = "pyscf"
method = "hf"
basis = "6-31g"
'''


def spec_of(spec, **settings):
    return read_job(spec, settings)[0]


def plain(spec):
    """A many-body input as JSON."""
    return json.loads(spec.serialize("json"))


@pytest.fixture
def jobfile(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(TOML)
    return path


@pytest.fixture
def expected(jobfile):
    """What every form of the input must come to."""
    return spec_of(jobfile)


def refused(spec, kind=InputError, **settings):
    """The sentence with which planning refuses an input; one line."""
    with pytest.raises(kind) as error:
        mbexec.plan(spec, **settings)
    assert type(error.value) is kind
    assert "\n" not in str(error.value)
    return str(error.value)


# Forms of input


def test_a_job_file_says_what_its_keys_say(expected):
    """Each key of the job file is where QCSchema has it."""
    specification = expected.specification
    assert expected.molecule.name == "three"
    assert expected.molecule.geometry.tolist() == [[0, 0, 0], [0, 0, 7], [0, 7, 0]]
    assert expected.molecule.fragment_charges == [0, 0, 1]
    assert expected.molecule.fragment_multiplicities == [1, 1, 2]
    assert expected.molecule.molecular_charge == 1
    assert expected.molecule.molecular_multiplicity == 2
    assert specification.driver == "gradient"
    assert specification.keywords.bsse_type == ["cp", "vmfc"]
    assert specification.keywords.levels == {1: "high", 2: "low"}
    assert specification.keywords.return_total_data is False
    assert specification.protocols.cluster_results == "all"
    high, low = specification.specification["high"], specification.specification["low"]
    assert (high.program, high.model.method, high.model.basis) == ("model-potential", "lj-atm", None)
    assert high.keywords == {"c9": {"Ar": 1.0}}
    assert (low.program, low.model.method, low.model.basis, low.keywords) == ("pyscf", "hf", "6-31g", {})


v1 = pytest.mark.skipif(sys.version_info >= (3, 14), reason="QCSchema v1 models don't work there")
FORMS = [
    pytest.param(lambda spec: spec, id="v2 model"),
    pytest.param(lambda spec: spec.model_dump(), id="v2 dict"),
    pytest.param(plain, id="v2 JSON dict"),
    pytest.param(lambda spec: spec.convert_v(1), id="v1 model", marks=v1),
    pytest.param(lambda spec: spec.convert_v(1).dict(), id="v1 dict", marks=v1),
    pytest.param(lambda spec: json.loads(spec.convert_v(1).serialize("json")), id="v1 JSON dict", marks=v1),
]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_qcschema_is_the_same_input(expected, form):
    """Model or dict, version 2 or 1."""
    found = spec_of(form(expected))
    assert isinstance(found, ManyBodyInput)
    assert plain(found) == plain(expected)


@pytest.mark.parametrize("suffix", ["json", "yaml", "yml"])
def test_a_qcschema_file_is_the_same_input(expected, tmp_path, suffix):
    """JSON, or YAML."""
    path = tmp_path / f"input.{suffix}"
    path.write_text(json.dumps(plain(expected)) if suffix == "json" else yaml.safe_dump(plain(expected)))
    assert plain(spec_of(path)) == plain(spec_of(str(path))) == plain(expected)


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_job_tables_in_other_files_are_the_same_input(expected, tmp_path, suffix):
    """A job's tables may be written as JSON or YAML too."""
    import tomllib

    tables = tomllib.loads(TOML)
    path = tmp_path / f"job.{suffix}"
    path.write_text(json.dumps(tables) if suffix == "json" else yaml.safe_dump(tables))
    assert plain(spec_of(path)) == plain(spec_of(tables)) == plain(expected)


def test_an_input_is_left_as_it_was(tables):
    """Reading changes nothing in the caller's dict, settings included."""
    before = copy.deepcopy(tables)
    mbexec.plan(tables, **{"mbe.max_nbody": 1, "program.keywords.epsilon": {"Ar": 1.0}})
    assert tables == before


def test_numbers_of_levels_may_be_numbers(expected):
    """A dict from Python has 1 where TOML has "1"."""
    tables = job(argon(3), levels={1: "a", "supersystem": "b"}, program={"a": LJ, "b": LJ})
    assert spec_of(tables).specification.keywords.levels == {1: "a", "supersystem": "b"}


@pytest.mark.parametrize("given", ["cp", ["cp"], ("cp",), ["CP"], ["ssfc"]], ids=str)
def test_treatments_as_qcschema_names_them(given):
    """One or several, in any case, QCManyBody's other names included."""
    assert spec_of(job(argon(3), bsse=given)).specification.keywords.bsse_type == ["cp"]


def test_qcschema_without_multiplicities_is_neutral_and_low_spin(expected):
    """Nothing is guessed by trial, which would take minutes for 24 fragments."""
    qcschema = plain(spec_of(job("\n--\n".join(f"H {i}.0 0 0\nH {i}.0 0 0.74" for i in range(24)), max_nbody=1)))
    for key in ("fragment_charges", "fragment_multiplicities", "validated"):
        del qcschema["molecule"][key]
    molecule = spec_of(qcschema).molecule
    assert molecule.fragment_charges == [0.0] * 24
    assert molecule.fragment_multiplicities == [1] * 24


def test_keywords_are_set_one_by_one(tables):
    """A keyword given by argument joins those of the job."""
    tables["program"]["keywords"] = {"epsilon": {"Ar": 1.0}, "c9": {"Ar": 2.0}}
    spec = spec_of(tables, **{"program.keywords.c9.Ar": 3.0})
    assert spec.specification.specification["(auto)"].keywords == {"epsilon": {"Ar": 1.0}, "c9": {"Ar": 3.0}}


def test_a_charged_molecule_is_left_to_qcelemental():
    """It says which fragment has the charge."""
    qcschema = plain(spec_of(job("He 0 0 0\n--\nNa 0 0 5", max_nbody=1)))
    for key in ("fragment_charges", "fragment_multiplicities", "molecular_multiplicity", "validated"):
        qcschema["molecule"].pop(key, None)
    qcschema["molecule"] |= {"molecular_charge": 1.0, "fragment_charges": [0.0, 1.0]}
    assert spec_of(qcschema).molecule.fragment_multiplicities == [1, 1]


def test_radicals_without_multiplicities():
    """An odd number of electrons makes a doublet."""
    qcschema = plain(spec_of(job("O 0 0 0\nH 0 0 1\n--\nHe 3 0 0", max_nbody=1)))
    for key in ("fragment_charges", "fragment_multiplicities", "molecular_multiplicity", "validated"):
        qcschema["molecule"].pop(key, None)
    molecule = spec_of(qcschema).molecule
    assert molecule.fragment_multiplicities == [2, 1]
    assert molecule.molecular_multiplicity == 2


# Geometries


def test_angstrom_is_the_unit():
    """Unless bohr is said."""
    angstrom, bohr = job("He 0 0 0\n--\nHe 0 0 5"), job("He 0 0 0\n--\nHe 0 0 5")
    bohr["molecule"]["units"] = "bohr"
    assert spec_of(bohr).molecule.geometry[1, 2] == 5
    assert spec_of(angstrom).molecule.geometry[1, 2] == pytest.approx(5 / BOHR, abs=1e-8)


def test_geometry_as_people_write_it():
    """Comments, empty lines, commas, spaces, any case, and atomic numbers."""
    text = """
    # a cluster
    -1 2     # charge and multiplicity
    o 0.0, 0.0, 0.1

    --
    2 1e0 -.5 +3   # helium
    -- the third
    AR 0 0 9
    """
    first, second, third = parse_geometry(text, 1.0)
    assert (first.symbols, first.charge, first.multiplicity) == (("O",), -1.0, 2)
    assert (second.symbols, second.charge, second.multiplicity) == (("He",), 0.0, None)
    assert second.places.tolist() == [[1.0, -0.5, 3.0]]
    assert third.symbols == ("Ar",)


def test_atoms_stay_where_they_are():
    """The cluster is neither moved nor turned."""
    spec = spec_of(job("He 1 2 3\n--\nHe 1 2 8"))
    assert np.allclose(spec.molecule.geometry * BOHR, [[1, 2, 3], [1, 2, 8]], atol=1e-7)
    assert spec.molecule.fix_com
    assert spec.molecule.fix_orientation


XYZ = "4\nwater and helium\nO 0 0 0.117\nH 0 0.757 -0.47\nH 0 -0.757 -0.47\nHe 3 0 0\n"


def from_xyz(tmp_path, text=XYZ, **molecule):
    """A job on an .xyz file."""
    (tmp_path / "cluster.xyz").write_text(text)
    return {**job(""), "molecule": {"file": "cluster.xyz", **molecule}}


def fragments(spec):
    return [atoms.tolist() for atoms in spec.molecule.fragments]


@pytest.mark.parametrize("how", [{}, {"fragments": "auto"}, {"fragments": [[0, 1, 2], [3]]}], ids=str)
def test_fragments_of_an_xyz_file(tmp_path, how):
    """Connected groups of atoms, or those given."""
    spec = spec_of(from_xyz(tmp_path, **how))
    assert fragments(spec) == [[0, 1, 2], [3]]
    assert spec.molecule.symbols.tolist() == ["O", "H", "H", "He"]
    assert spec.molecule.geometry[3, 0] == pytest.approx(3 / BOHR, abs=1e-8)


def test_the_water_trimer_falls_into_waters(tmp_path):
    """As the parted geometry has them, to the last bit."""
    atoms = [line for line in WATER_TRIMER.splitlines() if line.strip() not in ("", "--")]
    spec = spec_of(from_xyz(tmp_path, "\n".join([str(len(atoms)), "", *atoms])))
    assert plain(spec)["molecule"] == plain(spec_of(job(WATER_TRIMER)))["molecule"]


def test_charges_and_multiplicities_of_an_xyz_file(tmp_path):
    """One each a fragment."""
    spec = spec_of(from_xyz(tmp_path, charges=[-1, 1], multiplicities=[2, 2]))
    assert spec.molecule.fragment_charges == [-1, 1]
    assert spec.molecule.fragment_multiplicities == [2, 2]


def test_an_xyz_file_is_looked_for_beside_the_job_file(tmp_path, monkeypatch):
    """Wherever the run is started."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "cluster.xyz").write_text(XYZ)
    path = tmp_path / "below" / "job.toml"
    path.write_text('[molecule]\nfile = "cluster.xyz"\n[program]\nprogram = "model-potential"\nmethod = "lj"\n')
    assert fragments(spec_of("below/job.toml")) == [[0, 1, 2], [3]]


def test_further_columns_of_an_xyz_file_are_not_looked_at(tmp_path):
    """Velocities, charges, names."""
    path = tmp_path / "cluster.xyz"
    path.write_text("1\n\nHe 0 0 1 0.5 0.5 0.5 first\n\n\n")
    symbols, places = read_xyz(path, 1.0)
    assert symbols == ("He",)
    assert places.tolist() == [[0, 0, 1]]


@pytest.mark.parametrize(
    "columns", ["species:S:1:momenta:R:3:pos:R:3", "pos:R:3:species:S:1", "id:I:1:species:S:1:pos:R:3"]
)
def test_positions_in_other_columns_of_an_xyz_file(tmp_path, columns):
    """Refused: what stands in their place would be taken for them."""
    text = XYZ.replace("water and helium", f"Properties={columns}")
    assert refused(from_xyz(tmp_path, text)) == (
        f"{tmp_path / 'cluster.xyz'}, line 2: Properties = {columns} puts other columns before the positions; "
        "the first four are read, so let it begin with species:S:1:pos:R:3."
    )


LATTICE = 'Lattice="9 0 0 0 9 0 0 0 9" Properties=species:S:1:pos:R:3'


@pytest.mark.parametrize("periodic", ["", ' pbc="T T F"', ' pbc="T T T"', ' pbc="F F T"'])
def test_a_lattice_in_an_xyz_file_is_not_used(tmp_path, periodic):
    """A warning tells so."""
    with pytest.warns(UserWarning, match=r"cluster\.xyz, line 2: the lattice is not used\. The atoms are taken as a"):
        spec = spec_of(from_xyz(tmp_path, XYZ.replace("water and helium", LATTICE + periodic)))
    assert fragments(spec) == [[0, 1, 2], [3]]


@pytest.mark.parametrize("comment", [LATTICE + ' pbc="F F F"', LATTICE + " pbc={False False False}", "the lattice = 5"])
def test_a_lattice_that_nothing_repeats(tmp_path, comment):
    """No word of it: there are no images to lack."""
    assert fragments(spec_of(from_xyz(tmp_path, XYZ.replace("water and helium", comment)))) == [[0, 1, 2], [3]]


def test_an_xyz_file_in_other_units(tmp_path):
    """If every atom is a fragment of its own, hydrogens too, a warning tells what to look at; noble gases are."""
    with pytest.warns(UserWarning, match=r"No two atoms .* Correct molecule\.units, or give molecule\.fragments"):
        spec = spec_of(from_xyz(tmp_path, "3\n\nO 0 0 0.222\nH 0 1.431 -0.887\nH 0 -1.431 -0.887\n"))
    assert fragments(spec) == [[0], [1], [2]]
    assert fragments(spec_of(from_xyz(tmp_path, "2\n\nAr 0 0 0\nAr 0 0 3.8\n"))) == [[0], [1]]
    assert fragments(spec_of(from_xyz(tmp_path, "2\n\nH 0 0 0\nHe 0 0 3.8\n", fragments=[[0], [1]]))) == [[0], [1]]


def test_xyz_and_parted_geometry_are_the_same_input(tmp_path):
    """To the last bit."""
    parted = "O 0 0 0.117\nH 0 0.757 -0.47\nH 0 -0.757 -0.47\n--\nHe 3 0 0"
    assert plain(spec_of(from_xyz(tmp_path))) == plain(spec_of(job(parted)))


# Round trips


@pytest.mark.parametrize("form", FORMS)
def test_a_run_of_any_form_gives_the_same_bits(tables, form):
    """The input does not lose digits on its way."""
    expected = mbexec.run(tables)
    found = mbexec.run(form(spec_of(tables)), executor="serial")
    assert found.energies.tobytes() == expected.energies.tobytes()
    assert found.result.return_result == expected.result.return_result


def test_the_input_of_a_result_runs_again(tables):
    """A result holds what it came from."""
    first = mbexec.run(tables)
    again = mbexec.run(first.result.input_data, executor="serial")
    assert again.result.return_result == first.result.return_result


# What is refused: geometries

HE = "\n--\nHe 0 0 9"
ATOM = "is not an element and three coordinates; write an atom as O 0.0 0.0 0.1."
HEAD = (
    "is neither an atom nor a charge and a multiplicity; "
    "write O 0.0 0.0 0.1 for an atom, 0 1 for a charge and a multiplicity (whole numbers)."
)
BEHIND = "parts fragments; put what follows on the next line."
SYMBOL = "is not an element; give its symbol or its atomic number."
ONE = (
    "The molecule has one fragment; a many-body expansion needs two or more. "
    "Part them by lines of -- in molecule.geometry, or give molecule.fragments."
)


@pytest.mark.parametrize(
    ("geometry", "sentence"),
    [
        pytest.param("", "molecule.geometry: fragment 1 has no atoms.", id="empty"),
        pytest.param("Ar 0 0 0\n--", "molecule.geometry: fragment 2 has no atoms.", id="empty fragment"),
        pytest.param(f"0 1{HE}", "molecule.geometry: fragment 1 has no atoms.", id="charge without atoms"),
        pytest.param(f"Ar 1_0 0 0{HE}", f"molecule.geometry, line 1: 'Ar 1_0 0 0' {ATOM}", id="a number of Python's"),
        pytest.param(
            f"Ar \u0661 0 0{HE}", f"molecule.geometry, line 1: 'Ar \u0661 0 0' {ATOM}", id="digits of another script"
        ),
        pytest.param(
            f"0 \u0661\nAr 0 0 0{HE}", f"molecule.geometry, line 1: '0 \u0661' {HEAD}", id="another script's charge"
        ),
        pytest.param(f"1_0 1\nAr 0 0 0{HE}", f"molecule.geometry, line 1: '1_0 1' {HEAD}", id="a charge of Python's"),
        pytest.param(
            f"\u0661 0 0 0{HE}", f"molecule.geometry, line 1: '\u0661' {SYMBOL}", id="another script's atomic number"
        ),
        pytest.param(
            f"\u017f 0 0 0{HE}", f"molecule.geometry, line 1: '\u017f' {SYMBOL}", id="a letter with a capital S"
        ),
        pytest.param("Ar 0 0 0", ONE, id="one fragment"),
        pytest.param(f"Uu 0 0 0{HE}", f"molecule.geometry, line 1: 'Uu' {SYMBOL}", id="unknown element"),
        pytest.param(f"@Ar 0 0 0{HE}", f"molecule.geometry, line 1: '@Ar' {SYMBOL}", id="ghost"),
        pytest.param(f"X 0 0 0{HE}", f"molecule.geometry, line 1: 'X' {SYMBOL}", id="dummy"),
        pytest.param(f"D 0 0 0{HE}", f"molecule.geometry, line 1: 'D' {SYMBOL}", id="isotope"),
        pytest.param(f"H2 0 0 0{HE}", f"molecule.geometry, line 1: 'H2' {SYMBOL}", id="numbered atom"),
        pytest.param(f"0 0 0 0{HE}", f"molecule.geometry, line 1: '0' {SYMBOL}", id="no such number"),
        pytest.param(f"999 0 0 0{HE}", f"molecule.geometry, line 1: '999' {SYMBOL}", id="too high a number"),
        pytest.param(f"\nAr 0 0{HE}", f"molecule.geometry, line 2: 'Ar 0 0' {ATOM}", id="two coordinates"),
        pytest.param(f"Ar 0 0 0 0{HE}", f"molecule.geometry, line 1: 'Ar 0 0 0 0' {ATOM}", id="four coordinates"),
        pytest.param(f"Ar 0 0 x{HE}", f"molecule.geometry, line 1: 'Ar 0 0 x' {ATOM}", id="no number"),
        pytest.param(f"Ar 0 0 nan{HE}", f"molecule.geometry, line 1: 'Ar 0 0 nan' {ATOM}", id="not a number"),
        pytest.param(f"Ar 0 0 0\n-{HE}", f"molecule.geometry, line 2: '-' {ATOM}", id="short separator"),
        pytest.param(
            f"Ar 0 0 0\n-- He 0 0 4{HE}", f"molecule.geometry, line 2: '-- He 0 0 4' {BEHIND}", id="atom behind --"
        ),
        pytest.param(f"Ar 0 0 0\n--0 1{HE}", f"molecule.geometry, line 2: '--0 1' {BEHIND}", id="charge behind --"),
        pytest.param(f"Ar 0 0 0\n0 1{HE}", f"molecule.geometry, line 2: '0 1' {ATOM}", id="charge after atoms"),
        pytest.param(f"a b\nAr 0 0 0{HE}", f"molecule.geometry, line 1: 'a b' {HEAD}", id="charge in words"),
        pytest.param(f"0.5 1\nAr 0 0 0{HE}", f"molecule.geometry, line 1: '0.5 1' {HEAD}", id="half a charge"),
        pytest.param(f"nan 1\nAr 0 0 0{HE}", f"molecule.geometry, line 1: 'nan 1' {HEAD}", id="charge not a number"),
        pytest.param(f"0 1.5\nAr 0 0 0{HE}", f"molecule.geometry, line 1: '0 1.5' {HEAD}", id="half a multiplicity"),
        pytest.param(
            f"0 2\nAr 0 0 0{HE}",
            "Fragment 1 with charge 0 has 18 electrons, which can't have multiplicity 2; the lowest possible is 1.",
            id="even electrons, even multiplicity",
        ),
        pytest.param(
            f"1 1\nAr 0 0 0{HE}",
            "Fragment 1 with charge 1 has 17 electrons, which can't have multiplicity 1; the lowest possible is 2.",
            id="odd electrons, odd multiplicity",
        ),
        pytest.param(
            f"0 0\nAr 0 0 0{HE}",
            "Fragment 1 with charge 0 has 18 electrons, which can't have multiplicity 0; the lowest possible is 1.",
            id="multiplicity zero",
        ),
        pytest.param(
            "Ar 0 0 0\n--\n0 5\nHe 0 0 9",
            "Fragment 2 with charge 0 has 2 electrons, which can't have multiplicity 5; the lowest possible is 1.",
            id="more spins than electrons",
        ),
        pytest.param(
            "Ar 0 0 0\n--\n3 1\nHe 0 0 9",
            "Fragment 2 has charge 3, which is more than its nuclei have.",
            id="more charge than nuclei",
        ),
        pytest.param(
            "Ar 0 0 0\n--\nHe 0 0 9\n--\nAr 0 0 0.01",
            "The atoms 0 (Ar) and 2 (Ar), counted from 0, are 0.019 a0 apart; "
            "remove the one given twice, or correct the geometry or molecule.units.",
            id="twice the same atom",
        ),
    ],
)
def test_a_geometry_that_is_wrong(geometry, sentence):
    """Line, what stands there, what should."""
    assert refused(job(geometry)) == sentence


GROUPS = "each of the 4 atoms, 0 to 3, goes into one fragment."


@pytest.mark.parametrize(
    ("molecule", "sentence"),
    [
        pytest.param({"fragments": [[0, 1], [3]]}, f"molecule.fragments leaves out atom 2; {GROUPS}", id="missing"),
        pytest.param(
            {"fragments": [[0, 1, 2], [2, 3]]}, f"molecule.fragments has atom 2 twice; {GROUPS}", id="overlapping"
        ),
        pytest.param(
            {"fragments": [[0, 1, 2], [3, 3]]}, f"molecule.fragments has atom 3 twice; {GROUPS}", id="twice in one"
        ),
        pytest.param(
            {"fragments": [[0, 1, 2], [4]]},
            f"molecule.fragments has an atom 4, which there is not; {GROUPS}",
            id="beyond",
        ),
        pytest.param(
            {"fragments": [[0, 3], [1, 2]]},
            "The fragments [[0, 3], [1, 2]] don't follow the order of the atoms; "
            "sort the atoms so that those of each fragment stand together, fragment by fragment.",
            id="scattered",
        ),
        pytest.param({"fragments": [[0, 1, 2, 3]]}, ONE, id="one"),
        pytest.param(
            {"fragments": [[0, 1, 2], [3]], "charges": [0]},
            "molecule.charges = [0] must have one entry for each of 2 fragments.",
            id="too few charges",
        ),
        pytest.param(
            {"multiplicities": [1, 1, 1]},
            "molecule.multiplicities = [1, 1, 1] must have one entry for each of 2 fragments.",
            id="too many multiplicities",
        ),
        pytest.param(
            {"multiplicities": [1, 2]},
            "Fragment 2 with charge 0 has 2 electrons, which can't have multiplicity 2; the lowest possible is 1.",
            id="wrong multiplicity",
        ),
    ],
)
def test_fragments_that_are_wrong(tmp_path, molecule, sentence):
    """Which atom or fragment, and the rule."""
    assert refused(from_xyz(tmp_path, **molecule)) == sentence


FEWER = "correct the number in its first line, and leave one geometry in the file if there are several."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        pytest.param("", ", line 1: an .xyz file begins with the number of atoms; got ''.", id="empty"),
        pytest.param(
            "He 0 0 0\n", ", line 1: an .xyz file begins with the number of atoms; got 'He 0 0 0'.", id="head"
        ),
        pytest.param("0\n\n", ", line 1: an .xyz file begins with the number of atoms; got '0'.", id="no atoms"),
        pytest.param("2\n\nHe 0 0 0\n", f" promises 2 atoms but has 1 lines of them; {FEWER}", id="too few"),
        pytest.param("1\n", f" promises 1 atoms but has 0 lines of them; {FEWER}", id="cut off"),
        pytest.param(f"{XYZ}{XYZ}", f" promises 4 atoms but has 10 lines of them; {FEWER}", id="a trajectory"),
        pytest.param("1\n\nHe 0 0\n", f", line 3: 'He 0 0' {ATOM}", id="coordinates"),
        pytest.param("1\n\nQq 0 0 0\n", f", line 3: 'Qq' {SYMBOL}", id="element"),
    ],
)
def test_an_xyz_file_that_is_wrong(tmp_path, text, sentence):
    """File and line."""
    assert refused(from_xyz(tmp_path, text)) == f"{tmp_path / 'cluster.xyz'}{sentence}"


def test_an_auto_fragmentation_out_of_order(tmp_path):
    """Atoms of a fragment must stand together; what was found is shown."""
    found = refused(from_xyz(tmp_path, "3\n\nH 0 0 0\nHe 5 0 0\nH 0 0 0.74\n"))
    assert found.startswith("The fragments [[0, 2], [1]] don't follow the order of the atoms; sort the atoms")
    assert found.endswith("Where several molecules are in one, they are too close: correct molecule.units.")


def test_molecules_that_are_too_close(tmp_path):
    """As those of a file in angstrom are that is read as one in a0; what was found is cut off between two atoms."""
    many = "".join(f"H {0.7 * x:.1f} 0 0\nHe {x} 50 0\n" for x in range(30))
    found = refused(from_xyz(tmp_path, f"60\n\n{many}"))
    assert found.startswith("The fragments [[0, 2, 4, ")
    assert re.match(r"The fragments \[\[(\d+, )+\.\.\.\]\] don't follow", found)
    assert len(found) < 350


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "can't be read: No such file or directory."),
        (b"1\n\xe9\n", "can't be read: it is no text in UTF-8 (byte 2)."),
    ],
    ids=["missing", "no text"],
)
def test_an_xyz_file_that_cannot_be_read(tmp_path, content, sentence):
    """The file's whole path."""
    tables = from_xyz(tmp_path)
    path = tmp_path / "cluster.xyz"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert refused(tables, ConfigError) == f"{path}: {sentence}"


def test_a_path_that_can_not_be(tmp_path):
    """Some texts are no path at all."""
    tables = from_xyz(tmp_path, file="\0.xyz")
    assert refused(tables, ConfigError).endswith("\\x00.xyz': can't be read: embedded null byte.")


def test_files_with_a_byte_order_mark(tmp_path, jobfile):
    """As editors under Windows write them."""
    plain_toml, table = spec_of(jobfile), from_xyz(tmp_path)
    plain_xyz = spec_of(table)
    for path in (jobfile, tmp_path / "cluster.xyz"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert plain(spec_of(jobfile)) == plain(plain_toml)
    assert plain(spec_of(table)) == plain(plain_xyz)


# What is refused: tables

LJ = {"program": "model-potential", "method": "lj"}


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("molecule.units", "nm", '"angstrom" or "bohr"'),
        ("molecule.geometry", [["Ar", 0, 0, 0]], "text: an atom a line, and lines of -- between fragments"),
        ("molecule.file", 5, "the path of an .xyz file"),
        ("molecule.name", 5, "text"),
        *(
            ("molecule.fragments", value, '"auto" or lists of atom numbers from 0, such as [[0, 1, 2], [3]]')
            for value in ("all", 5, [], [[0], []], [0, 1], [["a"]], [[0.0]], [[-1]], [[True]])
        ),
        *(
            ("molecule.charges", value, "a list of whole numbers, one a fragment")
            for value in (0, "0", [0.5], ["a"], [True], [float("nan")])
        ),
        *(
            ("molecule.multiplicities", value, "a list of whole numbers from 1 up, one a fragment")
            for value in (1, [0], [1.5], ["a"])
        ),
        *(
            ("mbe.bsse_type", value, '"nocp", "cp" or "vmfc", or a list of them')
            for value in ("cpp", ["cp", 5], ["cp", None], 5, [], None)
        ),
        *(("mbe.driver", value, '"energy" or "gradient" or "hessian"') for value in ("energies", 5, ["energy"])),
        *(("mbe.max_nbody", value, "a whole number from 1 up") for value in (0, -1, 2.0, "2", "all", True, None)),
        *(
            (
                "mbe.levels",
                value,
                'a table of [program.LABEL] labels by number of bodies, such as {1 = "high", supersystem = "low"}',
            )
            for value in (2, "high", ["high"], {}, *({key: "high"} for key in ("one", "0", "01", True)), {"1": 5})
        ),
        ("mbe.return_total_data", "yes", "true or false"),
        ("mbe.supersystem_ie_only", 1, "true or false"),
        ("mbe.cluster_results", "some", '"all" or "none"'),
        ("mbe.cluster_properties", "some", '"auto" or "all" or "none"'),
        ("program.program", 5, "the name of a program"),
        ("program.program", "", "the name of a program"),
        ("program.method", None, "the name of a method"),
        ("program.basis", 5, "the name of a basis set"),
        ("program.keywords", ["tight"], "a table"),
    ],
    ids=lambda word: str(word)[:40],
)
def test_a_value_that_is_not_allowed(tables, key, value, allowed):
    """Source, key, value, and what is allowed."""
    table, name = key.split(".")
    tables[table][name] = value
    assert refused(tables) == f"the input: {key} = {value!r} must be {allowed}."


def test_a_wrong_value_names_its_source(jobfile, monkeypatch):
    """The job file, a variable or an argument."""
    jobfile.write_text(TOML.replace('"gradient"', '"force"'))
    assert refused(jobfile).startswith(f"{jobfile}: mbe.driver = 'force' must be")
    jobfile.write_text(TOML)
    monkeypatch.setenv("MBEXEC_MBE__DRIVER", "force")
    assert refused(jobfile).startswith("MBEXEC_MBE__DRIVER: mbe.driver = 'force' must be")
    monkeypatch.delenv("MBEXEC_MBE__DRIVER")
    assert refused(jobfile, **{"mbe.driver": "force"}).startswith("argument: mbe.driver = 'force' must be")


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("molecule.unit", "unknown setting molecule.unit. Did you mean molecule.units? Known: molecule.units, "),
        ("mbe.bsse", "unknown setting mbe.bsse. Did you mean mbe.bsse_type? Known: mbe.bsse_type, mbe.driver, "),
        ("program.functional", "unknown setting program.functional. Known: program.program, program.method, "),
        ("molecul.units", "unknown table [molecul]. Did you mean [molecule]? Known: [molecule], [mbe], [program], "),
    ],
)
def test_an_unknown_key(tables, key, sentence):
    """A near match, and all that are known."""
    table, name = key.split(".")
    tables.setdefault(table, {})[name] = "bohr"
    assert refused(tables, ConfigError).startswith(f"the input: {sentence}")


def test_an_unknown_key_of_a_model_chemistry():
    """The label is part of the key."""
    tables = job(argon(3), levels={1: "high"}, program={"high": {**LJ, "basic": "x"}})
    assert refused(tables, ConfigError).startswith(
        "the input: unknown setting program.high.basic. Did you mean program.high.basis? Known: program.high.program,"
    )


NEEDS = "it needs [molecule] and [program], and perhaps [mbe]."
BOTH = {"file": "cluster.xyz"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param({"molecule": {}}, f"The job has no [molecule] table; {NEEDS}", id="no molecule"),
        pytest.param({"program": {}}, f"The job has no [program] table; {NEEDS}", id="no program"),
        pytest.param(
            {"molecule": {"units": "bohr"}},
            "[molecule] has neither geometry nor file; give one of them.",
            id="no geometry",
        ),
        pytest.param(
            {"molecule": {"geometry": "Ar 0 0 0", "file": "cluster.xyz"}},
            "[molecule] has both geometry and file; give one of them.",
            id="geometry and file",
        ),
        pytest.param(
            {"molecule": {"geometry": "Ar 0 0 0", "fragments": "auto"}},
            "molecule.fragments goes with molecule.file; in molecule.geometry, lines of -- part the fragments "
            "and a line of charge and multiplicity may head each.",
            id="fragments of a geometry",
        ),
        pytest.param(
            {"program": {"method": "hf"}},
            "program.program is missing; give the name of the program.",
            id="no name of a program",
        ),
        pytest.param(
            {"program": {"program": "pyscf"}},
            "program.method is missing; give the name of the method.",
            id="no name of a method",
        ),
        pytest.param(
            {"mbe": {"max_nbody": 4}},
            "max_nbody = 4 must lie between 1 and the 3 fragments that there are.",
            id="max_nbody beyond the fragments",
        ),
        pytest.param(
            {"mbe": {"levels": {1: "high"}}},
            "mbe.levels names 'high', but there is no [program.LABEL] table.",
            id="levels without labels",
        ),
        pytest.param(
            {"mbe": {"levels": {1: "high", 2: "low"}}, "program": {"high": LJ, "other": LJ}},
            "mbe.levels names 'low', but the [program.LABEL] tables are high, other.",
            id="a level without its label",
        ),
        pytest.param(
            {"mbe": {"levels": {1: "high"}}, "program": {"high": LJ, "other": LJ}},
            "[program.other] is used by no level; name it in mbe.levels, "
            "put its keys into [program] if there is one model chemistry, or take it out.",
            id="a label without its level",
        ),
        pytest.param(
            {"program": {"high": LJ}},
            "[program.high] is used by no level; name it in mbe.levels, "
            "put its keys into [program] if there is one model chemistry, or take it out.",
            id="a label without levels",
        ),
        pytest.param(
            {"mbe": {"levels": {1: "high"}}, "program": {"high": LJ, "method": "lj"}},
            "program.method stands beside [program.high] and would not be used; "
            "with labels, give each model chemistry all of its keys.",
            id="keys beside labels",
        ),
        pytest.param(
            {"mbe": {"levels": {1: "high"}}, "program": {"high": {"program": "pyscf"}}},
            "program.high.method is missing; give the name of the method.",
            id="a label without a method",
        ),
        pytest.param(
            {"mbe": {"levels": {1: "high", 4: "low"}}, "program": {"high": LJ, "low": LJ}},
            "levels = {1: 'high', 4: 'low'} must lie between 1 and the 3 fragments that there are.",
            id="levels beyond the fragments",
        ),
        pytest.param(
            {"mbe": {"levels": {1: "high", 2: "high"}}, "program": {"high": LJ}},
            "levels = {1: 'high', 2: 'high'} names a model chemistry twice; a level counts for all n-bodies below it "
            "that have none of their own, so name each once.",
            id="a label twice",
        ),
        pytest.param(
            {"mbe": {"levels": {1: "high", 2: "low"}, "max_nbody": 3}, "program": {"high": LJ, "low": LJ}},
            "max_nbody = 3 contradicts levels, which end at 2.",
            id="levels against max_nbody",
        ),
        pytest.param(
            {"mbe": {"levels": {"supersystem": "low"}}, "program": {"low": LJ}},
            "levels = {'supersystem': 'low'} has the supersystem alone; add a number of bodies, from 1 up.",
            id="the supersystem alone",
        ),
        pytest.param(
            {"mbe": {"levels": {3: "high", "supersystem": "low"}}, "program": {"high": LJ, "low": LJ}},
            "levels reach all 3 fragments, so the supersystem adds nothing; leave one out.",
            id="the supersystem twice",
        ),
        pytest.param(
            {"mbe": {"supersystem_ie_only": True, "max_nbody": 2}},
            "supersystem_ie_only needs max_nbody, or the highest of levels, to be the number of "
            "fragments; change one of them.",
            id="supersystem_ie_only with max_nbody",
        ),
        pytest.param(
            {"mbe": {"supersystem_ie_only": True, "bsse_type": "vmfc"}},
            "supersystem_ie_only saves nothing with vmfc; use cp or nocp, or leave it out.",
            id="supersystem_ie_only with vmfc",
        ),
    ],
)
def test_tables_that_contradict_each_other(tables, change, sentence):
    """What is missing or too much, and what to do."""
    assert refused({**tables, **change}) == sentence


# What is refused: files and QCSchema

KINDS = (
    "give a QCSchema ManyBodyInput, a dict of the same or of a job's tables, "
    "or the path of a .toml, .json or .yaml file of either."
)


@pytest.mark.parametrize("given", [None, 5, [], b"job.toml"], ids=repr)
def test_an_input_of_a_wrong_type(given):
    """What it is, and what can be given."""
    assert refused(given) == f"the input: a {type(given).__name__} is no input; {KINDS}"


@pytest.mark.parametrize(
    ("name", "content", "kind", "sentence"),
    [
        ("job.txt", b"", InputError, "unknown kind of file '.txt'; allowed are .toml, .json, .yaml and .yml."),
        ("job", b"", InputError, "unknown kind of file ''; allowed are .toml, .json, .yaml and .yml."),
        ("job.toml", None, ConfigError, "can't be read: No such file or directory."),
        ("job.json", None, ConfigError, "can't be read: No such file or directory."),
        ("job.toml", b"[run\n", ConfigError, "not valid TOML: Expected ']' at the end of a table"),
        ("job.json", b"{", ConfigError, "not valid JSON: Expecting property name enclosed in double quotes: line 1"),
        (
            "job.yaml",
            b"a: [",
            ConfigError,
            "not valid YAML: expected the node content, but found '<stream end>': line 1",
        ),
        ("job.yaml", b"\x01", ConfigError, "not valid YAML: unacceptable character #x0001: special characters are not"),
        ("job.toml", b"\xff", ConfigError, "can't be read: it is no text in UTF-8 (byte 0)."),
        ("job.yaml", b"\xff", ConfigError, "can't be read: it is no text in UTF-8 (byte 0)."),
        ("job.json", b"[1]", InputError, f"a list is no input; {KINDS}"),
        (
            "job.json",
            b'{"symbols": ["Ar"], "geometry": [0, 0, 0]}',
            InputError,
            "a QCSchema Molecule is no input, for ",
        ),
        ("job.yaml", b"", InputError, f"a NoneType is no input; {KINDS}"),
        ("job.yaml", b"[run]", InputError, f"a list is no input; {KINDS}"),
    ],
    ids=lambda word: str(word)[:40] if isinstance(word, str) else "",
)
def test_a_file_that_is_no_input(tmp_path, name, content, kind, sentence):
    """The sentence begins with the file."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    assert refused(path, kind).startswith(f"{path}: {sentence}")


def test_a_folder_is_no_input(tmp_path):
    """Whatever its name."""
    path = tmp_path / "job.toml"
    path.mkdir()
    assert refused(path, ConfigError) == f"{path}: can't be read: Is a directory."


def test_chemistry_for_a_qcschema_input(expected):
    """Settings that would not be looked at are refused."""
    assert refused(expected, ConfigError, **{"mbe.max_nbody": 2}) == (
        "argument: [mbe] settings are for job files; this input is QCSchema and says it itself, so change it there."
    )


def changed(*path, value=None, drop=False):
    """A change of a QCSchema dict: what stands at a path is replaced or left out."""

    def change(qcschema):
        table = qcschema
        for key in path[:-1]:
            table = table[key]
        if drop:
            del table[path[-1]]
        else:
            table[path[-1]] = value

    return change


NOT = "The input is not a QCSchema ManyBodyInput: "
KEYWORDS = ("specification", "keywords")
CHEMISTRY = ("specification", "specification", "(auto)")
EACH = "each of the 3 atoms, 0 to 2, goes into one fragment."
LISTS = "must be lists of atom numbers from 0, such as [[0, 1, 2], [3]]."
STATES = "must be a list of whole numbers, one a fragment (3)."


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        pytest.param(changed("molecule", drop=True), f"{NOT}molecule: Field required", id="no molecule"),
        pytest.param(changed("specification", drop=True), f"{NOT}specification: Field required", id="no specification"),
        pytest.param(changed("extra", value=1), f"{NOT}extra: Extra inputs are not permitted (given: 1).", id="extra"),
        pytest.param(changed("schema_version", value=7), f"{NOT}schema_version: Input should be 2", id="version"),
        pytest.param(
            changed("schema_name", value="qcschema_atomic_input"),
            f"{NOT}schema_name: Input should be 'qcschema_many_body_input' (given: 'qcschema_atomic_input').",
            id="other schema",
        ),
        pytest.param(
            changed("specification", "driver", value="force"),
            f"{NOT}specification.driver: Input should be 'energy', 'gradient', 'hessian' or 'properties' "
            "(given: 'force').",
            id="unknown driver",
        ),
        pytest.param(
            changed("specification", "driver", value="properties"),
            "The driver is 'properties'; allowed are energy, gradient and hessian.",
            id="driver",
        ),
        pytest.param(
            changed(*KEYWORDS, "bsse_type", value="cpp"),
            f"{NOT}specification.keywords.bsse_type.0: Input should be",
            id="unknown treatment",
        ),
        pytest.param(
            changed(*KEYWORDS, "bsse_type", value=5),
            "specification.keywords.bsse_type = 5 must be nocp, cp or vmfc, or a list of them.",
            id="no treatment",
        ),
        pytest.param(
            changed(*KEYWORDS, "bsse_type", value=[None]),
            "specification.keywords.bsse_type = [None] must be nocp, cp or vmfc, or a list of them.",
            id="a treatment that is nothing",
        ),
        pytest.param(
            changed(*KEYWORDS, "bsse_type", value=[]),
            "bsse_type is empty; allowed are nocp, cp and vmfc.",
            id="no treatments",
        ),
        pytest.param(
            changed(*KEYWORDS, "max_nbody", value=0),
            "max_nbody = 0 must lie between 1 and the 3 fragments that there are.",
            id="max_nbody zero",
        ),
        pytest.param(
            changed(*KEYWORDS, "embedding_charges", value={1: [0.1]}),
            "embedding_charges are not supported; leave them out.",
            id="embedding charges",
        ),
        pytest.param(
            changed("specification", "specification", value={}),
            "The model chemistry '(auto)' has no specification. Known: none.",
            id="no model chemistry",
        ),
        pytest.param(
            changed("specification", "specification", value=None),
            "specification.specification = None must be a table of model chemistries by label, or one of them.",
            id="model chemistries are no table",
        ),
        pytest.param(
            changed(*CHEMISTRY, "program", value=""),
            "specification.specification['(auto)'].program = '' must be the name of a program.",
            id="no program",
        ),
        pytest.param(
            changed(*CHEMISTRY, "keywords", value=None),
            "specification.specification['(auto)'].keywords = None must be a table.",
            id="no keywords",
        ),
        pytest.param(
            changed("molecule", "symbols", value=["Ar", "Uu", "Ar"]),
            "molecule.symbols has 'Uu', which is not an element.",
            id="unknown element",
        ),
        pytest.param(
            changed("molecule", "symbols", value=["Ar", "ar", "Ar"]),
            "molecule.symbols has 'ar', which is not an element; write Ar.",
            id="small letters, not validated by QCElemental",
        ),
        pytest.param(
            changed("molecule", "symbols", drop=True),
            "molecule.symbols is missing; a QCSchema molecule has symbols and geometry.",
            id="no symbols",
        ),
        pytest.param(
            changed("molecule", "symbols", value=None),
            "molecule.symbols = None must be a list of elements, one an atom.",
            id="symbols are nothing",
        ),
        pytest.param(
            changed("molecule", "geometry", value=[0, 0]),
            "molecule.geometry = [0, 0] must be three finite numbers for each of 3 atoms, in a0.",
            id="geometry",
        ),
        pytest.param(
            changed("molecule", "real", value=[True, False, True]),
            "Atom 1 of the molecule, counted from 0, is a ghost; leave ghosts out, "
            "those that bsse_type asks for are put in as needed.",
            id="ghost",
        ),
        pytest.param(
            changed("molecule", "real", value=[True]),
            "molecule.real = [True] must be a list with one entry for each of 3 atoms.",
            id="too few say whether they are real",
        ),
        pytest.param(
            changed("molecule", "masses", value=3),
            "molecule.masses = 3 must be a list of numbers, one for each of 3 atoms.",
            id="one mass",
        ),
        pytest.param(
            changed("molecule", "fragments", value=[[1], [0], [2]]),
            "The fragments [[1], [0], [2]] don't follow the order of the atoms; sort the atoms",
            id="fragments out of order",
        ),
        pytest.param(
            changed("molecule", "fragments", value=[[0], [0, 1], [2]]),
            f"molecule.fragments has atom 0 twice; {EACH}",
            id="fragments overlapping",
        ),
        pytest.param(
            changed("molecule", "fragments", value=[[0], [1], [9]]),
            f"molecule.fragments has an atom 9, which there is not; {EACH}",
            id="fragments beyond",
        ),
        pytest.param(
            changed("molecule", "fragments", value=[[0], [2]]),
            f"molecule.fragments leaves out atom 1; {EACH}",
            id="fragments incomplete",
        ),
        pytest.param(
            changed("molecule", "fragments", value=[0, 1, 2]), f"molecule.fragments = [0, 1, 2] {LISTS}", id="flat"
        ),
        pytest.param(changed("molecule", "fragments", value=5), f"molecule.fragments = 5 {LISTS}", id="no fragments"),
        pytest.param(changed("molecule", "fragments", value=[]), f"molecule.fragments = [] {LISTS}", id="no fragment"),
        pytest.param(
            changed("molecule", "geometry", value=[[0, 0, 0], [0, 0, float("nan")], [0, 0, 9]]),
            "molecule.geometry = [[0, 0, 0], [0, 0, nan], [0, 0, 9]] must be three finite numbers",
            id="not a number",
        ),
        pytest.param(
            changed("molecule", "geometry", value=[[0, 0, 0], [0, 0, 6], [0.01, 0, 0]]),
            "The atoms 0 (Ar) and 2 (Ar), counted from 0, are 0.01 a0 apart; remove the one given twice,",
            id="on top of each other",
        ),
        pytest.param(
            changed("molecule", "fragment_multiplicities", value=[1, 2, 1]),
            "Fragment 2 with charge 0 has 18 electrons, which can't have multiplicity 2; the lowest possible is 1.",
            id="multiplicity",
        ),
        pytest.param(
            changed("molecule", "fragment_charges", value=[0, 1, 0]),
            "Fragment 2 with charge 1 has 17 electrons, which can't have multiplicity 1; the lowest possible is 2.",
            id="charge",
        ),
        pytest.param(
            changed("molecule", "molecular_charge", value=2.0),
            "molecule.molecular_charge is 2, but the charges of the fragments add up to 0; correct one of them.",
            id="total charge",
        ),
        pytest.param(
            changed("molecule", "fragment_charges", value=None),
            f"molecule.fragment_charges = [0.0] {STATES}",
            id="no charges",
        ),
        pytest.param(
            changed("molecule", "fragment_charges", value=[0, 1]),
            f"molecule.fragment_charges = [0, 1] {STATES}",
            id="too few charges",
        ),
        pytest.param(
            changed("molecule", "fragment_charges", value=[0, 0.5, 0]),
            f"molecule.fragment_charges = [0, 0.5, 0] {STATES}",
            id="half a charge",
        ),
        pytest.param(
            changed("molecule", "fragment_multiplicities", value=[1, float("nan"), 1]),
            f"molecule.fragment_multiplicities = [1, nan, 1] {STATES}",
            id="multiplicity not a number",
        ),
        pytest.param(
            changed("molecule", "molecular_charge", value=float("nan")),
            "molecule.molecular_charge = nan must be a whole number.",
            id="total charge not a number",
        ),
    ],
)
def test_qcschema_that_is_wrong(tables, change, sentence):
    """The first problem, where it is and what was given."""
    qcschema = plain(spec_of(tables))
    change(qcschema)
    assert refused(qcschema).startswith(sentence)


@pytest.mark.parametrize("key", ["symbols", "fragments", "fragment_charges", "molecular_charge", "real"])
def test_qcschema_that_is_wrong_and_says_not_that_it_is_validated(tables, key):
    """The sentences are ours, whether or not QCElemental would look at the molecule."""
    wrong = {
        "symbols": ["Ar", "Uu", "Ar"],
        "fragments": [[0], [0, 1], [2]],
        "fragment_charges": [0, 1, 0],
        "molecular_charge": 2.0,
        "real": [True, False, True],
    }
    sentences = []
    for validated in (True, False):
        qcschema = plain(spec_of(tables))
        qcschema["molecule"] |= {key: wrong[key], "validated": validated}
        sentences.append(refused(qcschema))
    assert sentences[0] == sentences[1]
    assert "not a QCSchema ManyBodyInput" not in sentences[0]


@pytest.mark.parametrize(
    ("name", "value"), [("fragment_charges", [0, 0.5, 0]), ("fragment_multiplicities", [1, 1.5, 1])]
)
def test_a_model_with_half_a_charge_or_spin(tables, name, value):
    """A model that is built already is looked at too."""
    spec = spec_of(tables)
    molecule = Molecule(**{**spec.molecule.model_dump(), name: value, "validated": True})
    message = refused(spec.model_copy(update={"molecule": molecule}))
    assert message.startswith(f"molecule.{name} = [")
    assert message.endswith(STATES)


JUNK = [None, 3, -1, 1.5, "x", "", [], {}, [None], {"a": 1}, float("nan"), True, [[]], b"x", 10**30, "\0", [1, 2]]
STARTS = {
    "QCSchema": plain(mbexec.plan(job(argon(3), driver="gradient", max_nbody=2, cluster_results="all")).spec),
    "a job": job(argon(3), max_nbody=2, cluster_results="all", run={"executor": "serial", "workers": 1}),
}
STARTS["QCSchema that does not say it is validated"] = {
    **STARTS["QCSchema"],
    "molecule": {**STARTS["QCSchema"]["molecule"], "validated": False},
}


def paths(value, path=()):
    """Where something stands, in tables and at the beginning of lists."""
    entries = value.items() if isinstance(value, dict) else enumerate(value[:2] if isinstance(value, list) else ())
    for key, below in entries:
        yield (*path, key)
        yield from paths(below, (*path, key))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("start", STARTS)
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_whatever_stands_at_a_key(start, data):
    """Anything in the place of anything: a plan, or one sentence of mbexec's."""
    given = copy.deepcopy(STARTS[start])
    path = data.draw(st.sampled_from(list(paths(given))))
    changed(*path, value=data.draw(st.sampled_from(JUNK)))(given)
    said = ""
    try:
        mbexec.plan(given)
    except MbexecError as error:
        said = str(error)
    assert "\n" not in said


def test_a_total_multiplicity_that_nobody_computes(tables):
    """The whole cluster has the spins of its fragments parallel; an input that says otherwise is told so."""
    qcschema = plain(spec_of(tables))
    qcschema["molecule"]["molecular_multiplicity"] = 3
    with pytest.warns(UserWarning, match=r"molecular_multiplicity = 3 is not used: .*, which makes 1 for all of them"):
        spec_of(qcschema)


@given(
    places=arrays(np.float64, (6, 3), elements=st.floats(-1, 1).map(lambda x: round(x, 2))),
)
def test_atoms_on_top_of_each_other_are_found(places):
    """Wherever they are: the same verdict as all distances give."""
    distances = np.linalg.norm(places[:, None] - places[None], axis=2)[np.triu_indices(6, 1)]
    if distances.min() < 0.1:
        with pytest.raises(InputError, match="a0 apart"):
            check_apart(["He"] * 6, places)
    else:
        check_apart(["He"] * 6, places)


@pytest.mark.parametrize("fragments", [[[0], [1], [9]], 5, [0, 1, 2]], ids=str)
def test_fragments_that_are_wrong_and_have_no_multiplicities(tables, fragments):
    """Filling in multiplicities does not trip over what is wrong."""
    qcschema = plain(spec_of(tables))
    del qcschema["molecule"]["fragment_multiplicities"]
    qcschema["molecule"]["fragments"] = fragments
    refused(qcschema)


def test_one_fragment_of_qcschema(tables):
    """A molecule that is not cut."""
    qcschema = plain(spec_of(tables))
    for key in ("fragments", "fragment_charges", "fragment_multiplicities"):
        del qcschema["molecule"][key]
    assert refused(qcschema) == ONE


def test_another_schema(tables):
    """A model of QCSchema that is no ManyBodyInput."""
    spec = spec_of(tables)
    atomic = AtomicInput(molecule=spec.molecule, specification=spec.specification.specification["(auto)"])
    assert refused(atomic) == "The input is of type AtomicInput; a QCSchema ManyBodyInput is needed."
    assert refused(spec.molecule) == "The input is of type Molecule; a QCSchema ManyBodyInput is needed."
    assert refused(spec.molecule.model_dump()).startswith(
        "the input: a QCSchema Molecule is no input, for it does not say"
    )
