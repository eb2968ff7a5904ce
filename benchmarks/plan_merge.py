"""Planning, building fragment inputs and merging: time and memory side by side with QCManyBody.

python benchmarks/plan_merge.py            # 8 to 32 waters, and 64 with nocp; some minutes, all of them QCManyBody's
python benchmarks/plan_merge.py --full     # 64 with cp and vmfc too, which takes QCManyBody most of an hour
python benchmarks/plan_merge.py --check    # 16 waters; fails where a ratio is out of its wide bounds

The steps, each of them done in a process of its own, after it was done for three waters; unless it takes long, or with
--check, three times, of which the median counts:

plan    the fragment calculations: ManyBodyCore's compute_map; the Plan
build   the AtomicInput of each, as a worker builds it: ManyBodyCore.iterate_molecules; Cluster.fragment
merge   made-up numbers of each to a ManyBodyResult with all cluster_properties: ManyBodyCore.analyze and
        ManyBodyComputer.get_results; merge_results. "sums": a gradient without cluster_properties, which QCManyBody
        can't leave out, so that its figure is the same
all     a job with gradients, that is plan, build and merge gradient; "all, sums" has merge sums in its place, as the
        default is beyond 10,000 calculations

Time is processor time. Memory is by how much the peak resident set of the process (ru_maxrss) grew in the step: its
input is there before, and what is less than the peak of the preparation does not show.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np
from processes import apart
from qcelemental.models.v2 import AtomicInput

WATER = [("O", 0.0, 0.0, 0.1173), ("H", 0.0, 0.7572, -0.4692), ("H", 0.0, -0.7572, -0.4692)]  # angstrom
STEPS = ("plan", "build", "merge energy", "merge gradient", "merge sums")
SIDES = ("QCManyBody", "mbexec")

Case = tuple[int, str, int]  # waters, BSSE treatment, max_nbody
TREATMENTS = ("nocp", "cp", "vmfc")
CHECKED: list[Case] = [(16, bsse, 3) for bsse in TREATMENTS]
USUAL: list[Case] = [
    *((nfr, bsse, 3) for nfr in (8, 16, 32) for bsse in TREATMENTS),
    (64, "nocp", 3),
    *((16, bsse, 4) for bsse in TREATMENTS),
]
SLOW: list[Case] = [(64, "cp", 3), (64, "vmfc", 3)]
WHOLE = {"all": ("plan", "build", "merge gradient"), "all, sums": ("plan", "build", "merge sums")}
LEAST = {"plan": 0.1, "build": 8.0, "merge energy": 0.3, "merge gradient": 0.3, "merge sums": 1.0}
LEAST |= {"all": 5.0, "all, sums": 5.0}
REPEATS, LONG = 3, 10.0  # s


def job(nfr: int, bsse: str, nbody: int, wanted: str) -> dict[str, Any]:
    """Waters on a lattice, with total data as gradients have; `wanted` is energy, gradient or sums."""
    driver = "energy" if wanted == "energy" else "gradient"
    properties = "none" if wanted == "sums" else "all"
    places = 3.1 * np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:nfr]
    waters = ["\n".join(f"{s} {x + a} {y + b} {z + c}" for s, x, y, z in WATER) for a, b, c in places]
    return {
        "molecule": {"geometry": "\n--\n".join(waters)},
        "mbe": {
            "bsse_type": bsse,
            "max_nbody": min(nbody, nfr),
            "driver": driver,
            "return_total_data": True,
            "cluster_properties": properties,
        },
        "program": {"program": "pyscf", "method": "hf", "basis": "6-31g"},
    }


def numbers(count: int, atoms: Callable[[int], int], driver: str) -> Iterator[dict[str, Any]]:
    """Made-up energies, and gradients where wanted, of a size that molecules have."""
    random = np.random.default_rng(1)
    for index in range(count):
        made: dict[str, Any] = {"energy": float(-76.0 * random.random())}
        if driver != "energy":
            made["gradient"] = 0.01 * random.standard_normal((atoms(index), 3))
        yield made


def ours(nfr: int, bsse: str, nbody: int, driver: str) -> dict[str, Callable[[], Any]]:
    """The three steps of mbexec."""
    import mbexec
    from mbexec.core.context import Cluster
    from mbexec.core.engine import read_job
    from mbexec.plugins.manybody.merging import merge as merged
    from mbexec.plugins.manybody.planning import make_plan

    spec, _ = read_job(job(nfr, bsse, nbody, driver), {})
    specification = spec.specification.specification["(auto)"]

    def build() -> Any:
        plan = make_plan(spec)
        cluster = Cluster.of(spec.molecule)

        def every() -> int:
            made = (AtomicInput(molecule=cluster.fragment(t.frag, t.bas), specification=specification) for t in plan)
            return sum(1 for _ in made)

        return every

    def merge() -> Any:
        plan = make_plan(spec)
        width = plan.expansion.sets.sizes[plan.expansion.bas]
        values = numbers(len(plan), lambda i: 3 * int(width[i]), driver)
        results = [mbexec.TaskResult(index=index, values=made) for index, made in enumerate(values)]
        return lambda: merged(plan, results)

    return {"plan": lambda: lambda: make_plan(spec), "build": build, "merge": merge}


def theirs(nfr: int, bsse: str, nbody: int, driver: str) -> dict[str, Callable[[], Any]]:
    """The three steps of QCManyBody."""
    from qcmanybody.utils import delabeler, labeler
    from qcmanybody.v2 import ManyBodyComputer

    from mbexec.core.engine import read_job

    spec, _ = read_job(job(nfr, bsse, nbody, driver), {})
    specification = spec.specification.specification["(auto)"]

    def computer() -> Any:
        return ManyBodyComputer.from_manybodyinput(spec, build_tasks=False)

    def plan() -> Any:
        return sum(len(sets) for level in computer().qcmb_core.compute_map.values() for sets in level["all"].values())

    def build() -> Any:
        core = computer().qcmb_core
        core.compute_map  # noqa: B018 - planning is a step of its own

        def every() -> int:
            made = (AtomicInput(molecule=m, specification=specification) for _, _, m in core.iterate_molecules())
            return sum(1 for _ in made)

        return every

    def merge() -> Any:
        model = computer()
        every = [s for level in model.qcmb_core.compute_map.values() for sets in level["all"].values() for s in sets]
        labels = sorted({labeler("(auto)", *both) for both in every})
        values = numbers(len(labels), lambda i: 3 * len(delabeler(labels[i])[2]), driver)
        results = dict(zip(labels, values, strict=True))

        def merged() -> Any:
            found = model.qcmb_core.analyze(results)
            found["nbody_number"] = len(results)
            return model.get_results(external_results=found, component_results={})

        return merged

    return {"plan": lambda: plan, "build": build, "merge": merge}


def measure(side: str, nfr: int, bsse: str, nbody: int, step: str) -> tuple[float, float]:
    """Seconds and MB of one step, run once in this process."""
    what, _, driver = step.partition(" ")
    steps = ours if side == "mbexec" else theirs
    work = steps(nfr, bsse, nbody, driver or "energy")[what]()
    small = steps(3, bsse, nbody, driver or "energy")[what]()
    small()  # imports, caches
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    kept = work()
    took = time.process_time() - start
    del kept
    return took, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def typical(repeats: int, side: str, *given: Any) -> tuple[float, float]:
    """Median of the seconds and MB of one step that is done again and again, unless that takes long."""
    found = [apart(measure, side, *given)]
    while len(found) < repeats and found[0][0] < LONG:
        found.append(apart(measure, side, *given))
    seconds, memory = zip(*found, strict=True)
    return median(seconds), median(memory)


def rows(case: Case, repeats: int) -> Iterator[tuple[str, str, float]]:
    """Lines of the table, with the step and the ratio of times; the last are whole gradient jobs."""
    found = {step: {side: typical(repeats, side, *case, step) for side in SIDES} for step in STEPS}
    for name, steps in WHOLE.items():
        parts = {side: [found[step][side] for step in steps] for side in SIDES}
        found[name] = {side: (sum(s for s, _ in some), max(mb for _, mb in some)) for side, some in parts.items()}
    for step, by_side in found.items():
        (slow, large), (quick, small) = (by_side[side] for side in SIDES)
        times = f"{1e3 * slow:,.1f} | {1e3 * quick:,.1f} | {slow / quick:.{0 if slow > 10 * quick else 1}f}"
        name = f"{case[0]} {case[1]}" + (f" {case[2]}-body" if case[2] != 3 else "")
        yield f"| {name} | {step} | {times} | {large:.0f} | {small:.0f} |", step, slow / quick


def main() -> int:
    """Print the table; with --check, say whether every ratio is within its bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="16 waters; exit with 1 if a ratio is out of bounds")
    parser.add_argument("--full", action="store_true", help="also what takes QCManyBody most of an hour")
    options = parser.parse_args()
    good = True
    print("| waters | step | QCManyBody / ms | mbexec / ms | ratio | QCManyBody / MB | mbexec / MB |")
    print("| --- | --- | --: | --: | --: | --: | --: |")
    for case in CHECKED if options.check else USUAL + SLOW * options.full:
        for line, step, ratio in rows(case, 1 if options.check else REPEATS):
            good &= ratio >= LEAST[step]
            print(line, flush=True)
    return 0 if good or not options.check else 1


if __name__ == "__main__":
    sys.exit(main())
