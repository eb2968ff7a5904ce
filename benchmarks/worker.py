"""What a fragment costs in a worker beyond its program's own time: `run_task` beside tblite called directly.

python benchmarks/worker.py            # prints a table
python benchmarks/worker.py --check    # fails where the difference or the ratio is out of its wide bounds

Both compute the same fragments in one process, turn and turn about. Of each, the quickest of many rounds counts,
since whatever else the machine does only adds; the difference is what cutting out the molecule, QCSchema, the harness
and the bookkeeping cost. Beside it stands `qcengine.compute` on requests that are ready.
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
from qcelemental.models.v2 import AtomicInput
from tblite.interface import Calculator
from threadpoolctl import threadpool_limits

from mbexec.core.engine import make_plan, read_job
from mbexec.core.limits import limited_threads
from mbexec.core.prepare import context_of
from mbexec.core.program import Programs, run_task

ROUNDS = 20
MOST = 1.2  # ms a fragment; the aim is 0.3
FEWEST = 1.0  # times qcengine.compute's cost to ours


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
    return 0 if good or not check else 1


if __name__ == "__main__":
    sys.exit(main())
