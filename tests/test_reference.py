"""The reference data of tests/reference: fragments of PySCF called directly, sums by their definition."""

import json

import numpy as np
import pytest
import qcmanybody
from qcmanybody.models.v2 import ManyBodyInput

import mbexec
from tests.oracle import merged
from tests.reference import NAMES, load

CASES = [
    pytest.param(name, expansion, id=f"{name}-{place}")
    for name in NAMES
    for place, expansion in enumerate(load(name)["expansions"])
]
KEYWORDS = ("bsse_type", "levels", "return_total_data", "supersystem_ie_only")


@pytest.fixture(autouse=True)
def _without_qcmanybody(monkeypatch):
    """Nothing here is QCManyBody's algebra."""

    def refuse(*args, **kwargs):
        raise AssertionError("QCManyBody was asked")

    monkeypatch.setattr(qcmanybody.ManyBodyCore, "__init__", refuse)


def spec_of(name, expansion):
    """The many-body input of an expansion."""
    data = load(name)
    chemistries = {
        label: {"program": "pyscf", "driver": expansion["driver"], "model": data["chemistries"][label]}
        for label in expansion["levels"].values()
    }
    keywords = {key: expansion[key] for key in KEYWORDS if key in expansion}
    return ManyBodyInput(
        molecule=data["molecule"],
        specification={"driver": expansion["driver"], "keywords": keywords, "specification": chemistries},
    )


def properties_of(result):
    """Energies and gradients by name, those of the result and no other."""
    found = result.properties.model_dump()
    return {key: value for key, value in found.items() if not key.startswith(("calcinfo", "nuclear", "schema"))}


@pytest.mark.parametrize(("name", "expansion"), CASES)
def test_sums_are_exact(name, expansion):
    """From the same fragments every property is the sum in rational numbers, rounded once: the same bits."""
    numbers = {
        label: {"energy": values["energy"], "gradient": np.array(values["gradient"])}
        for label, values in load(name)["fragments"].items()
    }
    found = properties_of(merged(mbexec.plan(spec_of(name, expansion)), numbers))
    assert sorted(found) == sorted(expansion["properties"])
    for key, value in expansion["properties"].items():
        np.testing.assert_array_equal(found[key], value, err_msg=key)


@pytest.mark.qc
@pytest.mark.parametrize(("name", "place"), [("he4", 3), ("he4", 7), ("ions", 1), ("ions", 7)])
def test_runs_give_the_reference(name, place):
    """Fragments cut, given their ghosts and run by mbexec agree with those that were put together by hand."""
    expansion = load(name)["expansions"][place]
    found = mbexec.run(spec_of(name, expansion), executor="threads", reporters=[])
    fragments = load(name)["fragments"]
    wanted = [fragments[task.label]["energy"] for task in found.plan]
    np.testing.assert_allclose(found.energies, wanted, rtol=0, atol=1e-9)
    properties = properties_of(found.result)
    assert sorted(properties) == sorted(expansion["properties"])
    for key, value in expansion["properties"].items():
        np.testing.assert_allclose(properties[key], value, rtol=0, atol=1e-6 if "gradient" in key else 1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_is_complete(name):
    """Every set of fragments in every basis that holds it, for each of four model chemistries."""
    data = load(name)
    labels = [json.loads(label) for label in data["fragments"]]
    assert len(labels) == 4 * (3**4 - 2**4)
    assert {mc for mc, _, _ in labels} == set(data["chemistries"])
    assert len(data["expansions"]) == 8
