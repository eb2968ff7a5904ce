"""What is refused, by psi4 or before it runs, and in what words."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
from mbexec_psi4 import Psi4Harness
from qcelemental.models.v2 import BasisSet
from qcengine.exceptions import ConvergenceError, InputError, RandomError, ResourceError, UnknownError

pytestmark = pytest.mark.qc

CATION = {"molecular_charge": 1, "molecular_multiplicity": 2}
REFUSED = [
    (
        {"method": "xyzzy"},
        'psi4 refuses the energy of xyzzy/sto-3g: Energy method "xyzzy" is not available. Correct the method',
    ),
    (
        {"basis": "no-such"},
        "psi4 refuses the energy of hf/no-such: BasisSet::construct: Unable to find a basis set for atom 1 for key",
    ),
    ({"basis": None}, "psi4 refuses the energy of hf/None: Orbital basis argument must not be empty. Correct"),
    ({"keywords": {"xyzzy": 1}}, "psi4 refuses the energy of hf/sto-3g: xyzzy: XYZZY is not a valid option. Correct"),
    ({"keywords": {"scf_type": "odd"}}, "psi4 refuses the energy of hf/sto-3g: scf_type: ODD is not a valid choice."),
    ({"keywords": {"print": None}}, "hf/sto-3g: print: set_global_option(): incompatible function arguments. Correct"),
    ({"keywords": {"maxiter": "many"}}, "maxiter: many is not a number, and neither true nor false. Correct"),
    ({"keywords": {"cat__maxiter": 5}}, "cat__maxiter: Option MAXITER is not recognized by the CAT module. Correct"),
    (
        {"driver": "hessian", "method": "mp2"},
        "psi4 refuses the hessian of mp2/sto-3g: Derivative method 'name' mp2 and derivative level 'dertype' 2 are not",
    ),
    (
        {"driver": "gradient", "method": "fci"},
        "For finite differences give function_kwargs with another dertype.",
    ),
]
NOT_OFFERED = [
    ("mp2", {"mp2_type": "conv"}, "Frozen core/virtual not implemented in OCC module analytic gradients. Correct"),
    ("ccsd", {}, "Gradients/orbital relaxation involving frozen orbitals not yet available. Correct the method"),
]
REFUSED_MOLECULES = [
    (CATION, {"reference": "rhf"}, "RHF: RHF reference is only for singlets. Correct"),
    ({"molecular_charge": 1}, {}, "Inconsistent or unspecified chg/mult: sys chg: 1"),
]
BEFORE = [
    ({"driver": "properties"}, "There is no properties of psi4 here; available: energy, gradient, hessian."),
    ({"protocols": {"wavefunction": "all"}}, "The protocol wavefunction='all' is not supported with psi4; leave it at"),
    ({"keywords": {"basis": "6-31g"}}, "basis='6-31g' is not a keyword here; give it as the basis of the model."),
    (
        {"keywords": {"maxiter": 5, "MAXITER": 6}},
        "The keyword 'maxiter' is given twice, in different cases; psi4 ignores case, so give one.",
    ),
    (
        {"keywords": {"scf type": "pk"}},
        "psi4 can have no option named 'scf type'; give letters, digits and underscores",
    ),
    (
        {"keywords": {"function_kwargs": 1}},
        "The keyword function_kwargs cannot be 1: it takes a table of arguments of psi4's energy().",
    ),
]


@pytest.mark.usefixtures("psi4")
@pytest.mark.parametrize(("given", "sentence"), REFUSED)
def test_psi4_refuses(fragment, compute, given, sentence):
    """What psi4 refuses is an input error in psi4's words, without its file names and call stacks."""
    with pytest.raises(InputError, match=re.escape(sentence)) as failure:
        compute(fragment(), **given)
    assert "\n" not in str(failure.value)
    assert "/psi4/" not in str(failure.value)


@pytest.mark.usefixtures("psi4")
@pytest.mark.parametrize(("fields", "keywords", "sentence"), REFUSED_MOLECULES)
def test_psi4_refuses_molecules(fragment, compute, fields, keywords, sentence):
    """Charges, multiplicities and references that contradict each other are input errors in psi4's words."""
    molecule = fragment().model_copy(update=fields)
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(molecule, keywords=keywords)


@pytest.mark.usefixtures("psi4")
@pytest.mark.parametrize(("method", "keywords", "sentence"), NOT_OFFERED)
def test_not_offered(fragment, compute, method, keywords, sentence):
    """What psi4 finds out late, and says in its output only, is an input error all the same."""
    with pytest.raises(InputError, match=re.escape(f"psi4 refuses the gradient of {method}/sto-3g: {sentence}")):
        compute(fragment(), method, driver="gradient", keywords={"freeze_core": True} | keywords)


@pytest.mark.parametrize(("given", "sentence"), BEFORE)
def test_refused_before(fragment, compute, fake, given, sentence):
    """What can't be asked for is refused before psi4 runs."""
    fake("1.3.2")
    with pytest.raises(InputError, match=re.escape(sentence)):
        compute(fragment(), **given)


def test_basis_set(fragment, compute, fake):
    """A basis that is no name is refused."""
    fake("1.3.2")
    basis = BasisSet(name="none", center_data={}, atom_map=[], nbf=0)
    with pytest.raises(InputError, match=r"psi4 takes a basis set by name here, and model\.basis is a BasisSet"):
        compute(fragment(), basis=basis)


@pytest.mark.parametrize("fields", [{"molecular_charge": 0.5}, {"molecular_multiplicity": 1.5}])
def test_broken_electrons(fragment, compute, fake, fields):
    """Charge and multiplicity are whole numbers."""
    fake("1.3.2")
    with pytest.raises(InputError, match="psi4 needs a whole charge and multiplicity, and the molecule has"):
        compute(fragment().model_copy(update=fields))


def test_too_little_memory(fragment, atomic_input, config, fake):
    """Less memory than psi4 takes is a resource error that says how much it needs."""
    fake("1.3.2")
    small = config.model_copy(update={"memory": 0.2})
    with pytest.raises(ResourceError, match=r"psi4 needs 0\.257 GiB at the least, and the task configuration gives it"):
        Psi4Harness().compute(atomic_input(fragment()), small)


def test_no_scratch_directory(fragment, atomic_input, config, fake):
    """A scratch directory that can't be had is a resource error that names it."""
    fake("1.3.2")
    nowhere = config.model_copy(update={"scratch_directory": "/no/such/place"})
    with pytest.raises(ResourceError, match="No scratch directory can be made in '/no/such/place': No such file"):
        Psi4Harness().compute(atomic_input(fragment()), nowhere)


@pytest.mark.usefixtures("psi4")
@pytest.mark.parametrize(
    ("method", "driver", "keywords", "said"),
    [
        ("hf", "energy", {"maxiter": 2}, "Could not converge SCF iterations in 2 iterations"),
        ("ccsd", "energy", {"ccenergy__maxiter": 2}, "Wave function not converged to 1.0e-07"),
        ("ccsd", "gradient", {"cclambda__maxiter": 2}, "Lambda not converged to 1.0e-07"),
    ],
)
def test_unconverged(fragment, compute, method, driver, keywords, said):
    """An SCF, amplitudes or a Lambda that do not converge are a convergence error in psi4's words, and it pickles."""
    sentence = f"psi4 did not converge in the {driver} of {method}/sto-3g: {said}. Raise maxiter, loosen the"
    with pytest.raises(ConvergenceError, match=re.escape(sentence)) as failure:
        compute(fragment(), method, driver=driver, keywords=keywords)
    assert str(pickle.loads(pickle.dumps(failure.value))) == str(failure.value)


ERROR = """
    error = {{"types": ["RuntimeError"], "option": None, "message": {message!r}, "traceback": "a long one"}}
    json.dump({{"error": error}}, open("answer.json", "w"))
"""


@pytest.mark.parametrize(
    ("source", "kind", "sentence"),
    [
        ("sys.exit(3)", UnknownError, "psi4 ended with exit code 3 in the energy of hf/sto-3g, without an answer. It "),
        (
            "os.kill(os.getpid(), signal.SIGSEGV)",
            UnknownError,
            "psi4 was ended by SIGSEGV in the energy of hf/sto-3g, without an answer. It said nothing.",
        ),
        ("sys.exit('No license to compute')", UnknownError, "The last it said:\nNo license to compute"),
        (
            ERROR.format(message="Fatal Error: PSIO Error\nError occurred in file: x.cc on line: 3\n"),
            RandomError,
            "psi4 could not read or write a file in the energy of hf/sto-3g: PSIO Error. Look at its scratch",
        ),
        (
            ERROR.format(message="\nFatal Error: the moon is full.\nError occurred in file: x.cc on line: 3\n"),
            UnknownError,
            "psi4 failed in the energy of hf/sto-3g: the moon is full. It said nothing.\na long one",
        ),
        (ERROR.format(message=""), UnknownError, "psi4 failed in the energy of hf/sto-3g: it gives no reason."),
    ],
)
def test_psi4_fails(fragment, compute, config, fake, source, kind, sentence):
    """A psi4 that breaks is an error with what it said last, and leaves nothing behind."""
    fake("1.3.2", source)
    with pytest.raises(kind, match=re.escape(sentence)):
        compute(fragment())
    assert list(Path(config.scratch_directory).iterdir()) == []
