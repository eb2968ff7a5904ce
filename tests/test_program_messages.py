"""What is said of programs that are not there or refuse: a sentence that names the cause."""

import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import mbexec
from mbexec import ProgramError, cli
from mbexec.core.harness import find_harness
from mbexec.core.messages import gist, kind
from tests.systems import WATER_TRIMER, argon, job

JOB = f'''
[molecule]
geometry = """{WATER_TRIMER}"""
[mbe]
bsse_type = "nocp"
max_nbody = 2
[program]
%s
[run]
executor = "serial"
[task]
ncores = 1
memory = 1.0
'''

REFUSALS = [
    ("pyscf", "xyzzy", "sto-3g", "pyscf xyzzy/sto-3g: PySCF knows no method 'xyzzy'. Use hf"),
    ("pyscf", "hf", "xyzzy", "pyscf hf/xyzzy: PySCF has no basis 'xyzzy' for element 'O': the name is unknown"),
    ("tblite", "xyzzy", None, "tblite xyzzy: tblite knows no method 'xyzzy'. Use one of GFN1-xTB, GFN2-xTB"),
    ("tblite", "gfn2-xtb", "xyzzy", "tblite gfn2-xtb/xyzzy: GFN2-xTB brings its own basis, and model.basis is 'xyzzy'"),
    ("psi4", "xyzzy", "sto-3g", 'psi4 xyzzy/sto-3g: psi4 refuses the energy of xyzzy/sto-3g: Energy method "xyzzy"'),
    ("psi4", "hf", "xyzzy", "psi4 hf/xyzzy: psi4 refuses the energy of hf/xyzzy: BasisSet::construct: Unable to find"),
    ("nwchem", "xyzzy", "sto-3g", "nwchem xyzzy/sto-3g: Method not recognized: xyzzy"),
    ("nwchem", "hf", "xyzzy", "nwchem hf/xyzzy: bas_tag_lib: failed opening basis file; input error at line"),
    ("xtb", "xyzzy", None, "xtb xyzzy: Invalid method xyzzy provided in model"),
    ("mopac", "xyzzy", None, "mopac xyzzy: MOPAC does not have method: XYZZY"),
]
NO_WHEEL = pytest.mark.skipif(sys.version_info >= (3, 12), reason="there is no xtb for this Python")


@pytest.mark.qc
@pytest.mark.parametrize(
    ("program", "method", "basis", "words"),
    [pytest.param(*case, marks=NO_WHEEL if case[0] == "xtb" else []) for case in REFUSALS],
)
def test_an_unknown_method_or_basis_is_named_once(tmp_path, program, method, basis, words):
    """`mbexec run` shows one row for all fragments, without a traceback."""
    lines = [f'program = "{program}"', f'method = "{method}"', *([f'basis = "{basis}"'] if basis else [])]
    path = tmp_path / "job.toml"
    path.write_text(JOB % "\n".join(lines))
    done = CliRunner().invoke(cli.main, ["run", "-q", str(path)], env={"COLUMNS": "400"})
    assert done.exit_code == 1
    rows = [line for line in done.stdout.splitlines() if "_error " in line]
    assert len(rows) == 1
    assert words in " ".join(done.stdout.replace("and 5 more", "").split())
    assert "and 5 more" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("program", "how"),
    [
        ("mopac", r"Install it with: apt-get install mopac \(PyPI's mopac is something else\)\. QCEngine says: "),
        ("nwchem", r"Install it with: apt-get install nwchem, and pip install networkx\. QCEngine says: "),
        ("xtb", r"Install it with: pip install xtb\. QCEngine says: "),
        ("psi4", r"Install it with: apt-get install psi4, and pip install mbexec-psi4; or conda install psi4"),
        ("cfour", r".* Please install via http://cfour\.de/"),
    ],
)
def test_a_missing_program_is_named_with_its_install_line(monkeypatch, tmp_path, program, how):
    """Before anything runs."""
    from qcengine.programs import base

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, program, None)
    harness = type(base.programs[program])
    if program in ("xtb", "psi4"):
        found = harness.found
        monkeypatch.setattr(harness, "found", staticmethod(lambda raise_error=False: _missing(raise_error)))
        assert found is not harness.found
    with pytest.raises(ProgramError, match=f"^The program {program!r} is not installed here. {how}"):
        find_harness(program, None)


def _missing(raise_error):
    if raise_error:
        raise ModuleNotFoundError("Please install it.")
    return False


@pytest.mark.parametrize(("version", "fit"), [("1.3.2", False), ("1.4rc1", True), ("1.9", True)])
def test_a_psi4_that_qcengine_cannot_run_is_refused_before_the_run(monkeypatch, version, fit):
    """With the distribution that runs it."""
    from mbexec.core import harness

    psi4 = SimpleNamespace(name="Psi4", found=lambda raise_error: True, get_version=lambda: version)
    monkeypatch.setattr(harness, "_engine_harness", lambda _: psi4)
    if fit:
        assert find_harness("psi4", None) is psi4
        return
    with pytest.raises(ProgramError, match=r"^psi4 1\.3\.2 is too old for QCEngine, .* pip install mbexec-psi4$"):
        find_harness("psi4", None)


def test_a_program_that_is_missing_stops_before_planning_a_fragment(monkeypatch, tmp_path):
    """An exception, not failed fragments."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramError, match="'mopac' is not installed here"):
        mbexec.run(job(argon(3), program={"program": "mopac", "method": "pm7"}))


STAMPED = """QCEngine Unknown Error: INPUT:
echo the error of my ways

STDOUT:
 {stdout}

STDERR:
{stderr}

TRACEBACK:
{trace}
"""

GISTS = {
    "a sentence": ("QCEngine Input Error: No such method.", "No such method."),
    "a sentence without a header": ("No such method.", "No such method."),
    "nothing": (" \n", ""),
    "a traceback": (
        'QCEngine Execution Error:\nTraceback (most recent call last):\n  File "a.py"\nKeyError: 1\n',
        "KeyError: 1",
    ),
    "a sentence and more": (
        "psi4 failed: the moon is full.\nIt said nothing.\na long one",
        "psi4 failed: the moon is full.",
    ),
    "an output with errors": (
        STAMPED.format(
            stdout="hardfail = no\n ---\n x: failed   0\n ---\n Error termination", stderr="", trace="NoneType: None"
        ),
        "x: failed; Error termination",
    ),
    "an output with a place": (
        STAMPED.format(
            stdout=" x: unrecognized directive      0\n ---\n  current input line : \n     7:   foo 2\n",
            stderr="[0] ARMCI Error: 0:x: unrecognized directive:\nMPI_ABORT failed",
            trace="NoneType: None",
        ),
        "x: unrecognized directive; at 'foo 2'",
    ),
    "an output without a word of errors": (STAMPED.format(stdout="a\nb c", stderr="", trace="NoneType: None"), "b c"),
    "an output that is empty": (STAMPED.format(stdout="", stderr="", trace="KeyError: 2"), "The program said nothing."),
    "a whole output": (
        "*****\n ** MOPAC **\n THE CALCULATION FAILED TO CONVERGE\n bye",
        "THE CALCULATION FAILED TO CONVERGE",
    ),
}


@pytest.mark.parametrize(("message", "wanted"), GISTS.values(), ids=GISTS)
def test_gist(message, wanted):
    """Of a sentence, a traceback, or the whole output of a program, what tells the reader what is wrong."""
    assert gist(message) == wanted


@given(st.text(max_size=200))
def test_gist_of_anything(text):
    """Never fails, is one line, and is empty only where nothing is said."""
    assert len(gist(text).splitlines()) <= 1
    assert gist(STAMPED.format(stdout=text, stderr="", trace=""))


def test_kind():
    """Failures that differ in numbers or paths alone are of one kind."""
    assert kind("not converged: -5.06e-02 E_h after 3") == kind("not converged: 1E+3 E_h after 12")
    assert kind("No such file or directory: '/tmp/x/tmpa_b'") == kind("No such file or directory: '/tmp/x/tmpzu'")
    assert kind("no element 'U'") != kind("no element 'Pu'")
    assert kind("no hf/a") != kind("no hf/b")
