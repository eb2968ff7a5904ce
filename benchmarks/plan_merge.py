"""Planning, building fragment inputs and merging: time and memory side by side with QCManyBody.

python benchmarks/plan_merge.py            # some minutes
python benchmarks/plan_merge.py --full     # also 64 waters with cp and vmfc, and 32 with QCManyBody's every molecule
python benchmarks/plan_merge.py --check    # the smallest cases; fails where a ratio is out of its wide bounds

Each figure is from a process of its own, which does one thing once: time is wall time; memory is the growth of the
process's peak resident set (ru_maxrss) over what it was when the step began. Both sides merge the same made-up results
into a ManyBodyResult. The three steps are:

plan    the fragment calculations with their coefficients: ManyBodyCore's compute map, mbexec.plan
build   the AtomicInput of each, as a worker builds it: ManyBodyCore.iterate_molecules, Cluster.fragment
merge   numbers of each to a ManyBodyResult: ManyBodyCore.analyze and ManyBodyComputer.get_results, merge_results
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from qcelemental.models.v2 import AtomicInput

WATER = [("O", 0.0, 0.0, 0.1173), ("H", 0.0, 0.7572, -0.4692), ("H", 0.0, -0.7572, -0.4692)]  # angstrom
STEPS = ("plan", "build", "merge energy", "merge gradient")
SIDES = ("QCManyBody", "mbexec")

Case = tuple[int, str]  # waters, BSSE treatment
Bounds = dict[str, float]
USUAL: list[Case] = [(16, "nocp"), (16, "cp"), (16, "vmfc"), (32, "nocp"), (32, "cp"), (32, "vmfc"), (64, "nocp")]
# Where QCManyBody takes longer than a coffee break: minutes for molecules, gigabytes for padded gradients.
SLOW = {((32, "vmfc"), "build"), ((32, "cp"), "build"), ((64, "nocp"), "build")}
LEAST: Bounds = {"plan": 3.0, "build": 8.0, "merge energy": 2.0, "merge gradient": 0.5}


def job(nfr: int, bsse: str, driver: str) -> dict[str, Any]:
    """Waters on a lattice, up to triples, with total data as gradients have."""
    places = 3.1 * np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:nfr]
    waters = ["\n".join(f"{s} {x + a} {y + b} {z + c}" for s, x, y, z in WATER) for a, b, c in places]
    return {
        "molecule": {"geometry": "\n--\n".join(waters)},
        "mbe": {"bsse_type": bsse, "max_nbody": 3, "driver": driver, "return_total_data": True},
        "program": {"program": "pyscf", "method": "hf", "basis": "6-31g"},
    }


def numbers(count: int, atoms: Callable[[int], int], driver: str) -> Iterator[dict[str, Any]]:
    """Made-up energies, and gradients where wanted, of a size that molecules have."""
    random = np.random.default_rng(1)
    for index in range(count):
        made: dict[str, Any] = {"energy": float(-76.0 * random.random())}
        if driver == "gradient":
            made["gradient"] = 0.01 * random.standard_normal((atoms(index), 3))
        yield made


def ours(nfr: int, bsse: str, driver: str) -> dict[str, Callable[[], Any]]:
    """The three steps of mbexec."""
    import mbexec
    from mbexec.core.context import Cluster
    from mbexec.core.engine import make_plan, read_job
    from mbexec.plugins.manybody import ManyBody

    spec, config = read_job(job(nfr, bsse, driver), {})
    specification = spec.specification.specification["(auto)"]

    def build() -> Any:
        plan = make_plan(spec, config)
        cluster = Cluster.of(spec.molecule)

        def every() -> int:
            made = (AtomicInput(molecule=cluster.fragment(t.frag, t.bas), specification=specification) for t in plan)
            return sum(1 for _ in made)

        return every

    def merge() -> Any:
        plan = make_plan(spec, config)
        width = plan.expansion.sets.sizes[plan.expansion.bas]
        values = numbers(len(plan), lambda i: 3 * int(width[i]), driver)
        results = [mbexec.TaskResult(index=index, values=made) for index, made in enumerate(values)]
        return lambda: ManyBody().merge_results(plan, results)

    return {"plan": lambda: lambda: make_plan(spec, config), "build": build, "merge": merge}


def theirs(nfr: int, bsse: str, driver: str) -> dict[str, Callable[[], Any]]:
    """The three steps of QCManyBody."""
    from qcmanybody.utils import delabeler, labeler
    from qcmanybody.v2 import ManyBodyComputer

    from mbexec.core.engine import read_job

    spec, _ = read_job(job(nfr, bsse, driver), {})
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


def measure(side: str, nfr: int, bsse: str, step: str) -> tuple[float, float]:
    """Seconds and MB of one step, run once in this process."""
    what, _, driver = step.partition(" ")
    steps = (ours if side == "mbexec" else theirs)(nfr, bsse, driver or "energy")
    work = steps[what]()
    small = (ours if side == "mbexec" else theirs)(3, bsse, driver or "energy")[what]()
    small()  # imports, caches
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    kept = work()
    took = time.perf_counter() - start
    del kept
    return took, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def apart(side: str, case: Case, step: str) -> tuple[float, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps([side, *case, step])]
    took, memory = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return took, memory


def row(case: Case, step: str, with_theirs: bool) -> tuple[str, float | None]:
    """A line of the table, and the ratio of times."""
    name = f"{case[0]} {case[1]}"
    took, memory = apart("mbexec", case, step)
    mine = f"{1e3 * took:,.1f} ms", f"{memory:.0f} MB"
    if not with_theirs:
        return f"| {name} | {step} | - | {mine[0]} | - | - | {mine[1]} |", None
    slow, large = apart("QCManyBody", case, step)
    ratio = slow / took
    return f"| {name} | {step} | {1e3 * slow:,.0f} ms | {mine[0]} | {ratio:.0f} | {large:.0f} MB | {mine[1]} |", ratio


def main() -> int:
    """Print the table; with --check, say whether every ratio is within its bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="small cases; exit with 1 if a ratio is out of bounds")
    parser.add_argument("--full", action="store_true", help="everything, also what takes QCManyBody half an hour")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*json.loads(options.one))))
        return 0
    cases = USUAL[:3] if options.check else USUAL + [(64, "cp"), (64, "vmfc")] * options.full
    good = True
    print("| waters | step | QCManyBody | mbexec | ratio | QCManyBody | mbexec |\n|---|---|---|---|---|---|---|")
    for case in cases:
        for step in STEPS:
            line, ratio = row(case, step, options.full or (case, step) not in SLOW)
            good &= ratio is None or ratio >= LEAST[step]
            print(line, flush=True)
    return 0 if good or not options.check else 1


if __name__ == "__main__":
    sys.exit(main())
