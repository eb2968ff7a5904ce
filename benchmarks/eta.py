"""How far the time left that `progress` shows is off: at 10, 25, 50 and 75% of simulated runs and of a real one.

python benchmarks/eta.py            # simulated runs and a real one with PySCF (a minute or two); prints a table
python benchmarks/eta.py --check    # simulated runs only; fails where a median is out of its wide bounds

Errors are those of the whole time that is foretold, elapsed and left, in per cent of the time that the run took: +10
says that it ended sooner than was foretold. Twelve molecules of three sizes, up to three at once, run on 4 simulated
workers; the time of a fragment is that of a law, times noise that spreads by a quarter (lognormal). Median and largest
error of 40 such runs.
"""

from __future__ import annotations

import argparse
import heapq
import statistics
import sys
import time
from collections.abc import Callable
from itertools import cycle, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mbexec
from mbexec import FragmentDone, FragmentHeld, FragmentStarted, MetricsEvent, Plan, RunDone, RunStarted
from mbexec.core.cost import costs, is_correlated, scaling
from mbexec.core.engine import execute, read_job
from mbexec.core.schedule import submissions
from mbexec.plugins.progress.estimate import Estimate
from mbexec.plugins.progress.state import State

MOMENTS = (0.10, 0.25, 0.50, 0.75)
RUNS, WORKERS, NOISE = 40, 4, 0.25
MOLECULES = (
    "O 0 0 0.12; H 0 0.76 -0.47; H 0 -0.76 -0.47",
    "N 0 0 0.11; H 0 0.94 -0.26; H 0.81 -0.47 -0.26; H -0.81 -0.47 -0.26",
    "C -0.05 0.66 0; O -0.05 -0.76 0; H -1.08 0.98 0; H 0.44 1.07 0.89; H 0.44 1.07 -0.89; H 0.86 -1.06 0",
)
Law = Callable[[Plan], NDArray[np.float64]]


def job(nfr: int, **more: Any) -> dict[str, Any]:
    """Water, ammonia and methanol in turn, on a lattice."""
    places = 4.2 * np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    molecules = []
    for molecule, place in zip(islice(cycle(MOLECULES), nfr), places, strict=False):
        atoms = [atom.split() for atom in molecule.split("; ")]
        molecules.append("\n".join(f"{s} {' '.join(map(str, place + np.array(xyz, float)))}" for s, *xyz in atoms))
    geometry = {"geometry": "\n--\n".join(molecules)}
    program = {"program": "pyscf", "method": "hf", "basis": "6-31g"}
    return {"molecule": geometry, "mbe": {"bsse_type": "nocp", "max_nbody": 3}, "program": program} | more


def two_methods() -> dict[str, Any]:
    """MP2 for single molecules, Hartree-Fock for the rest."""
    low = {"program": "pyscf", "method": "hf", "basis": "6-31g"}
    program = {"high": low | {"method": "mp2"}, "low": low}
    mbe = {"bsse_type": "nocp", "levels": {1: "high", 3: "low"}}
    return job(12, mbe=mbe, program=program)


def power(exponent: float, overhead: float = 0.0) -> Law:
    """A law: a power of the size, 10 s for the largest, MP2 three times that, and what each takes besides, s."""

    def times(plan: Plan) -> NDArray[np.float64]:
        methods = [plan.spec.specification.specification[label] for label in plan.expansion.mcs]
        size = costs(plan) ** (1 / np.array([scaling(method) for method in methods]))[plan.expansion.mc]
        dearer = np.array([3.0 if is_correlated(method) else 1.0 for method in methods])[plan.expansion.mc]
        return overhead + 10.0 * dearer * (size / size.max()) ** exponent

    return times


CASES: dict[str, tuple[dict[str, Any], str, float, Law]] = {  # job, schedule, share that a store gives, law
    "as expected: the cube of the size": (job(12), "cost", 0.0, power(3)),
    "the square of the size": (job(12), "cost", 0.0, power(2)),
    "the size, and 2 s each": (job(12), "cost", 0.0, power(1, 2.0)),
    "all the same": (job(12), "cost", 0.0, power(0)),
    "the square, one order after the other": (job(12), "nbody", 0.0, power(2)),
    "the square, half of it from a store": (job(12), "cost", 0.5, power(2)),
    "two methods, the square": (two_methods(), "cost", 0.0, power(2)),
}


def simulated(plan: Plan, schedule: str, known: float, law: Law, seed: int) -> list[float]:
    """Errors at the moments of a run, per cent."""
    random = np.random.default_rng(seed)
    times = law(plan) * random.lognormal(0.0, NOISE, len(plan))
    given = set(np.flatnonzero(random.random(len(plan)) < known).tolist())
    estimate = Estimate(plan, costs(plan), WORKERS)
    for index in given:
        estimate.reused(index)
    seen, clock = [], 0.0
    for order in submissions(plan, schedule, seed):
        clock = _play(estimate, [index for index in order.tolist() if index not in given], times, clock, seen)
    return errors(seen, clock)


def _play(
    estimate: Estimate, left: list[int], times: NDArray[np.float64], clock: float, seen: list[tuple[float, float]]
) -> float:
    """Run the fragments, in this order, from that moment on; the moment when the last one ends."""
    ends: list[tuple[float, int, str]] = []
    free = [str(worker) for worker in range(WORKERS)]
    running: dict[int, float] = {}
    while left or ends:
        while left and len(ends) < WORKERS:
            index = left.pop(0)
            running[index] = clock
            estimate.began(clock)
            heapq.heappush(ends, (clock + times[index], index, free.pop()))
        clock, index, worker = heapq.heappop(ends)
        free.append(worker)
        estimate.ran(index, worker, running.pop(index), clock)
        outlook = estimate.outlook(clock, running)
        if outlook.left is not None:
            seen.append((clock, outlook.left))
    return clock


def errors(seen: list[tuple[float, float]], total: float) -> list[float]:
    """Of what was foretold last before each of the moments, or first if that was later; per cent."""
    found = []
    for moment in MOMENTS:
        before = [each for each in seen if each[0] <= moment * total] or seen[:1]
        elapsed, left = before[-1]
        found.append(100 * (elapsed + left - total) / total)
    return found


def real() -> tuple[list[float], float, int]:
    """Errors at the moments of a run with PySCF on two workers, s that it took, and its fragments."""
    spec, config = read_job(job(9), {"run.executor": "loky", "run.workers": 2, "task.ncores": 1})
    seen: list[tuple[float, float]] = []
    states: list[State] = []
    times = [time.time()]

    def watch(event: MetricsEvent) -> None:
        match event:
            case RunStarted():
                states.append(State(event))
                times[0] = time.time()
            case FragmentStarted() | FragmentHeld():
                states[0].take(event)
            case FragmentDone():
                states[0].take(event)
                left = states[0].seen(0, exact=True).outlook.left
                if left is not None:
                    seen.append((time.time() - times[0], left))
            case RunDone():
                times.append(time.time())

    found = execute(spec, config, watch=watch)
    assert found.result.success
    total = times[1] - times[0]
    return errors(seen, total), total, len(found.plan)


def main() -> int:
    """Print the table; with --check, say whether the medians are within their bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="simulated runs only; exit with 1 out of bounds")
    check = parser.parse_args().check
    print(f"{'error of the whole time, %; at':44}" + "".join(f"{moment:>14.0%}" for moment in MOMENTS))
    good = True
    for name, (tables, schedule, known, law) in CASES.items():
        plan = mbexec.plan(tables)
        runs = [simulated(plan, schedule, known, law, seed) for seed in range(RUNS)]
        columns = list(zip(*runs, strict=True))
        medians = [statistics.median(column) for column in columns]
        worst = [max(column, key=abs) for column in columns]
        cells = (f"{middle:+.0f} ({most:+.0f})" for middle, most in zip(medians, worst, strict=True))
        print(f"{name:44}" + "".join(f"{cell:>14}" for cell in cells))
        if "one order after the other" not in name:
            good &= abs(medians[2]) <= 30 and abs(medians[3]) <= 15
    if not check:
        found, total, count = real()
        name = f"PySCF, HF/6-31G, {count} fragments, {total:.0f} s"
        print(f"{name:44}" + "".join(f"{error:>+14.0f}" for error in found))
    return 0 if good or not check else 1


if __name__ == "__main__":
    sys.exit(main())
