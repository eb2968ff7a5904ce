"""What is refused, and in what words."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest
from mbexec_tblite import TBLiteHarness, calculator, harness
from mbexec_tblite.system import _VALENCES
from qcengine.exceptions import ConvergenceError, InputError, UnknownError
from tblite.exceptions import TBLiteRuntimeError
from tblite.interface import Calculator

pytestmark = pytest.mark.qc

KEYWORDS = [
    (
        {"acuracy": 1.0},
        "tblite takes no keyword 'acuracy' here. Did you mean 'accuracy'? Known keywords: accuracy, max_iter, elec",
    ),
    ({"max-iter": 9}, "tblite takes no keyword 'max-iter' here. Did you mean 'max_iter'?"),
    ({"temperature": 300.0}, "Did you mean 'electronic_temperature'?"),
    ({"xyzzy": 1}, "tblite takes no keyword 'xyzzy' here. Known keywords: accuracy"),
    ({"accuracy": 0}, "The keyword accuracy cannot be 0: it takes a positive number."),
    ({"accuracy": "tight"}, "The keyword accuracy cannot be 'tight': it takes a positive number."),
    ({"accuracy": float("nan")}, "The keyword accuracy cannot be nan: it takes a positive number."),
    ({"accuracy": True}, "The keyword accuracy cannot be True: it takes a positive number."),
    ({"max_iter": 0}, "The keyword max_iter cannot be 0: it takes a whole number of at least 1."),
    ({"max_iter": 2.5}, "The keyword max_iter cannot be 2.5: it takes a whole number of at least 1."),
    ({"max_iter": 2**31}, "The keyword max_iter cannot be 2147483648: it takes a whole number of at least 1."),
    (
        {"electronic_temperature": -1},
        "The keyword electronic_temperature cannot be -1: it takes a positive number, in K.",
    ),
    ({"verbosity": 10}, "The keyword verbosity cannot be 10: it takes a whole number from 0 (quiet) to 9."),
]

ELECTRONS = [
    (1, 1, "Charge 1 and multiplicity 1 are impossible with 7 valence electrons; the multiplicity is one more than"),
    (0, 2, "Charge 0 and multiplicity 2 are impossible with 8 valence electrons"),
    (0, 11, "Charge 0 and multiplicity 11 are impossible with 8 valence electrons"),
    (10, 1, "Charge 10 and multiplicity 1 are impossible with -2 valence electrons"),
    (0, 0, "Charge 0 and multiplicity 0 are impossible with 8 valence electrons"),
    (0, 7, "Charge 0 and multiplicity 7 are impossible: the 8 valence electrons do not fit into 6 orbitals with 6 of"),
    (-6, 1, "Charge -6 and multiplicity 1 are impossible: the 14 valence electrons do not fit into 6 orbitals with 0"),
    (0.5, 1, "xTB needs a whole charge and multiplicity, and the molecule has 0.5 and 1."),
    (0, 1.5, "xTB needs a whole charge and multiplicity, and the molecule has 0 and 1.5."),
]


@pytest.mark.parametrize(("keywords", "sentence"), KEYWORDS)
def test_keywords(fragment, compute, keywords, sentence):
    """A keyword that is unknown or of the wrong kind is refused."""
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(fragment(), keywords=keywords)


@pytest.mark.parametrize("method", ["gfn3-xtb", "gfn2", "hf", ""])
def test_method(fragment, compute, method):
    """A method that tblite lacks is refused with those it has."""
    sentence = f"tblite knows no method {method!r}. Use one of GFN1-xTB, GFN2-xTB, IPEA1-xTB."
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(fragment(), method)


def test_basis(fragment, compute):
    """A basis is refused, an empty one is none."""
    sentence = "GFN2-xTB brings its own basis, and model.basis is 'sto-3g'; leave the basis out."
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(fragment(), basis="sto-3g")
    assert compute(fragment(), basis="").success


@pytest.mark.parametrize("driver", ["hessian", "properties"])
def test_driver(fragment, compute, driver):
    """A driver that is not offered is refused with those that are."""
    sentence = f"There is no {driver} of xTB here; available: energy, gradient."
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(fragment(), driver=driver)


def test_wavefunction(fragment, compute):
    """A wavefunction cannot be asked for."""
    with pytest.raises(InputError, match="The protocol wavefunction='all' is not supported with tblite"):
        compute(fragment(), protocols={"wavefunction": "all"})


def test_only_ghosts(fragment, compute):
    """A molecule of ghosts only is refused: nothing is left of it."""
    molecule = fragment(real=[False] * 3)
    with pytest.raises(InputError, match=r"All atoms of the molecule \(O, H, H\) are ghosts, and xTB leaves ghosts"):
        compute(molecule)


@pytest.mark.parametrize(("charge", "multiplicity", "sentence"), ELECTRONS)
def test_charge_and_multiplicity(fragment, compute, charge, multiplicity, sentence):
    """Charge and multiplicity that the valence electrons and orbitals cannot have are refused before tblite runs."""
    fields = {"molecular_charge": charge, "molecular_multiplicity": multiplicity}
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(fragment((1,), (1, 2)).model_copy(update=fields))


def test_heavy_element(fragment, compute):
    """An element without parameters is refused by its name, a ghost of it is not."""
    fields = {"symbols": ["O", "H", "U"], "molecular_multiplicity": 2}
    sentence = "xTB has parameters up to radon, and the molecule contains 'U'; use another program."
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(fragment(**fields))
    assert compute(fragment(**fields, real=[True, True, False])).success


def test_atoms_too_close(fragment, compute):
    """What tblite says against a geometry is kept, with what to look at."""
    molecule = fragment().model_copy(update={"geometry": np.zeros((3, 3))})
    sentence = "tblite refuses the molecule: Too close interatomic distances found. Look at its geometry"
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(molecule)


def test_unconverged(fragment, compute):
    """An SCF that does not converge says what to try, and the error pickles."""
    sentence = (
        "tblite's SCF of GFN2-xTB did not converge in 2 iterations (accuracy=0.001). Raise max_iter or "
        "electronic_temperature, or loosen accuracy."
    )
    with pytest.raises(ConvergenceError, match=re.escape(sentence)) as failure:
        compute(fragment(), keywords={"max_iter": 2})
    assert isinstance(failure.value.__cause__, TBLiteRuntimeError)
    assert str(pickle.loads(pickle.dumps(failure.value))) == str(failure.value)


def test_whatever_tblite_raises(fragment, compute, monkeypatch):
    """Another failure of tblite keeps its words and its cause."""
    raised = TBLiteRuntimeError("the library is haunted")

    def singlepoint(_):
        raise raised

    monkeypatch.setattr(calculator.Calculator, "singlepoint", singlepoint)
    with pytest.raises(UnknownError, match="tblite failed in GFN2-xTB: the library is haunted") as failure:
        compute(fragment())
    assert failure.value.__cause__ is raised


@pytest.mark.parametrize("method", calculator.METHODS)
def test_valence_electrons(method):
    """The valence electrons of every element are counted as tblite counts them."""
    for number in range(1, 87):
        atom = Calculator(method, np.array([number]), np.zeros((1, 3)), uhf=_VALENCES[number] % 2)
        atom.set("verbosity", 0)
        # Hot, so that every atom converges.
        atom.set("temperature", 0.1)
        occupations = atom.singlepoint().get("orbital-occupations")
        assert occupations.sum() == pytest.approx(_VALENCES[number], abs=1e-6), number


def test_not_installed(monkeypatch):
    """Without tblite the error names the command that brings it."""
    which_import = harness.which_import
    monkeypatch.setattr(harness, "which_import", lambda _, **kwargs: which_import("no_such_module", **kwargs))
    assert not TBLiteHarness.found()
    with pytest.raises(ModuleNotFoundError, match="pip install mbexec-tblite"):
        TBLiteHarness.found(raise_error=True)
