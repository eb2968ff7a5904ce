"""Memory and time of what is large: merging Hessians and gradients of many waters, running a million fragments.

python benchmarks/memory.py            # a table; a quarter of an hour, most of it for the million
python benchmarks/memory.py --check    # all but the million; fails where a figure is out of its wide bounds

Each row has a process of its own. The numbers of "merge" are made up and come one by one, as from an executor; no
result is held. "run" is a whole serial run of argon atoms to 3-body on the model potential. Time is processor time and
counts what makes the numbers; memory is the peak resident set of the process (ru_maxrss), by how much it grew from the
molecule to the result, and that by fragment.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from processes import apart

import mbexec
from mbexec.core.engine import read_job
from mbexec.plugins.manybody.merging import merge
from mbexec.plugins.manybody.planning import make_plan

WATER = [("O", 0.0, 0.0, 0.1173), ("H", 0.0, 0.7572, -0.4692), ("H", 0.0, -0.7572, -0.4692)]  # angstrom
MiB = 2**20
CASES = [
    ("merge", "hessian", 64),
    ("merge", "gradient", 64),
    ("merge", "gradient", 128),
    ("merge", "energy", 128),
    ("run", "energy", 40),
    ("run", "energy", 60),
]
LARGE = [("run", "energy", 180)]
MOST = 2048  # MiB of any row; of the merge of Hessians of 64 waters to 3-body that is the aim
MOST_EACH = 600  # bytes that a fragment more may take in a run: plan, energy, wall time
LONGEST = {"hessian": 1.0, "gradient": 0.05, "energy": 0.05}  # ms to merge a fragment


def job(what: str, driver: str, nfr: int) -> dict[str, Any]:
    """Molecules on a lattice up to triples: waters to merge, argon atoms to run."""
    side = int(np.ceil(nfr ** (1 / 3)))
    places = 3.8 * np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:nfr]
    atoms = WATER if what == "merge" else [("Ar", 0.0, 0.0, 0.0)]
    fragments = ["\n".join(f"{s} {x + a} {y + b} {z + c}" for s, x, y, z in atoms) for a, b, c in places]
    return {
        "molecule": {"geometry": "\n--\n".join(fragments)},
        "mbe": {"bsse_type": "nocp", "max_nbody": 3, "driver": driver, "cluster_properties": "none"},
        "program": {"program": "model-potential", "method": "lj"},
    }


def results(plan: mbexec.Plan, driver: str) -> Iterator[mbexec.TaskResult]:
    """Made-up numbers for each task, one after the other."""
    random = np.random.default_rng(1)
    sizes = plan.expansion.sets.sizes[plan.expansion.bas]
    for index, nbody in enumerate(sizes.tolist()):
        made: dict[str, Any] = {"energy": float(-76.0 * random.random())}
        shape = {"gradient": (3 * nbody, 3), "hessian": (9 * nbody, 9 * nbody)}.get(driver)
        if shape is not None:
            made[driver] = 0.01 * random.standard_normal(shape)
        yield mbexec.TaskResult(index=index, values=made)


def work_of(what: str, driver: str, nfr: int) -> Callable[[], int]:
    """The step to measure; it says how many fragments it had."""
    spec, _ = read_job(job(what, driver, nfr), {})

    def merged() -> int:
        plan = make_plan(spec)
        assert merge(plan, results(plan, driver)).success
        return len(plan)

    def ran() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mbexec.run(spec, executor="serial").report.executed

    return merged if what == "merge" else ran


def measure(what: str, driver: str, nfr: int) -> dict[str, float]:
    """Seconds, fragments and MiB of one case, run once in this process."""
    work_of(what, driver, 3)()  # imports, caches
    work = work_of(what, driver, nfr)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    count = work()
    took = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"fragments": count, "seconds": took, "grown": (peak - before) / 1024, "peak": peak / 1024}


def problems(case: tuple[str, str, int], found: dict[str, float]) -> list[str]:
    """What is out of bounds."""
    what, driver, _ = case
    bounds = {
        f"more than {MOST} MiB": found["peak"] > MOST,
        f"a fragment takes more than {MOST_EACH} bytes": what == "run" and each(found) > MOST_EACH,
        f"a fragment takes more than {LONGEST[driver]} ms": (
            what == "merge" and 1e3 * found["seconds"] / found["fragments"] > LONGEST[driver]
        ),
    }
    return [words for words, bad in bounds.items() if bad]


def each(found: dict[str, float]) -> float:
    """Bytes by which a fragment makes the process grow."""
    return found["grown"] * MiB / found["fragments"]


def main() -> int:
    """Print the table; with --check, say whether every figure is within its bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a figure is out of bounds")
    options = parser.parse_args()
    bad: list[str] = []
    print("| | fragments | cpu / s | fragments/s | grown / MiB | bytes each | peak / MiB |")
    print("| --- | --: | --: | --: | --: | --: | --: |")
    for case in CASES if options.check else CASES + LARGE:
        found = apart(measure, *case)
        what, driver, nfr = case
        bad += [f"{what} {driver} {nfr}: {problem}" for problem in problems(case, found)]
        rate = found["fragments"] / found["seconds"]
        name = f"{what} {driver}, {nfr} {'waters' if what == 'merge' else 'argon atoms'}"
        print(
            f"| {name} | {found['fragments']:,} | {found['seconds']:.2f} | {rate:,.0f} | {found['grown']:.0f} "
            f"| {each(found):.0f} | {found['peak']:.0f} |",
            flush=True,
        )
    print("\n".join(bad), file=sys.stderr)
    return 1 if bad and options.check else 0


if __name__ == "__main__":
    sys.exit(main())
