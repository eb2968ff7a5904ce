"""Calculations that share a process, or are spread over several: the same bits, and only the threads allowed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from mbexec_tblite import TBLiteHarness, harness, threads
from qcengine.exceptions import InputError
from threadpoolctl import threadpool_limits

import mbexec

pytestmark = pytest.mark.qc

TRIMER = """
O  -1.1713  -1.1571  -0.0947
H  -0.2329  -1.3694  -0.0338
H  -1.5661  -1.6586   0.6252
--
O   1.5897  -0.4391   0.0986
H   1.3032   0.4845   0.0594
H   2.2193  -0.5396  -0.6230
--
O  -0.4241   1.5950  -0.0072
H  -0.8653   0.7370  -0.0480
H  -0.7131   2.0651  -0.7966
"""


def together(function, tasks, workers=4):
    """Call a function on the tasks from several threads, all let go at once."""
    start = threading.Barrier(workers)

    def run(task):
        start.wait(timeout=60)
        return function(task)

    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(run, tasks))


def in_use(kind):
    """Threads that the libraries beside tblite use: of the calling thread for openmp, of the process for blas."""
    return max(library.num_threads for library in threads._libraries(kind))


def job(driver, *treatments):
    return {
        "molecule": {"geometry": TRIMER},
        "mbe": {"bsse_type": list(treatments), "driver": driver, "return_total_data": True},
        "program": {"program": "tblite", "method": "gfn2-xtb"},
        "task": {"ncores": 1, "memory": 1.0},
    }


def numbers(found):
    """Every number of a many-body result."""
    assert found.result.success, found.result.error.error_message
    return {name: value for name, value in found.result.properties.model_dump().items() if not isinstance(value, str)}


def bits(found):
    return {name: np.asarray(value).tobytes() for name, value in numbers(found).items()}


@pytest.mark.parametrize("driver", ["energy", "gradient"])
def test_executors(driver):
    """A trimer in every treatment is the same to the last bit in one thread, in several and in processes."""
    tables = job(driver, "cp", "nocp", "vmfc")
    serial, *others = (mbexec.run(tables, executor=name, workers=2) for name in ("serial", "threads", "loky"))
    for other in others:
        assert bits(other) == bits(serial)


@pytest.mark.parametrize("driver", ["energy", "gradient"])
def test_no_counterpoise(driver):
    """With nothing to borrow, the counterpoise correction corrects nothing: cp is nocp, to the last bit."""
    found = numbers(mbexec.run(job(driver, "cp", "nocp"), executor="serial"))
    pairs = {name: name.replace("nocp_corrected", "cp_corrected") for name in found if "nocp_corrected" in name}
    assert len(pairs) > 6
    for plain, corrected in pairs.items():
        assert np.array_equal(found[plain], found[corrected]), plain


def test_same_bits(fragment, atomic_input, config):
    """Four threads at once get the bits that one gets alone, whatever they compute."""
    tasks = [
        atomic_input(fragment(frag, (1, 2, 3)), method, driver="gradient")
        for _ in range(4)
        for frag in ((1,), (1, 2), (2, 3), (1, 2, 3))
        for method in ("gfn1-xtb", "gfn2-xtb", "ipea1-xtb")
    ]
    alone = [TBLiteHarness().compute(task, config) for task in tasks]
    shared = together(lambda task: TBLiteHarness().compute(task, config), tasks)
    for one, other in zip(alone, shared, strict=True):
        assert one.properties.return_energy == other.properties.return_energy
        assert np.array_equal(one.return_result, other.return_result)


@pytest.mark.parametrize("ncores", [1, 2])
def test_thread_limits(fragment, atomic_input, config, monkeypatch, ncores):
    """Inside a calculation tblite and BLAS use ncores threads, and afterwards what they used before."""
    seen = []
    converge = harness.converge

    def watched(*args):
        seen.append((in_use("openmp"), in_use("blas")))
        return converge(*args)

    monkeypatch.setattr(harness, "converge", watched)
    settings = config.model_copy(update={"ncores": ncores})
    with threadpool_limits(2):
        TBLiteHarness().compute(atomic_input(fragment()), settings)
        assert (in_use("openmp"), in_use("blas")) == (2, 2)
    assert seen == [(ncores, ncores)]


def test_limits_outlast_the_first_to_leave(fragment, compute, monkeypatch):
    """BLAS stays limited until the last of several calculations is done, one that fails among them."""
    failed, entered, seen = threading.Event(), threading.Event(), []
    converge = harness.converge

    def watched(system, *args):
        if system.charge:
            entered.wait(timeout=60)
            raise InputError("no")
        entered.set()
        failed.wait(timeout=60)
        seen.append(in_use("blas"))
        return converge(system, *args)

    def task(charge):
        if charge:
            with pytest.raises(InputError, match="no"):
                compute(fragment(molecular_charge=charge, molecular_multiplicity=2))
            return failed.set()
        return compute(fragment())

    monkeypatch.setattr(harness, "converge", watched)
    with threadpool_limits(2):
        together(task, (1, 0), workers=2)
        assert in_use("blas") == 2
    assert seen == [1]
