"""Which fragments' own properties a result holds: mbe.cluster_properties."""

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


WRONG = ["all", {"cluster_properties": "some"}, {"clusters": "all"}, {"cluster_properties": 1}]


@pytest.mark.parametrize("given", WRONG, ids=str)
def test_wrong_extras(given):
    """What stands there for mbexec is checked like a setting."""
    spec = mbexec.plan(job(argon(3))).spec.model_dump()
    spec["specification"]["extras"] = {"mbexec": given}
    with pytest.raises(InputError, match=r'may hold cluster_properties, which is "auto", "all" or "none"'):
        mbexec.plan(spec)


def test_extras_of_others_are_theirs():
    """What other programs keep in an input's extras does not matter."""
    spec = mbexec.plan(job(argon(3))).spec.model_dump()
    spec["specification"]["extras"] = {"notebook": {"page": 3}}
    assert len(mbexec.plan(spec)) == 7
