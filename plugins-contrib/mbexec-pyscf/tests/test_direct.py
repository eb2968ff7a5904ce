"""The harness changes nothing: PySCF called by its plain public functions gives the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from mbexec_pyscf import PySCFHarness
from pyscf import cc, dft, gto, lib, mp, scf
from pyscf.cc import ccsd_t_lambda
from pyscf.grad import ccsd_t
from threadpoolctl import threadpool_limits

pytestmark = pytest.mark.qc

CATION = {"molecular_charge": 1, "molecular_multiplicity": 2}
TRIPLET = {"molecular_multiplicity": 3}
SCF = {"conv_tol": 1e-10, "conv_tol_grad": 1e-7, "max_cycle": 100, "chkfile": None}
CC = {"conv_tol": 1e-10, "conv_tol_normt": 1e-8, "max_cycle": 100}


@pytest.fixture(autouse=True)
def _one_thread():
    with lib.with_omp_threads(1), threadpool_limits(1):
        yield


@pytest.fixture(autouse=True)
def _no_checkpoint(monkeypatch):
    """Keep PySCF, where it is called directly, from leaving an unclosed file behind."""
    monkeypatch.setattr(scf.hf, "MUTE_CHKFILE", True)


def mole(molecule, basis, **settings):
    labels = [s if real else f"ghost-{s}" for s, real in zip(molecule.symbols, molecule.real, strict=True)]
    return gto.M(
        atom=list(zip(labels, molecule.geometry.tolist(), strict=True)),
        basis=basis,
        unit="Bohr",
        charge=int(molecule.molecular_charge),
        spin=int(molecule.molecular_multiplicity) - 1,
        verbose=0,
        **settings,
    )


def assert_same(result, energy, gradient):
    assert result.properties.return_energy == energy
    assert np.array_equal(result.return_result, gradient)


@pytest.mark.parametrize("density_fit", [False, True], ids=["exact", "fitted"])
@pytest.mark.parametrize("bas", [(1,), (1, 2)], ids=["alone", "ghosts"])
@pytest.mark.parametrize(
    ("method", "fields", "run"),
    [
        ("rhf", {}, scf.RHF),
        ("uhf", {}, scf.UHF),
        ("rohf", {}, scf.ROHF),
        ("hf", CATION, scf.UHF),
        ("rohf", CATION, scf.ROHF),
        ("uhf", TRIPLET, scf.UHF),
    ],
)
def test_hartree_fock(fragment, compute, method, fields, run, bas, density_fit):
    """Energy and gradient of every Hartree-Fock equal PySCF's own."""
    molecule = fragment((1,), bas, **fields)
    result = compute(molecule, method, "6-31g", "gradient", {"density_fit": density_fit})
    mf = run(mole(molecule, "6-31g"))
    mf = (mf.density_fit() if density_fit else mf).run(**SCF)
    assert_same(result, mf.e_tot, mf.nuc_grad_method().kernel())


@pytest.mark.parametrize("bas", [(1,), (1, 2)], ids=["alone", "ghosts"])
@pytest.mark.parametrize(
    ("xc", "reference", "fields", "run", "density_fit"),
    [
        ("b3lyp", None, {}, dft.RKS, False),
        ("pbe", "rks", {}, dft.RKS, True),
        ("b3lyp", "uks", CATION, dft.UKS, False),
        ("pbe", "roks", CATION, dft.ROKS, False),
        ("camb3lyp", None, {}, dft.RKS, False),
        ("tpss", "uks", {}, dft.UKS, False),
    ],
)
def test_functionals(fragment, compute, xc, reference, fields, run, density_fit, bas):
    """Energy and gradient of every Kohn-Sham equal PySCF's own, on the grid that was asked for."""
    molecule = fragment((1,), bas, **fields)
    keywords = {"grids_level": 1, "density_fit": density_fit}
    keywords |= {"reference": reference} if reference else {}
    result = compute(molecule, xc, "sto-3g", "gradient", keywords)
    mf = run(mole(molecule, "sto-3g"), xc=xc)
    mf.grids.level = 1
    mf = (mf.density_fit() if density_fit else mf).run(**SCF)
    assert_same(result, mf.e_tot, mf.nuc_grad_method().kernel())


@pytest.mark.parametrize("frozen", [None, 1], ids=["all-electron", "frozen-core"])
@pytest.mark.parametrize("bas", [(1,), (1, 2)], ids=["alone", "ghosts"])
@pytest.mark.parametrize(("fields", "reference"), [({}, scf.RHF), (CATION, scf.UHF)], ids=["rhf", "uhf"])
def test_mp2(fragment, compute, fields, reference, bas, frozen):
    """MP2's energy and gradient equal PySCF's own, with and without the core."""
    molecule = fragment((1,), bas, **fields)
    result = compute(molecule, "mp2", "6-31g", "gradient", {"freeze_core": frozen is not None})
    pt = mp.MP2(reference(mole(molecule, "6-31g")).run(**SCF), frozen=frozen).run()
    assert_same(result, pt.e_tot, pt.nuc_grad_method().kernel())


@pytest.mark.parametrize("bas", [(1,), (1, 2)], ids=["alone", "ghosts"])
@pytest.mark.parametrize(("fields", "reference"), [({}, scf.RHF), (CATION, scf.UHF)], ids=["rhf", "uhf"])
def test_ccsd(fragment, compute, fields, reference, bas):
    """CCSD's energy and gradient equal PySCF's own."""
    molecule = fragment((1,), bas, **fields)
    result = compute(molecule, "ccsd", "sto-3g", "gradient")
    solver = cc.CCSD(reference(mole(molecule, "sto-3g")).run(**SCF)).run(**CC)
    assert_same(result, solver.e_tot, solver.nuc_grad_method().kernel())


@pytest.mark.parametrize("bas", [(1,), (1, 2)], ids=["alone", "ghosts"])
@pytest.mark.parametrize(
    ("fields", "reference", "driver"), [({}, scf.RHF, "gradient"), (CATION, scf.UHF, "energy")], ids=["rhf", "uhf"]
)
def test_triples(fragment, compute, fields, reference, driver, bas):
    """CCSD(T)'s energy, and for rhf its gradient, equal PySCF's own."""
    molecule = fragment((1,), bas, **fields)
    result = compute(molecule, "ccsd(t)", "sto-3g", driver)
    solver = cc.CCSD(reference(mole(molecule, "sto-3g")).run(**SCF)).run(**CC)
    assert result.properties.return_energy == solver.e_hf + (solver.e_corr + solver.ccsd_t())
    if driver == "gradient":
        _, l1, l2 = ccsd_t_lambda.kernel(solver, max_cycle=100, tol=1e-8, verbose=0)
        assert np.array_equal(result.return_result, ccsd_t.Gradients(solver).kernel(l1=l1, l2=l2))


@pytest.mark.parametrize(("method", "run"), [("mp2", mp.MP2), ("ccsd", cc.CCSD)])
def test_fitted_correlation(fragment, compute, method, run):
    """Correlation energies with fitted integrals equal PySCF's own."""
    molecule = fragment((1,), (1, 2))
    result = compute(molecule, method, "sto-3g", "energy", {"density_fit": True})
    solver = run(scf.RHF(mole(molecule, "sto-3g")).density_fit().run(**SCF))
    solver = solver.run(**CC) if method == "ccsd" else solver.run()
    assert result.return_result == solver.e_tot


@pytest.mark.parametrize(("method", "run"), [("hf", scf.RHF), ("uhf", scf.UHF), ("pbe", dft.RKS)])
def test_hessian(fragment, compute, method, run):
    """Hessians equal PySCF's own, ordered atom by atom."""
    molecule = fragment((1,), (1, 2))
    result = compute(molecule, method, "sto-3g", "hessian", {"grids_level": 1} if method == "pbe" else {})
    mf = run(mole(molecule, "sto-3g"))
    if method == "pbe":
        mf.xc, mf.grids.level = "pbe", 1
    blocks = mf.run(**SCF).Hessian().kernel()
    assert np.array_equal(result.return_result.reshape(6, 3, 6, 3), blocks.transpose(0, 2, 1, 3))


@pytest.mark.filterwarnings("ignore:remove_linear_dep_ is deprecated")
@pytest.mark.parametrize(
    ("keywords", "settings"),
    [
        ({"cart": True}, {}),
        ({"init_guess": "atom"}, {"init_guess": "atom"}),
        ({"init_guess": "huckel"}, {"init_guess": "huckel"}),
        ({"init_guess": "1e"}, {"init_guess": "1e"}),
        ({"level_shift": 0.1, "damp": 0.2, "diis_space": 6}, {"level_shift": 0.1, "damp": 0.2, "diis_space": 6}),
        ({"conv_tol": 1e-6, "conv_tol_grad": 1e-3}, {"conv_tol": 1e-6, "conv_tol_grad": 1e-3}),
    ],
)
def test_keywords(fragment, compute, keywords, settings):
    """A keyword does what the attribute of that name does in PySCF."""
    molecule = fragment((1,), (1, 2))
    result = compute(molecule, "hf", "6-31g*", "energy", keywords)
    mf = scf.RHF(mole(molecule, "6-31g*", cart=keywords.get("cart", False))).run(**SCF | settings)
    assert result.return_result == mf.e_tot


def test_second_order(fragment, compute):
    """second_order is PySCF's Newton solver, with DIIS for the last digits."""
    molecule = fragment((1,), (1, 2), **CATION)
    result = compute(molecule, "hf", "6-31g", "gradient", {"second_order": True})
    mf = scf.UHF(mole(molecule, "6-31g"))
    mf.run(mf.newton().run(**SCF | {"conv_tol_grad": 1e-6}).make_rdm1(), **SCF)
    assert_same(result, mf.e_tot, mf.nuc_grad_method().kernel())
    assert 0 < result.properties.scf_iterations < 30


def test_auxiliary_basis(fragment, compute):
    """The keyword auxbasis names the basis that integrals are fitted in, for real atoms and ghosts."""
    molecule = fragment((1,), (1, 2))
    keywords = {"density_fit": True, "auxbasis": "def2-universal-jkfit"}
    result = compute(molecule, "hf", "6-31g", "energy", keywords)
    mf = scf.RHF(mole(molecule, "6-31g")).density_fit(auxbasis="def2-universal-jkfit").run(**SCF)
    assert result.return_result == mf.e_tot


def test_grid(fragment, compute):
    """The grid keywords set PySCF's grid."""
    keywords = {"grids_atom_grid": [30, 110], "grids_prune": "none"}
    result = compute(fragment(), "pbe", "sto-3g", "energy", keywords)
    mf = dft.RKS(mole(fragment(), "sto-3g"), xc="pbe")
    mf.grids.atom_grid, mf.grids.prune = (30, 110), None
    assert result.return_result == mf.run(**SCF).e_tot


def test_core_potential(fragment, compute):
    """A basis made for a core potential brings it to real atoms, and to no ghost."""
    molecule = fragment(
        symbols=["Cl", "H", "Cl"], geometry=[[0, 0, 0], [0, 0, 2.4], [0, 6, 0]], real=[True, True, False]
    )
    result = compute(molecule, "hf", "lanl2dz", "gradient")
    mf = scf.RHF(mole(molecule, "lanl2dz", ecp={"Cl": "lanl2dz"})).run(**SCF)
    assert_same(result, mf.e_tot, mf.nuc_grad_method().kernel())
    assert result.properties.calcinfo_nalpha == 4


def test_memory(fragment, atomic_input, config):
    """Within little memory PySCF makes integrals on the fly, and gets the same energy."""
    task = atomic_input(fragment((1, 2)), "hf", "6-31g")
    small = config.model_copy(update={"memory": 0.001})
    energies = [PySCFHarness().compute(task, settings).return_result for settings in (config, small)]
    assert energies[0] == pytest.approx(energies[1], abs=1e-10, rel=0)
