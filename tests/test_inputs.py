"""What reaches a program that is not here: a command that is none records its input and answers in its format."""

import os
import sys
from textwrap import dedent

import numpy as np
import pytest

import mbexec
from mbexec.core.messages import gist
from tests.systems import job

# A cation, a radical and a molecule that is neither.
CLUSTER = """
1 1
Li 0.0 0.0 0.0
--
0 2
O 0.0 0.0 2.1
H 0.0 0.8 2.6
--
He 2.4 0.0 0.3
"""

# Reads ZMAT and prints what QCEngine looks for in CFOUR's output: -1 E_h for each atom, -0.01 E_h for each ghost.
XCFOUR = """\
    #!{python}
    import os, pathlib
    print(" Version 2.1")
    text = pathlib.Path("ZMAT").read_text()
    lines = text.splitlines()
    atoms = [line.split() for line in lines[1:lines.index("", 1)]]
    if len(atoms[0]) == 4:
        with open(os.environ["SEEN"] + "/" + str(len(os.listdir(os.environ["SEEN"]))), "w") as file:
            file.write(text)
        numbers = {{"LI": 3, "O": 8, "H": 1, "HE": 2}}
        print("  Symbol    Number           X              Y              Z")
        print("  " + "-" * 60)
        for symbol, *place in atoms:
            ghost = symbol == "GH"
            number = "***" if ghost else numbers[symbol.upper()]
            print("     ", "X" if ghost else symbol.upper(), "   ", number, *("%15.8f" % float(x) for x in place))
        print("  " + "-" * 60)
        energy = -sum(0.01 if atom[0] == "GH" else 1 for atom in atoms)
        print(f"  E(SCF)=      {{energy:.10f}}       0.1000000000D-08")
"""


@pytest.fixture
def seen(tmp_path, monkeypatch):
    """Put an xcfour that is none first on the path; gives the folder where it leaves its inputs."""
    for name in ("bin", "basis", "seen"):
        (tmp_path / name).mkdir()
    (tmp_path / "basis" / "GENBAS").write_text("no basis set\n")
    command = tmp_path / "bin" / "xcfour"
    command.write_text(dedent(XCFOUR).format(python=sys.executable))
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=os.pathsep)
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    return tmp_path / "seen"


def inputs(folder):
    """What was asked for, by the symbols of the atoms in order: lines of the molecule, keywords, basis sets."""
    found = {}
    for path in folder.iterdir():
        molecule, _, rest = path.read_text().partition("\n\n")
        keywords, _, basis = rest.partition(")")
        atoms = [line.split() for line in molecule.splitlines()[1:]]
        pairs = dict(line.split("=") for line in keywords.strip().removeprefix("*CFOUR(").splitlines())
        found[" ".join(atom[0] for atom in atoms)] = (atoms, pairs, basis.split())
    return found


# Charge and multiplicity of each fragment, by the symbols that CFOUR is given; GH is a ghost.
ALONE = {"Li": ("1", "1"), "O H": ("0", "2"), "He": ("0", "1")}
GHOSTED = {"Li GH GH GH": ("1", "1"), "GH O H GH": ("0", "2"), "GH GH GH He": ("0", "1")}
PAIRS = {"Li O H GH": ("1", "2"), "Li GH GH He": ("1", "1"), "GH O H He": ("0", "2")}


def test_cfour(seen):
    """Ghosts, charge, multiplicity, basis, method and keywords of each fragment stand in CFOUR's own input."""
    table = {"program": "cfour", "method": "ccsd(t)", "basis": "6-31g*"}
    table["keywords"] = {"reference": "uhf", "scf_conv": 9}
    tables = job(CLUSTER, bsse="cp", max_nbody=2, program=table, return_total_data=True)
    found = mbexec.run({**tables, "task": {"memory": 0.5}}, executor="serial")
    assert found.result.success, found.result.error.error_message
    asked = inputs(seen)
    assert sorted(asked) == sorted([*ALONE, *GHOSTED, *PAIRS])
    for name, state in (ALONE | GHOSTED | PAIRS).items():
        atoms, keywords, basis = asked[name]
        assert (keywords["CHARGE"], keywords["MULTIPLICITY"]) == state
        if name in ALONE:
            assert (keywords["BASIS"], basis) == ("6-31G*", [])
        else:
            assert (keywords["BASIS"], basis) == ("SPECIAL", ["LI:6-31G*", "O:6-31G*", "H:6-31G", "HE:6-31G*"])
            places = np.array([[float(x) for x in atom[1:]] for atom in atoms])
            np.testing.assert_allclose(places, found.plan.spec.molecule.geometry, rtol=0, atol=1e-8)
    common = {"CALC_LEVEL": "CCSD[T]", "DERIV_LEVEL": "ZERO", "REFERENCE": "UHF", "SCF_CONV": "9", "UNITS": "BOHR"}
    memory = {"MEMORY_SIZE": str(2**29 // 8), "MEM_UNIT": "INTEGERWORDS"}
    assert all(common.items() <= keywords.items() for _, keywords, _ in asked.values())
    assert all(memory.items() <= keywords.items() for _, keywords, _ in asked.values())


def test_cfour_answers(seen):
    """What CFOUR prints comes back under each fragment's label: an energy by its atoms and its ghosts."""
    table = {"program": "cfour", "method": "hf", "basis": "6-31g"}
    found = mbexec.run(job(CLUSTER, bsse="cp", program=table, return_total_data=True), executor="serial")
    sizes = [1, 2, 1]
    for task, energy in zip(found.plan, found.energies, strict=True):
        real = sum(sizes[i - 1] for i in task.frag)
        ghosts = sum(sizes[i - 1] for i in task.bas) - real
        assert energy == pytest.approx(-real - 0.01 * ghosts, abs=1e-9)


@pytest.mark.parametrize(
    ("code", "message"), [(0, "no license for CFOUR"), (1, "CFOUR ended with an error and gave no result.")]
)
def test_cfour_fails(seen, code, message):
    """A CFOUR that stops without output is a failed fragment: what it said last, or that QCEngine gives nothing."""
    command = seen.parent / "bin" / "xcfour"
    command.write_text(f"#!/bin/sh\necho 'no license for CFOUR' >&2\nexit {code}\n")
    table = {"program": "cfour", "method": "hf", "basis": "6-31g"}
    found = mbexec.run(job(CLUSTER, bsse="nocp", max_nbody=1, program=table), executor="serial")
    failed = found.result.error.extras["failed"]
    assert [entry["error_type"] for entry in failed] == ["unknown_error"] * 3
    assert {gist(entry["error_message"]) for entry in failed} == {message}
