"""What QCManyBody 0.8 ships: its component data, and its tests of computers, which mbexec must pass in its place."""

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import qcmanybody
import zstandard
from qcmanybody.models.v2 import ManyBodyInput
from qcmanybody.tests.common import mol_h2o_3

import mbexec
from tests.oracle import analyzed, assert_equal, assert_same_table, merged

ROOT = Path(__file__).parents[1]
SHIPPED = Path(qcmanybody.__file__).parent / "tests"
ALL = ["cp", "nocp", "vmfc"]
ENERGY = {1: "e_mp2", 2: "e_b3lyp"}
GRADIENT = {1: "g_mp2", 2: "g_b3lyp"}
HESSIAN = {1: "h_scf_atz", 2: "h_scf_adz"}
COMPONENTS = {
    "single_energy_1": ({3: "e_scf"}, "single_gradient_1"),
    "single_energy_2": ({2: "e_scf"}, "single_gradient_2"),
    "single_gradient_1": ({3: "g_scf"}, "single_gradient_1"),
    "single_gradient_2": ({2: "g_scf"}, "single_gradient_2"),
    "single_hessian_1": ({3: "h_scf"}, "single_hessian_1"),
    "single_hessian_2": ({2: "h_scf"}, "single_hessian_2"),
    "multi_energy_1": ({**ENERGY, 3: "e_scf"}, "multi_gradient_1"),
    "multi_energy_2": (ENERGY, "multi_gradient_2"),
    "multi_gradient_1": ({**GRADIENT, 3: "g_scf"}, "multi_gradient_1"),
    "multi_gradient_2": (GRADIENT, "multi_gradient_2"),
    "multi_hessian_1": ({**HESSIAN, 3: "h_scf"}, None),
    "multi_hessian_2": (HESSIAN, None),
    "multi_ss_energy_1": ({**ENERGY, "supersystem": "e_scf"}, "multi_ss_gradient_1"),
    "multi_ss_energy_2": ({1: "e_mp2", "supersystem": "e_scf"}, "multi_ss_gradient_2"),
    "multi_ss_gradient_1": ({**GRADIENT, "supersystem": "g_scf"}, "multi_ss_gradient_1"),
    "multi_ss_gradient_2": ({1: "g_mp2", "supersystem": "g_scf"}, "multi_ss_gradient_2"),
    "multi_ss_hessian_1": ({**HESSIAN, "supersystem": "h_scf"}, None),
    "multi_ss_hessian_2": ({1: "h_scf_atz", "supersystem": "h_scf"}, None),
}


@cache
def shipped(folder, name):
    """A file of data, lists of numbers as arrays."""
    with zstandard.open(SHIPPED / folder / f"h2o_trimer_{name}.json.zst", "rt") as file:
        return json.load(file, object_hook=lambda table: {key: _array(value) for key, value in table.items()})


def _array(value):
    return np.array(value) if isinstance(value, list) else value


def spec_of(name):
    """The many-body input that a file of component data belongs to."""
    levels, _ = COMPONENTS[name]
    driver = name.split("_")[-2]
    chemistry = {"program": "psi4", "driver": driver, "model": {"method": "hf", "basis": "sto-3g"}}
    return ManyBodyInput(
        molecule=mol_h2o_3,
        specification={
            "driver": driver,
            "keywords": {"bsse_type": ALL, "levels": levels, "return_total_data": True},
            "specification": dict.fromkeys(levels.values(), chemistry),
        },
    )


def test_all_component_data_are_here():
    """A file that a new release adds is not left out."""
    files = {path.name for path in (SHIPPED / "component_data").glob("*.json.zst")}
    assert files == {f"h2o_trimer_{name}.json.zst" for name in COMPONENTS}


@pytest.mark.parametrize("name", COMPONENTS)
def test_component_data_give_qcmanybodys_result(name):
    """The shipped fragments, merged, are QCManyBody's result in every field."""
    spec, numbers = spec_of(name), shipped("component_data", name)
    ours, theirs = merged(mbexec.plan(spec), numbers), analyzed(spec, numbers)
    assert_equal(ours, theirs)
    assert_same_table(ours.stdout, theirs.stdout)


TOTAL = re.compile(r"(?:(GRADIENT|HESSIAN) )?(\d)(CP|NOCP|VMFC)?")
RETURNED = re.compile(r"(?:CURRENT|RET)[ _](ENERGY|GRADIENT|HESSIAN)")
FRAGMENT = re.compile(r"(?:(GRADIENT|HESSIAN) )?1_\((\(.*\)), (\(.*\))\)|N-BODY (\(.*\))@(\(.*\)) TOTAL ENERGY")


def property_of(result, key):
    """What a name of psi4's stands for in a result; None for what the result does not hold."""
    properties = result.properties.model_dump()
    if key == "NBODY NUMBER":
        return properties["calcinfo_nmbe"]
    if found := RETURNED.fullmatch(key):
        return properties.get(f"return_{found[1].lower()}")
    if found := TOTAL.fullmatch(key):
        name, bsse = (found[1] or "energy").lower(), (found[3] or "cp").lower()
        return properties.get(f"{bsse}_corrected_total_{name}_through_{found[2]}_body")
    if found := FRAGMENT.fullmatch(key):
        frag, bas = ([int(n) for n in re.findall(r"\d", text)] for text in (found[2] or found[4], found[3] or found[5]))
        return property_of_fragment(result, (found[1] or "energy").lower(), frag, bas)
    return properties.get(key.lower().replace("-", "_").replace(" ", "_"))


def property_of_fragment(result, name, frag, bas):
    """As psi4 gives it: of the atoms that are there, not of the cluster."""
    (label,) = [label for label in result.cluster_properties if json.loads(label)[1:] == [frag, bas]]
    value = result.cluster_properties[label].model_dump().get(f"return_{name}")
    if value is None or name == "energy":
        return value
    atoms = np.concatenate([result.molecule.fragments[i - 1] for i in bas])
    rows = atoms if name == "gradient" else (3 * atoms[:, None] + np.arange(3)).ravel()
    return value[rows] if name == "gradient" else value[np.ix_(rows, rows)]


@pytest.mark.parametrize("name", [name for name, (_, reference) in COMPONENTS.items() if reference])
def test_component_data_give_the_shipped_reference(name):
    """Every number of the shipped reference, which psi4 added up itself, stands in the result."""
    result = merged(mbexec.plan(spec_of(name)), shipped("component_data", name))
    for key, value in shipped("ref_data", COMPONENTS[name][1]).items():
        found = property_of(result, key)
        if "_energy_" in name and ("GRADIENT" in key or "HESSIAN" in key):
            assert found is None
        else:
            np.testing.assert_allclose(np.ravel(found), np.ravel(value), rtol=0, atol=2e-8, err_msg=key)


# QCManyBody's own tests, in a pytest of their own


def outcomes(folder, *arguments, plugin=None):
    """Run QCManyBody's tests there; the number of passed and skipped ones, and what was routed through mbexec."""
    counts, report = folder / "counts.json", folder / "report.xml"
    plugins = [part for name in (plugin, "no:randomly", "no:cacheprovider") if name for part in ("-p", name)]
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir", folder, f"--junitxml={report}", *plugins]
    run = subprocess.run(
        [*command, "--tb=short", "--show-capture=no", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "ROUTED_COUNTS": str(counts), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    (suite,) = ElementTree.parse(report).getroot().iter("testsuite")
    total, skipped = int(suite.get("tests")), int(suite.get("skipped"))
    return total - skipped, skipped, json.loads(counts.read_text()) if counts.exists() else {}


def of(module):
    return ["--pyargs", f"qcmanybody.tests.test_{module}"]


WITHOUT_PROGRAMS = ["--pyargs", "qcmanybody.tests", "-m", "not addon"]


def test_the_suite_of_qcmanybody_is_green_beside_mbexec(tmp_path):
    """All of its tests that need no program pass with mbexec imported first, and none is skipped."""
    passed, skipped, _ = outcomes(tmp_path, *WITHOUT_PROGRAMS, plugin="mbexec")
    assert passed >= 300
    assert skipped == 0


@pytest.mark.nightly
def test_the_suite_of_qcmanybody_is_the_same_beside_mbexec(tmp_path):
    """As many tests pass as without mbexec."""
    beside, alone = (outcomes(tmp_path, *WITHOUT_PROGRAMS, plugin=plugin) for plugin in ("mbexec", None))
    assert beside == alone


ROUTED = "tests.shipped.routed"


@pytest.mark.qc
@pytest.mark.parametrize(
    ("module", "chosen", "passed"),
    [
        ("computer_he4_singlelevel", "1b or 2b_nocp", 72),
        ("computer_he4_multilevel", "supersys or (2b_cp_rtd and 121)", 12),
        ("computer_het4_gradient", "4b_nocp_rtd and not ee", 3),
    ],
    ids=["single level", "several levels", "gradients"],
)
def test_tests_of_computers_pass_through_mbexec(module, chosen, passed, tmp_path):
    """Tests of QCManyBody's computers pass when mbexec computes: psi4 and NWChem, both versions of QCSchema."""
    found, _, counts = outcomes(tmp_path, *of(module), "-k", f"({chosen}) and not cfour", plugin=ROUTED)
    assert found == passed
    assert counts["runs"] == passed


@pytest.mark.nightly
@pytest.mark.qc
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("module", "chosen", "passed"),
    [
        ("computer_he4_singlelevel", "not cfour", 270),
        ("computer_he4_multilevel", "not cfour", 378),
        ("examples", "highlevel", 1),
    ],
)
def test_all_tests_of_computers_pass_through_mbexec(module, chosen, passed, tmp_path):
    """The same, all of them but those for CFOUR."""
    found, skipped, counts = outcomes(tmp_path, *of(module), "-k", chosen, plugin=ROUTED)
    assert (found, skipped) == (passed, 0)
    assert counts["runs"] == passed
