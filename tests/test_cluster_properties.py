"""Which fragments' own properties a result holds: mbe.cluster_properties."""

import re
import warnings

import pytest

import mbexec
from mbexec import InputError
from tests.systems import argon, job

PAIR = '["(auto)", [1, 2], [1, 2]]'


@pytest.fixture
def _three_are_many(monkeypatch):
    monkeypatch.setattr("mbexec.plugins.manybody.sums._MOST_CLUSTERS", 3)


@pytest.mark.parametrize("wanted", [{}, {"cluster_properties": "auto"}, {"cluster_properties": "all"}], ids=str)
def test_small_runs_have_them(wanted):
    """Every fragment calculation is there under its label, quietly."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mbexec.run(job(argon(3), max_nbody=2, **wanted), executor="serial")
    assert sorted(found.result.cluster_properties) == sorted(task.label for task in found.plan)


def test_none_means_none():
    """The result holds the sums alone, and the same ones."""
    bare = mbexec.run(job(argon(3), cluster_properties="none"), executor="serial")
    full = mbexec.run(job(argon(3)), executor="serial")
    assert bare.result.cluster_properties == {}
    assert bare.result.properties == full.result.properties


@pytest.mark.usefixtures("_three_are_many")
def test_auto_stops_at_many_and_says_so():
    """A run of more fragment calculations than the limit warns and leaves them out."""
    with pytest.warns(UserWarning, match=r"will not hold the properties of each of the 6 fragment calculations"):
        found = mbexec.run(job(argon(3), max_nbody=2), executor="serial")
    assert found.result.cluster_properties == {}


@pytest.mark.parametrize(("driver", "size"), [("gradient", 8 * 6 * 9), ("hessian", 8 * 6 * (9 + 81))])
def test_auto_counts_bytes(driver, size, monkeypatch):
    """Arrays have the cluster's size; what they would take decides too, and is told in advance."""
    monkeypatch.setattr("mbexec.plugins.manybody.sums._MOST_BYTES", size - 1)
    given = job(argon(3), max_nbody=2, driver=driver)
    with pytest.warns(UserWarning, match=r"6 fragment calculations, whose arrays would take 0\.0 GB in the size of"):
        found = mbexec.run(given, executor="serial")
    assert found.result.cluster_properties == {}
    monkeypatch.setattr("mbexec.plugins.manybody.sums._MOST_BYTES", size)
    assert len(mbexec.run(given, executor="serial").result.cluster_properties) == 6
    assert mbexec.run(job(argon(3), max_nbody=2), executor="serial").result.cluster_properties


@pytest.mark.usefixtures("_three_are_many")
@pytest.mark.parametrize(("wanted", "count"), [("all", 6), ("none", 0)])
def test_who_has_decided_is_not_warned(wanted, count):
    """With "all" they are kept however many there are."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mbexec.run(job(argon(3), max_nbody=2, cluster_properties=wanted), executor="serial")
    assert len(found.result.cluster_properties) == count


def test_a_qcschema_input_says_it_in_extras():
    """The input that a result carries asks for the same again."""
    first = mbexec.run(job(argon(3), cluster_properties="none"), executor="serial").result
    assert first.input_data.specification.extras == {"mbexec": {"cluster_properties": "none"}}
    again = mbexec.run(first.input_data.model_dump(), executor="serial").result
    assert again.cluster_properties == {}
    assert PAIR in mbexec.run(job(argon(3)), executor="serial").result.cluster_properties


WHERE = 'specification.extras["mbexec"]'
KNOWN = "cluster_properties, properties, cutoff, cutoff_measure, screen, symmetry_tolerance."
WRONG = [
    ("all", f"{WHERE} = 'all' must be a table; it may have {KNOWN}"),
    ({"clusters": "all"}, f"{WHERE} has the unknown key 'clusters'. Known: {KNOWN}"),
    ({"cluster_properties": "some"}, f'{WHERE}["cluster_properties"] = \'some\' must be "auto", "all" or "none".'),
    ({"cluster_properties": 1}, f'{WHERE}["cluster_properties"] = 1 must be "auto", "all" or "none".'),
    ({"properties": "dipole"}, f"{WHERE}[\"properties\"] = 'dipole' must be a list of names."),
    (
        {"cutoff": {"2": -1.0}},
        f"{WHERE}[\"cutoff\"] = {{'2': -1.0}} must be a table of lengths above 0 in a0 by number",
    ),
    ({"cutoff_measure": "x"}, f'{WHERE}["cutoff_measure"] = \'x\' must be "closest_atoms" or "centers_of_mass".'),
    ({"symmetry_tolerance": 1}, f'{WHERE}["symmetry_tolerance"] = 1 must be a number above 0 and at most 0.001 (a0).'),
    ({"screen": {"program": "a"}}, f"{WHERE}[\"screen\"] = {{'program': 'a'}} must be a table of program, a label, "),
]


@pytest.mark.parametrize(("given", "words"), WRONG, ids=str)
def test_wrong_extras(given, words):
    """What stands there for mbexec is checked like a setting, and the key is named."""
    spec = mbexec.plan(job(argon(3))).spec.model_dump()
    spec["specification"]["extras"] = {"mbexec": given}
    with pytest.raises(InputError, match=f"^{re.escape(words)}"):
        mbexec.plan(spec)


def test_extras_in_the_wrong_place():
    """Where nobody would look at them, they are refused."""
    spec = mbexec.plan(job(argon(3))).spec.model_dump()
    spec["molecule"]["extras"] = {"mbexec": {"cutoff": {"2": 4.0}}}
    with pytest.raises(InputError, match=r'^molecule\.extras\["mbexec"\] would not be looked at; move it to spec'):
        mbexec.plan(spec)


def test_extras_of_others_are_theirs():
    """What other programs keep in an input's extras does not matter."""
    spec = mbexec.plan(job(argon(3))).spec.model_dump()
    spec["specification"]["extras"] = {"notebook": {"page": 3}}
    assert len(mbexec.plan(spec)) == 7
