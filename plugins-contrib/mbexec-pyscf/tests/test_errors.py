"""What is refused, and in what words."""

from __future__ import annotations

import pickle
import re

import pytest
from mbexec_pyscf import PySCFHarness, correlation, harness
from pyscf import scf
from qcengine.exceptions import ConvergenceError, InputError, RandomError, ResourceError, UnknownError

pytestmark = pytest.mark.qc

KEYWORDS = [
    (
        {"conv_tl": 1e-8},
        "PySCF takes no keyword 'conv_tl'. Did you mean 'conv_tol'? Known keywords: reference, conv_tol,",
    ),
    ({"MAX_CYCLE": 3}, "PySCF takes no keyword 'MAX_CYCLE'. Did you mean 'max_cycle'?"),
    ({"xyzzy": 1}, "PySCF takes no keyword 'xyzzy'. Known keywords: reference"),
    ({"max_memory": 1}, "max_memory is not a keyword: PySCF gets the memory of the task configuration"),
    ({"conv_tol": 0}, "The keyword conv_tol cannot be 0: it takes a positive number."),
    ({"conv_tol": "tight"}, "The keyword conv_tol cannot be 'tight': it takes a positive number."),
    ({"conv_tol": float("nan")}, "The keyword conv_tol cannot be nan: it takes a positive number."),
    ({"max_cycle": 0}, "The keyword max_cycle cannot be 0: it takes a whole number of at least 1."),
    ({"max_cycle": 2.5}, "The keyword max_cycle cannot be 2.5: it takes a whole number of at least 1."),
    ({"max_cycle": True}, "The keyword max_cycle cannot be True: it takes a whole number of at least 1."),
    ({"cart": "yes"}, "The keyword cart cannot be 'yes': it takes true or false."),
    ({"damp": 1.0}, "The keyword damp cannot be 1.0: it takes a number from 0 up to, not including, 1."),
    ({"level_shift": -1}, "The keyword level_shift cannot be -1: it takes a number of at least 0, in E_h."),
    ({"init_guess": "core"}, "The keyword init_guess cannot be 'core': it takes one of minao, atom, huckel, 1e."),
    ({"reference": "ghf"}, "The keyword reference cannot be 'ghf': it takes one of rhf, uhf, rohf, rks, uks, roks."),
    ({"grids_level": 10}, "The keyword grids_level cannot be 10: it takes a whole number from 0 to 9."),
    ({"grids_atom_grid": [75, 300]}, "The keyword grids_atom_grid cannot be [75, 300]: it takes a number of radial"),
    ({"grids_atom_grid": 75}, "The keyword grids_atom_grid cannot be 75: it takes a number of radial"),
    (
        {"auxbasis": 1, "density_fit": True},
        "The keyword auxbasis cannot be 1: it takes the name of an auxiliary basis.",
    ),
    ({"auxbasis": "weigend"}, "The keyword auxbasis='weigend' is used only with density fitting; add density_fit=true"),
]

METHODS = [
    ("xyzzy", {}, "PySCF knows no method 'xyzzy'. Use hf (or scf, rhf, uhf, rohf), mp2, ccsd, ccsd(t), or a density"),
    ("ccsdt", {}, "PySCF knows no method 'ccsdt'."),
    ("b2plyp", {}, "PySCF knows no method 'b2plyp'."),
    ("", {}, "PySCF knows no method ''."),
    ("402", {}, "PySCF knows no method '402'."),
    ("b3lyp-d3bj", {}, "The method 'b3lyp-d3bj' asks for a dispersion correction, which is not offered here; run the"),
    ("wb97x-d", {}, "The method 'wb97x-d' asks for a dispersion correction"),
    ("b97_d", {}, "The method 'b97_d' asks for a dispersion correction"),
    ("r2scan-3c", {}, "The method 'r2scan-3c' asks for a dispersion correction"),
    ("uhf", {"reference": "rhf"}, "The method 'uhf' contradicts reference='rhf'; give the method as 'hf'"),
    ("mp2", {"reference": "uks"}, "reference='uks' goes with a density functional, and the method is 'mp2'"),
    ("mp2", {"reference": "rohf"}, "mp2 with reference='rohf' is not offered; use 'rhf' for singlets or 'uhf'."),
]

DRIVERS = [
    (
        "ccsd(t)",
        "gradient",
        {"reference": "uhf"},
        "There is no gradient of ccsd(t) (uhf reference) here; available: energy.",
    ),
    (
        "hf",
        "properties",
        {},
        "There is no properties of hf (rhf reference) here; available: energy, gradient, hessian.",
    ),
    ("rohf", "hessian", {}, "There is no hessian of hf (rohf reference) here; available: energy, gradient."),
    ("mp2", "hessian", {}, "There is no hessian of mp2 (rhf reference) here; available: energy, gradient."),
    (
        "mp2",
        "gradient",
        {"density_fit": True},
        "There is no gradient of mp2 (rhf reference with density fitting) here; available: energy.",
    ),
]


@pytest.mark.parametrize(("keywords", "sentence"), KEYWORDS)
def test_keywords(fragment, compute, keywords, sentence):
    """A keyword that is unknown, of the wrong kind or without effect is refused."""
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(fragment(), keywords=keywords)


@pytest.mark.parametrize(("method", "keywords", "sentence"), METHODS)
def test_methods(fragment, compute, method, keywords, sentence):
    """A method that PySCF lacks, or that its reference contradicts, is refused with what there is."""
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(fragment(), method, keywords=keywords)


def test_built_in_dispersion(fragment, compute, monkeypatch):
    """A functional that PySCF corrects for dispersion under a plain name, as cf22d, is refused too."""
    monkeypatch.setattr(scf.hf.SCF, "do_disp", lambda _: True)
    with pytest.raises(InputError, match="The functional 'svwn' includes a dispersion correction"):
        compute(fragment(), "svwn")


@pytest.mark.parametrize("method", ["hf", "pbe"])
def test_restricted_open_shell(fragment, compute, method):
    """A restricted reference is refused for an open shell."""
    molecule = fragment(molecular_charge=1, molecular_multiplicity=2)
    sentence = "A restricted reference needs a singlet, and the multiplicity is 2; use reference='uhf' or 'rohf'."
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(molecule, method, keywords={"reference": "rhf"})


@pytest.mark.parametrize(("method", "driver", "keywords", "sentence"), DRIVERS)
def test_drivers(fragment, compute, method, driver, keywords, sentence):
    """A derivative that is not to be had is refused with those that are."""
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(fragment(), method, driver=driver, keywords=keywords)


@pytest.mark.parametrize(
    ("basis", "sentence"),
    [
        ("no-such-basis", "PySCF has no basis 'no-such-basis' for element 'O': the name is unknown, or the set lacks"),
        ("6-31g(zz)", "PySCF has no basis '6-31g(zz)' for element 'O'"),
        ("lanl08", "PySCF has no basis 'lanl08' for element 'O'"),
        ("./sto-3g.dat", "The basis './sto-3g.dat' is a path or a text; give a basis set that PySCF knows by name."),
        ("", "PySCF needs a basis set by name, and model.basis is ''; give a string such as 'cc-pvdz'."),
        (None, "PySCF needs a basis set by name, and model.basis is None; give a string such as 'cc-pvdz'."),
    ],
)
def test_basis(fragment, compute, basis, sentence):
    """A basis that PySCF does not know by name, or not for an element, is refused by both names."""
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(fragment(), basis=basis)


def test_auxiliary_basis(fragment, compute):
    """An auxiliary basis that PySCF lacks is refused by its name."""
    with pytest.raises(InputError, match=r"PySCF has no basis 'no-such-fit' for element '[OH]'"):
        compute(fragment((1,), (1, 2)), keywords={"density_fit": True, "auxbasis": "no-such-fit"})


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"molecular_charge": 1}, "Charge 1 and multiplicity 1 are impossible with 9 electrons; the multiplicity"),
        ({"molecular_multiplicity": 13}, "Charge 0 and multiplicity 13 are impossible with 10 electrons"),
        ({"molecular_charge": 11, "molecular_multiplicity": 2}, "are impossible with -1 electrons"),
        ({"molecular_charge": 0.5}, "PySCF needs a whole charge and multiplicity, and the molecule has 0.5 and 1"),
    ],
)
def test_charge_and_multiplicity(fragment, compute, fields, sentence):
    """Charge and multiplicity that the real atoms cannot have are refused."""
    molecule = fragment((1,), (1, 2)).model_copy(update=fields)
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(molecule)


def test_wavefunction(fragment, compute):
    """A wavefunction cannot be asked for."""
    with pytest.raises(InputError, match="The protocol wavefunction='all' is not supported with PySCF"):
        compute(fragment(), protocols={"wavefunction": "all"})


@pytest.mark.parametrize("second_order", [False, True])
def test_unconverged_scf(fragment, compute, second_order):
    """An SCF that does not converge says how far it came and what to try, and the error pickles."""
    sentence = (
        r"PySCF's rhf SCF of pbe did not converge in 2 iterations: the energy last changed by -?\d\.\d\de-\d\d E_h "
        r"\(conv_tol=1e-10\) with an orbital gradient of \d\.\d\de-\d\d \(conv_tol_grad=1e-07\)\. Raise max_cycle"
    )
    with pytest.raises(ConvergenceError, match=sentence) as failure:
        compute(fragment(), "pbe", keywords={"max_cycle": 2, "grids_level": 0, "second_order": second_order})
    assert str(pickle.loads(pickle.dumps(failure.value))) == str(failure.value)


def test_unconverged_coupled_cluster(fragment, compute):
    """Coupled cluster that does not converge says how far it came."""
    sentence = (
        r"PySCF's CCSD did not converge in 3 iterations: the energy last changed by -?\d\.\d\de-\d\d E_h "
        r"\(cc_conv_tol=1e-10\)\. Raise cc_max_cycle"
    )
    with pytest.raises(ConvergenceError, match=sentence):
        compute(fragment(), "ccsd", keywords={"cc_max_cycle": 3})


def test_unconverged_lambda(fragment, compute, monkeypatch):
    """A coupled-cluster gradient whose Lambda equations do not converge is no gradient."""
    monkeypatch.setattr(correlation.ccsd_t_lambda, "kernel", lambda *_, **__: (False, None, None))
    sentence = "PySCF's coupled-cluster Lambda equations did not converge in 100 iterations (cc_conv_tol_normt=1e-08)."
    with pytest.raises(ConvergenceError, match=re.escape(sentence)):
        compute(fragment(), "ccsd(t)", driver="gradient")


@pytest.mark.parametrize(
    ("raised", "kind", "sentence"),
    [
        (NotImplementedError("no such thing"), InputError, "PySCF cannot do the energy of hf/sto-3g"),
        (MemoryError("2 GB"), ResourceError, "PySCF ran out of memory in the energy of hf/sto-3g (2 GB); raise"),
        (OSError("disk full"), RandomError, "PySCF could not read or write a file in the energy of hf/sto-3g: disk"),
        (ValueError("odd"), UnknownError, "PySCF failed in the energy of hf/sto-3g: ValueError: odd"),
    ],
)
def test_whatever_pyscf_raises(fragment, compute, monkeypatch, raised, kind, sentence):
    """What PySCF raises becomes QCEngine's error of that kind, with the task named and the cause kept."""

    def run_scf(*_):
        raise raised

    monkeypatch.setattr(harness, "run_scf", run_scf)
    with pytest.raises(kind, match=re.escape(sentence)) as failure:
        compute(fragment())
    assert failure.value.__cause__ is raised


def test_not_installed(monkeypatch):
    """Without PySCF the error names the command that brings it."""
    which_import = harness.which_import
    monkeypatch.setattr(harness, "which_import", lambda _, **kwargs: which_import("no_such_module", **kwargs))
    assert not PySCFHarness.found()
    with pytest.raises(ModuleNotFoundError, match="pip install mbexec-pyscf"):
        PySCFHarness.found(raise_error=True)


def test_a_file_with_the_name_of_a_basis(fragment, compute, tmp_path, monkeypatch):
    """PySCF would read it, whatever is in it, in place of its own set, and nobody would notice."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dzp").write_text("O    S\n 1.0 1.0\n")
    sentence = (
        "In the working directory there is a file 'dzp', which PySCF would take for the basis; move or rename it, and "
        "give a basis set that PySCF knows by name."
    )
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(fragment(), basis="dzp")
