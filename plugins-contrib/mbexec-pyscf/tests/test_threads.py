"""Calculations that share a process: threads, and what is kept between calls."""

from __future__ import annotations

import re
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from mbexec_pyscf import PySCFHarness, harness
from pyscf import gto, lib
from qcengine.exceptions import InputError
from threadpoolctl import threadpool_info, threadpool_limits

pytestmark = pytest.mark.qc


def together(function, tasks, workers=4):
    """Call a function on the tasks from several threads, all let go at once."""
    start = threading.Barrier(workers)

    def run(task):
        start.wait(timeout=60)
        return function(task)

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(run, tasks))


def blas_threads():
    """Of the libraries that PySCF uses; other tests load programs that bring their own."""
    ours = re.compile(r"/(numpy|scipy|pyscf)\b")
    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    return {library["num_threads"] for library in libraries if ours.search(library["filepath"])}


def test_same_bits(fragment, atomic_input, config):
    """Four threads at once get the bits that one gets alone, whatever they compute."""
    kinds = [("hf", "6-31g"), ("mp2", "6-31g"), ("b3lyp", "sto-3g"), ("ccsd(t)", "sto-3g")]
    keywords = {"grids_level": 0}
    tasks = [
        atomic_input(fragment((1,), bas), method, basis, "gradient", keywords)
        for bas in ((1, 2), (1, 3), (1,))
        for method, basis in kinds
    ]
    alone = [PySCFHarness().compute(task, config) for task in tasks]
    shared = together(lambda task: PySCFHarness().compute(task, config), tasks)
    for one, other in zip(alone, shared, strict=True):
        assert one.properties.return_energy == other.properties.return_energy
        assert np.array_equal(one.return_result, other.return_result)


@pytest.mark.parametrize("ncores", [1, 2])
def test_thread_limits(fragment, atomic_input, config, monkeypatch, ncores):
    """Inside a calculation PySCF and BLAS use ncores threads, and afterwards what they used before."""
    seen = []
    run_scf = harness.run_scf

    def watched(*args):
        seen.append((lib.num_threads(), blas_threads()))
        return run_scf(*args)

    monkeypatch.setattr(harness, "run_scf", watched)
    settings = config.model_copy(update={"ncores": ncores})
    with lib.with_omp_threads(2), threadpool_limits(2):
        before = (lib.num_threads(), blas_threads())
        PySCFHarness().compute(atomic_input(fragment()), settings)
        assert (lib.num_threads(), blas_threads()) == before
    # A BLAS without threads of its own stays at one.
    assert seen[0][0] == ncores
    assert max(seen[0][1]) == ncores


def test_limits_outlast_the_first_to_leave(fragment, compute, monkeypatch):
    """BLAS stays limited until the last of several calculations is done, one that fails among them."""
    failed, seen = threading.Event(), []
    run_scf = harness.run_scf

    def watched(*args):
        failed.wait(timeout=60)
        seen.append(max(blas_threads()))
        return run_scf(*args)

    def task(number):
        if number == 0:
            with pytest.raises(InputError):
                compute(fragment(), "xyzzy")
            return failed.set()
        return compute(fragment())

    monkeypatch.setattr(harness, "run_scf", watched)
    with threadpool_limits(2):
        together(task, range(2), workers=2)
        assert max(blas_threads()) == 2
    assert seen == [1]


@pytest.fixture
def parsed(monkeypatch):
    """Basis files as PySCF parses them."""
    calls = []
    load = gto.basis.parse_nwchem.load

    def counted(path, symbol, *args):
        calls.append((path.rsplit("/")[-1].lower(), symbol))
        return load(path, symbol, *args)

    monkeypatch.setattr(gto.basis.parse_nwchem, "load", counted)
    return calls


def test_parsed_once(fragment, compute, parsed):
    """Each element of a basis file is read once in the life of a process, however many threads want it."""
    molecule = fragment(symbols=["Ne", "Ne"], geometry=[0, 0, 0, 0, 0, 4], real=[True, False])
    together(lambda _: compute(molecule, basis="3-21g"), range(8))
    compute(molecule, "uhf", basis="3-21g", keywords={"init_guess": "1e"})
    assert sorted(parsed) == [("3-21g.dat", "Ne"), ("ano.dat", "Ne")]


def test_failure_is_quiet_and_not_kept(fragment, compute, parsed):
    """A basis that cannot be had raises each time, and warns of nothing."""
    molecule = fragment(symbols=["Kr"], geometry=[0, 0, 0], real=[True])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            with pytest.raises(InputError, match="for element 'Kr'"):
                compute(molecule, basis="6-31+g")
    assert caught == []
