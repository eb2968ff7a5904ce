"""The matrix of options against QCManyBody 0.8, which is fed the same numbers: every field of every result."""

import json
from itertools import product

import numpy as np
import pytest
from qcmanybody.models.v2 import ManyBodyInput

import mbexec
from mbexec import InputError
from tests.oracle import analyzed, assert_equal, assert_same_table, merged
from tests.reference import load

TREATMENTS = [["nocp"], ["cp"], ["vmfc"], ["nocp", "cp", "vmfc"]]


def numbers_of(name, nfr, driver):
    """Energies and gradients of a cluster's first fragments, as computed; Hessians at random, but not symmetric."""
    data = load(name)
    sizes = [3 * len(atoms) for atoms in data["molecule"]["fragments"]]
    rng = np.random.default_rng(nfr)
    found = {}
    for label, values in data["fragments"].items():
        _, _, bas = json.loads(label)
        if max(bas) > nfr:
            continue
        size = sum(sizes[i - 1] for i in bas)
        found[label] = {"energy": values["energy"]}
        if driver != "energy":
            found[label]["gradient"] = np.array(values["gradient"])
        if driver == "hessian":
            found[label]["hessian"] = rng.normal(size=(size, size))
    return found


def spec_of(name, nfr, driver, **keywords):
    """The many-body input of a cluster's first fragments."""
    data = load(name)
    molecule = {key: value[:nfr] if "fragment" in key else value for key, value in data["molecule"].items()}
    nat = 1 + molecule["fragments"][-1][-1]
    molecule |= {key: molecule[key][:nat] for key in ("symbols", "geometry")}
    labels = keywords["levels"].values() if keywords.get("levels") else ["high"]
    specification = {
        label: {
            "program": "model-potential",  # never called: the numbers are given
            "driver": driver,
            "model": {"method": "lj"},
        }
        for label in labels
    }
    if not keywords.get("levels"):
        specification = {"(auto)": specification["high"]}
    return ManyBodyInput(
        molecule=molecule,
        specification={"driver": driver, "keywords": keywords, "specification": specification},
    )


def schemes(nfr):
    """One, two and three model chemistries over the levels, with and without a supersystem."""
    for n in range(1, nfr + 1):
        plain = [{n: "high"}]
        plain += [{k: "high", n: "low"} for k in (1, 2) if k < n]
        plain += [{1: "high", 2: "middle", n: "low"}] if n > 2 else []
        yield from plain
        if n < nfr:
            yield from ({**levels, "supersystem": "cheap"} for levels in plain)


def named(levels):
    return "-".join(f"{key}{label}" for key, label in levels.items())


def cases():
    """Each cluster, or as much of it, with the driver that gives most; energies alone where the names differ."""
    for name, nfr, driver in [
        ("he4", 4, "hessian"),
        ("he4", 4, "energy"),
        ("ions", 4, "gradient"),
        ("ions", 3, "hessian"),
        ("ions", 2, "hessian"),
    ]:
        for levels in schemes(nfr):
            yield pytest.param(name, nfr, driver, levels, id=f"{name}-{nfr}-{driver}-{named(levels)}")


@pytest.mark.parametrize(("name", "nfr", "driver", "levels"), list(cases()))
def test_every_field_is_qcmanybodys(name, nfr, driver, levels):
    """Each treatment alone and all at once, total and interaction data: the same fragments give the same result."""
    numbers = numbers_of(name, nfr, driver)
    for bsse, total in product(TREATMENTS, (True, False)):
        if (bsse, max(n for n in levels if n != "supersystem"), total) == (["cp"], 1, False):
            continue  # the highest order has nothing to compute; see the next test
        spec = spec_of(name, nfr, driver, levels=levels, bsse_type=bsse, return_total_data=total)
        ours, theirs = merged(mbexec.plan(spec), numbers), analyzed(spec, numbers)
        assert_equal(ours, theirs)
        assert_same_table(ours.stdout, theirs.stdout)


@pytest.mark.parametrize("levels", [{1: "high", "supersystem": "cheap"}, {1: "high"}], ids=named)
@pytest.mark.parametrize("nfr", [2, 3, 4])
def test_interaction_data_of_monomers_with_cp(nfr, levels):
    """With a supersystem QCManyBody has an answer; without, only for energies: its stand-in has no other property."""
    driver = "hessian" if "supersystem" in levels else "energy"
    numbers = numbers_of("ions", nfr, driver)
    spec = spec_of("ions", nfr, driver, levels=levels, bsse_type=["cp"], return_total_data=False)
    assert_equal(merged(mbexec.plan(spec), numbers), analyzed(spec, numbers))


@pytest.mark.parametrize("driver", ["energy", "gradient", "hessian"])
@pytest.mark.parametrize(("name", "nfr"), [("he4", 4), ("ions", 4), ("ions", 3), ("ions", 2)])
def test_supersystem_ie_only_is_qcmanybodys(name, nfr, driver):
    """Monomers and the whole cluster alone; of two fragments there is nothing between."""
    numbers = numbers_of(name, nfr, driver)
    for bsse, total in product((["nocp"], ["cp"], ["nocp", "cp"]), (True, False, None)):
        keywords = {"bsse_type": bsse, "return_total_data": total, "supersystem_ie_only": True}
        spec = spec_of(name, nfr, driver, levels={nfr: "high"}, **keywords)
        ours, theirs = merged(mbexec.plan(spec), numbers), analyzed(spec, numbers)
        assert_equal(ours, theirs)
        assert_same_table(ours.stdout, theirs.stdout)


@pytest.mark.parametrize("driver", ["energy", "gradient", "hessian"])
@pytest.mark.parametrize("max_nbody", [1, 2, 3, 4, None])
def test_max_nbody_without_levels_is_qcmanybodys(max_nbody, driver):
    """One model chemistry without a name, each driver's own default of return_total_data."""
    numbers = {label.replace('"high"', '"(auto)"'): values for label, values in numbers_of("ions", 4, driver).items()}
    for bsse in TREATMENTS:
        if (bsse, max_nbody, driver) != (["cp"], 1, "energy"):
            spec = spec_of("ions", 4, driver, bsse_type=bsse, max_nbody=max_nbody)
            assert_equal(merged(mbexec.plan(spec), numbers), analyzed(spec, numbers))


@pytest.mark.parametrize("without", [("high", "low"), ("high",)], ids="+".join)
def test_hessians_of_programs_that_give_no_gradient(without):
    """A gradient that not all fragments have is left out: as QCManyBody does, or where it stops, as without any."""
    numbers = numbers_of("ions", 3, "hessian")
    spec = spec_of("ions", 3, "hessian", levels={1: "high", 3: "low"}, bsse_type=["nocp", "cp"])
    given = {
        label: {k: v for k, v in values.items() if k != "gradient" or json.loads(label)[0] not in without}
        for label, values in numbers.items()
    }
    if len(without) < 2:
        with pytest.raises(KeyError):
            analyzed(spec, given)
    none = {label: {k: v for k, v in values.items() if k != "gradient"} for label, values in numbers.items()}
    assert_equal(merged(mbexec.plan(spec), given), analyzed(spec, none))


# What is refused: every contradiction, whatever else is asked for

SUPERSYSTEM = {"supersystem": "cheap"}
ODD = [
    {3: "high", **SUPERSYSTEM},
    {1: "high", 3: "low", **SUPERSYSTEM},
    {**SUPERSYSTEM},
    {0: "high", 3: "low"},
    {1: "high", 4: "low"},
    {1: "high", 2: "high"},
    {1: "high", "supersystem": "high"},
]


def contradiction(levels, max_nbody, bsse, whole_only):
    """How the sentence begins that says what can't be for three fragments, or None if all is well."""
    whole = 3 if max_nbody is None else max_nbody
    numbers = [n for n in levels or {whole: ""} if n != "supersystem"]
    if not numbers:
        return f"levels = {levels} has the supersystem alone"
    if min(numbers) < 1 or max(numbers) > 3:
        given = f"levels = {levels}" if levels else f"max_nbody = {whole}"
        return f"{given} must lie between 1 and the 3 fragments that there are."
    if levels and max_nbody not in (None, max(numbers)):
        return f"max_nbody = {max_nbody} contradicts levels, which end at {max(numbers)}."
    if levels and len(set(levels.values())) < len(levels):
        return f"levels = {levels} names a model chemistry twice"
    if levels and "supersystem" in levels and 3 in levels:
        return "levels reach all 3 fragments, so the supersystem adds nothing; leave one out."
    if whole_only and max(numbers) < 3:
        return "supersystem_ie_only needs max_nbody, or the highest of levels, to be the number of fragments; change"
    if whole_only and "vmfc" in bsse:
        return "supersystem_ie_only saves nothing with vmfc; use cp or nocp, or leave it out."
    if whole_only and levels and len(levels) > 1:
        return f"supersystem_ie_only has one model chemistry, but levels = {levels} has several"
    return None


@pytest.mark.parametrize("levels", [None, *schemes(3), *ODD], ids=lambda levels: named(levels) if levels else "none")
def test_what_contradicts_itself_is_refused_and_nothing_else(levels):
    """Every max_nbody, treatment and supersystem_ie_only: a plan, or the sentence for what is wrong."""
    for max_nbody, bsse, whole_only in product((None, -1, 0, 1, 2, 3, 4), TREATMENTS, (False, True)):
        keywords = {"levels": levels, "max_nbody": max_nbody, "bsse_type": bsse, "supersystem_ie_only": whole_only}
        spec = spec_of("ions", 3, "energy", **keywords)
        sentence = contradiction(levels, max_nbody, bsse, whole_only)
        if sentence is None:
            assert len(mbexec.plan(spec)) > 0 or (bsse, max_nbody or 1) == (["cp"], 1)
        else:
            with pytest.raises(InputError) as refused:
                mbexec.plan(spec)
            assert str(refused.value).startswith(sentence)
