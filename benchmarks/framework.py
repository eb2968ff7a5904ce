"""What the framework itself costs, side by side with QCManyBody and with a bare loop over the program.

python benchmarks/framework.py            # prints a table
python benchmarks/framework.py --check    # fails where a ratio is out of its wide bounds
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from unittest.mock import patch

import numpy as np
from qcelemental.models.v2 import AtomicInput
from qcmanybody import ManyBodyCore

import mbexec
from mbexec.core.context import Cluster
from mbexec.core.engine import read_job
from mbexec.core.potential import ModelPotential


def job(nfr: int, max_nbody: int, driver: str = "energy") -> dict:
    """Argon atoms on a lattice, one a fragment, on the model potential."""
    places = 3.8 * np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:nfr]
    return {
        "molecule": {"geometry": "\n--\n".join(f"Ar {x} {y} {z}" for x, y, z in places)},
        "mbe": {"bsse_type": "nocp", "max_nbody": max_nbody, "driver": driver},
        "program": {"program": "model-potential", "method": "lj"},
    }


def median_time(work: Callable[[], object], repeats: int = 5) -> float:
    """Seconds of processor time, after one run to warm up."""
    work()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def planning() -> tuple[str, float, float]:
    """Planning and building every fragment's molecule: QCManyBody's iterate_molecules against ours."""
    spec, _ = read_job(job(16, 3), {})

    def theirs() -> int:
        core = ManyBodyCore(
            spec.molecule,
            ["nocp"],
            dict.fromkeys((1, 2, 3), "(auto)"),
            return_total_data=False,
            supersystem_ie_only=False,
            embedding_charges={},
        )
        return sum(1 for _ in core.iterate_molecules())

    def ours() -> int:
        cluster = Cluster.of(spec.molecule)
        return sum(1 for task in mbexec.plan(spec) if cluster.fragment(task.frag, task.bas))

    assert theirs() == ours() == 696
    return "plan and build 696 molecules, QCManyBody / mbexec", median_time(theirs, 3), median_time(ours, 3)


def serial_run() -> tuple[str, float, float]:
    """A whole serial run of 2,324 fragments against a bare loop that builds the same inputs and calls the program."""
    spec, config = read_job(job(24, 3), {"run.executor": "serial"})
    plan = mbexec.plan(spec)
    cluster = Cluster.of(spec.molecule)
    specification = spec.specification.specification["(auto)"]
    requests = [
        AtomicInput(molecule=cluster.fragment(task.frag, task.bas), specification=specification) for task in plan
    ]
    program = ModelPotential()

    def bare() -> float:
        return sum(program.compute(request, config.task).return_result for request in requests)

    def ours() -> object:
        return mbexec.run(spec, executor="serial")

    return "serial run of 2,324 tiny fragments, mbexec / bare loop", median_time(ours), median_time(bare)


def parent() -> tuple[str, float, float]:
    """A whole serial run whose programs take no time, against a loop that makes the same results."""
    spec, _ = read_job(job(40, 3), {"run.executor": "serial"})
    tasks = list(mbexec.plan(spec))

    def nothing(task: mbexec.Task, *_: object) -> mbexec.TaskResult:
        return mbexec.TaskResult(task.index, {"energy": -1.0}, None, 1.0, 1.0, lost=0.0)

    def ours() -> object:
        with patch("mbexec.core.work.run_task", nothing), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mbexec.run(spec, executor="serial")

    bare = median_time(lambda: [nothing(task) for task in tasks])
    return "10,700 fragments that take no time, mbexec / bare loop", median_time(ours), bare


BOUNDS = {planning: (5.0, float("inf")), serial_run: (0.0, 8.0), parent: (0.0, 60.0)}


def main() -> int:
    """Print the table; with --check, say whether every ratio is within its bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a ratio is out of bounds")
    check = parser.parse_args().check
    good = True
    for benchmark, (low, high) in BOUNDS.items():
        name, first, second = benchmark()
        ratio = first / second
        good &= low <= ratio <= high
        print(f"{name}: {1e3 * first:.1f} ms / {1e3 * second:.1f} ms = {ratio:.2f}  (bounds {low} to {high})")
    return 0 if good or not check else 1


if __name__ == "__main__":
    sys.exit(main())
