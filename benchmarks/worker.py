"""What a fragment costs in a worker beyond its program's own time: `run_task` beside tblite called directly.

python benchmarks/worker.py            # prints a table
python benchmarks/worker.py --check    # fails where the difference or the ratio is out of its wide bounds

Both compute the same fragments in one process, turn and turn about. Of each, the quickest of many rounds counts,
since whatever else the machine does only adds; the difference is what cutting out the molecule, QCSchema, the harness
and the bookkeeping cost. Beside it stands `qcengine.compute` on requests that are ready. Then what it costs to cut out
a molecule of a water trimer in a cluster of 20, and what travels to workers of `loky` and back.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import qcengine
from qcelemental.models.v2 import AtomicInput, Molecule
from tblite.interface import Calculator
from threadpoolctl import threadpool_limits

import mbexec
from mbexec.core.context import Cluster
from mbexec.core.engine import make_plan, read_job
from mbexec.core.limits import limited_threads
from mbexec.core.prepare import context_of
from mbexec.core.program import Programs, run_task

ROUNDS = 20
MOST = 1.2  # ms a fragment; the aim is 0.3
FEWEST = 1.0  # times qcengine.compute's cost to ours
SLOWEST = 2.0  # times the cost of a QCSchema molecule that is made of ready arrays, not validated
HEAVIEST = {"energy": (60, 200), "gradient": (60, 600)}  # bytes of a task and of its result, the context included


def job(driver: str) -> dict[str, Any]:
    """Five water molecules up to pairs."""
    water = np.array([[0.0, 0.0, 0.117], [0.0, 0.757, -0.47], [0.0, -0.757, -0.47]])
    places = np.array([[3.1 * i, 0.9 * (i % 2), 0.4 * i] for i in range(5)])
    fragments = [
        "\n".join(f"{s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip("OHH", water + place, strict=True))
        for place in places
    ]
    return {
        "molecule": {"geometry": "\n--\n".join(fragments)},
        "mbe": {"bsse_type": "nocp", "max_nbody": 2, "driver": driver},
        "program": {"program": "tblite", "method": "gfn2-xtb"},
        "task": {"ncores": 1, "memory": 1.0},
    }


def bare(molecule: Any, driver: str) -> Any:
    """Tblite by itself, at the harness's accuracy and asked for what the harness asks for."""
    calculator = Calculator("GFN2-xTB", molecule.atomic_numbers, molecule.geometry, 0, 0, color=False)
    calculator.set("verbosity", 0)
    calculator.set("accuracy", 0.001)
    result = calculator.singlepoint()
    found = {name: result.get(name) for name in ("energy", "norbitals", "dipole", "gradient")}
    return found[driver]


def timed(call: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    call()
    return 1e3 * (time.perf_counter() - start)


def measured(driver: str) -> dict[str, float]:
    """Milliseconds a fragment of each way: the quickest of all rounds, averaged over the fragments."""
    spec, config = read_job(job(driver), {})
    plan = make_plan(spec, config)
    programs = Programs(context_of(plan, config))
    tasks = list(plan)
    cluster = programs.context.cluster
    specification = programs.context.specifications["(auto)"]
    molecules = [cluster.fragment(task.frag, task.bas) for task in tasks]
    requests = [AtomicInput(molecule=molecule, specification=specification) for molecule in molecules]
    settings = {"ncores": 1, "memory": 1.0}
    ways: dict[str, Callable[[int], object]] = {
        "tblite": lambda i: bare(molecules[i], driver),
        "run_task": lambda i: run_task(tasks[i], programs),
        "qcengine.compute": lambda i: qcengine.compute(requests[i], "tblite", task_config=settings),
    }
    for task, molecule in zip(tasks, molecules, strict=True):  # warm, and the same numbers
        np.testing.assert_array_equal(run_task(task, programs).values[driver], bare(molecule, driver))
    quickest = {name: np.full(len(tasks), np.inf) for name in ways}
    for _ in range(ROUNDS):
        for i in range(len(tasks)):
            for name, way in ways.items():
                quickest[name][i] = min(quickest[name][i], timed(partial(way, i)))
    return {name: float(times.mean()) for name, times in quickest.items()}


def molecules() -> dict[str, float]:
    """Microseconds to make the molecule of a trimer in each way: the quickest of many rounds."""
    tables = job("energy")
    water = tables["molecule"]["geometry"].split("\n--\n")[0]
    lines = [line.split() for line in water.splitlines()]
    moved = ["\n".join(f"{s} {x} {y} {float(z) + 3.5 * i}" for s, x, y, z in lines) for i in range(20)]
    tables["molecule"]["geometry"] = "\n--\n".join(moved)
    spec, _ = read_job(tables, {})
    cluster = Cluster.of(spec.molecule)
    made = cluster.fragment((2, 7, 9), (2, 7, 9))
    given = made.model_dump(exclude={"provenance", "identifiers"}, exclude_none=True)
    ways: dict[str, Callable[[], object]] = {
        "mbexec": lambda: cluster.fragment((2, 7, 9), (2, 7, 9)),
        "validate=False": lambda: Molecule(**{**given, "validate": False}),
        "get_fragment": lambda: spec.molecule.get_fragment([1, 6, 8], orient=False, group_fragments=False),
    }
    assert made.get_hash() == spec.molecule.get_fragment([1, 6, 8], orient=False, group_fragments=False).get_hash()
    return {name: 1e3 * min(timed(way) for _ in range(50 * ROUNDS)) for name, way in ways.items()}


def traffic(driver: str) -> tuple[float, float]:
    """Bytes that a run of 696 argon clusters on two workers of `loky` sends for each, and gets."""
    atoms = "\n--\n".join(f"Ar {3.8 * i} 0 {3.8 * (i % 3)}" for i in range(16))
    tables = {
        "molecule": {"geometry": atoms},
        "mbe": {"bsse_type": "nocp", "max_nbody": 3, "driver": driver},
        "program": {"program": "model-potential", "method": "lj"},
    }
    report = mbexec.run(tables, executor="loky", workers=2).report
    assert report.bytes_moved is not None
    sent, received = report.bytes_moved
    return sent / report.ntasks, received / report.ntasks


def main() -> int:
    """Print the table; with --check, say whether it is within bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a figure is out of bounds")
    check = parser.parse_args().check
    good = True
    with limited_threads(1), threadpool_limits(1):
        for driver in ("energy", "gradient"):
            found = measured(driver)
            ours = found["run_task"] - found["tblite"]
            theirs = found["qcengine.compute"] - found["tblite"]
            good &= ours <= MOST and theirs / ours >= FEWEST
            print(
                f"{driver}, ms a fragment: tblite {found['tblite']:.3f}, run_task {found['run_task']:.3f}, "
                f"qcengine.compute {found['qcengine.compute']:.3f}; beyond tblite {ours:.3f} (bound {MOST}) and "
                f"{theirs:.3f}, ratio {theirs / ours:.1f} (at least {FEWEST})"
            )
    found = molecules()
    ratio = found["mbexec"] / found["validate=False"]
    good &= ratio <= SLOWEST
    print(
        f"molecule of a trimer, us: mbexec {found['mbexec']:.1f}, of ready arrays {found['validate=False']:.1f} "
        f"(ratio {ratio:.2f}, at most {SLOWEST}), get_fragment {found['get_fragment']:.0f}"
    )
    for driver, most in HEAVIEST.items():
        sent, received = traffic(driver)
        good &= sent <= most[0] and received <= most[1]
        print(f"{driver}, bytes a fragment with loky: {sent:.0f} out, {received:.0f} back (bounds {most})")
    return 0 if good or not check else 1


if __name__ == "__main__":
    sys.exit(main())
