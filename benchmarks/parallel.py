"""What workers gain with real programs: whole runs on two or four workers beside serial and QCManyBody's own loop.

python benchmarks/parallel.py                    # prints tables; a quarter of an hour
python benchmarks/parallel.py waiting schedule   # only these
python benchmarks/parallel.py --check            # smaller systems; fails where a ratio is out of its wide bounds

Every calculation has one core, and so has each in QCManyBody's loop. The runs of a table take turns, and the best of
each counts. The baseline is a run on `serial`, not a sum of times: fragments that contend for a core take longer each.
"cpu" is the processor time of programs, which shows such contention (of child processes it is not known), and "other"
how many cores did other things meanwhile: other processes, and what is not in programs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
import psutil
import qcengine
from attrs import frozen
from qcengine.programs.model import ProgramHarness
from qcmanybody.v2 import ManyBodyComputer

import mbexec
from mbexec.core.potential import ModelPotential

TURNS = 3
ONE_CORE = {"QCENGINE_NCORES": "1", "QCENGINE_MEMORY": "1"}  # for QCManyBody, which gives no task configuration
WARM = {"plugin.loky.idle_timeout": 900}
NAP = 0.25  # s


class Napping(ProgramHarness):
    """The model potential after a child process that sleeps: a program that mostly waits."""

    _defaults: ClassVar = {
        "name": "napping",
        "scratch": False,
        "thread_safe": True,
        "thread_parallel": False,
        "node_parallel": False,
        "managed_memory": False,
    }

    @staticmethod
    def found(raise_error: bool = False) -> bool:
        """Return True: every system has `sleep`."""
        return True

    def compute(self, input_data: Any, config: Any) -> Any:
        """Wait, then compute."""
        subprocess.run(["sleep", str(NAP)], check=True)
        return ModelPotential().compute(input_data, config)


@frozen
class Best:
    """The quickest run of a contender: wall time, processor time in programs (s), and cores that did other things."""

    wall: float
    cpu: float
    otherwise: float


Contender = Callable[[], float]
Bound = tuple[str, float, float]


def waters(count: int) -> str:
    """Water molecules on a lattice, each turned another way, in angstrom."""
    rng = np.random.default_rng(11)
    own = np.array([[0, 0, 0], [0.757, 0.586, 0], [-0.757, 0.586, 0]])
    found = []
    for number in range(count):
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        atoms = own @ rotation + 3.1 * np.array([number % 3, number // 3 % 3, number // 9])
        found.append("\n".join(f"{s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip("OHH", atoms, strict=True)))
    return "\n--\n".join(found)


def argon(count: int, atoms: int = 1) -> str:
    """Fragments of argon atoms on a lattice, so many atoms each, in angstrom."""
    places = 3.8 * np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    lines = [f"Ar {x} {y} {z}" for x, y, z in places[: count * atoms]]
    return "\n--\n".join("\n".join(lines[start : start + atoms]) for start in range(0, len(lines), atoms))


def job(geometry: str, program: Mapping[str, Any], max_nbody: int = 3, driver: str = "gradient", **mbe: Any) -> Any:
    """Return the many-body input, which mbexec and QCManyBody run alike."""
    tables = {
        "molecule": {"geometry": geometry},
        "mbe": {"bsse_type": "nocp", "driver": driver, "return_total_data": True, **mbe},
        "program": program,
    }
    tables["mbe"] |= {} if "levels" in mbe else {"max_nbody": max_nbody}
    return mbexec.plan(tables).spec


def ours(spec: Any, executor: str, workers: int, **settings: Any) -> float:
    """Run with mbexec; seconds of processor time in programs."""
    task = {"task.ncores": 1, "task.memory": 0.5}
    run = mbexec.run(spec, executor=executor, workers=workers, **{**task, **WARM, **settings})
    assert run.result.success, run.result
    return sum(level.cpu_time for level in run.report.levels)


def theirs(spec: Any) -> float:
    """Run QCManyBody's own loop, at one core."""
    start = time.process_time()
    assert ManyBodyComputer.from_manybodyinput(spec).success
    return time.process_time() - start


def contenders(spec: Any, names: Iterable[str], workers: int) -> dict[str, Contender]:
    """Run `spec` on each of the executors, or in QCManyBody's loop."""
    found: dict[str, Contender] = {}
    for name in names:
        count = 1 if name == "serial" else workers
        found[name] = partial(theirs, spec) if name == "QCManyBody" else partial(ours, spec, name, count)
    return found


def busy() -> float:
    """Seconds that all cores together have been busy."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def contest(title: str, runs: Mapping[str, Contender], workers: int, turns: int = TURNS) -> dict[str, Best]:
    """Let the runs take turns, and print the best of each beside the first."""
    found: dict[str, Best] = {}
    for name, run in [*runs.items()] * turns:
        start, before = time.perf_counter(), busy()
        cpu = run()
        wall = time.perf_counter() - start
        new = Best(wall, cpu, (busy() - before - cpu) / wall)
        found[name] = min(found.get(name, new), new, key=lambda best: best.wall)
    first = next(iter(found.values()))
    heads = f"{'wall / s':>9} {'cpu / s':>9} {'speedup':>8} {'efficiency':>10} {'other':>6}"
    print(f"\n{title}; {workers} workers\n{'':14} {heads}")
    for name, best in found.items():
        speedup = first.wall / best.wall
        one = name in ("serial", "QCManyBody")
        figures = f"{best.wall:9.2f} {best.cpu:9.2f} {speedup:8.2f} {speedup / (1 if one else workers):10.2f}"
        print(f"{name:14} {figures} {best.otherwise:6.2f}", flush=True)
    return found


def efficiency(check: bool) -> list[Bound]:
    """Two workers on two cores, gradients with PySCF: what is lost beyond half the serial time."""
    count, basis = (4, "6-31g") if check else (6, "6-311g**")
    program = {"program": "pyscf", "method": "hf", "basis": basis}
    spec, small = job(waters(count), program), job(waters(2), program, 1)
    names = ("serial", "threads", "loky", "QCManyBody")
    for run in contenders(small, names, 2).values():  # programs loaded, workers started
        run()
    title = f"{count} waters to 3-body, HF/{basis.upper()} gradients with PySCF"
    found = contest(title, contenders(spec, names, 2), 2, 2)
    serial = found["serial"].wall
    return [
        ("efficiency of threads", serial / found["threads"].wall / 2, 0.3),
        ("efficiency of loky", serial / found["loky"].wall / 2, 0.3),
        ("PySCF: QCManyBody / serial", found["QCManyBody"].wall / serial, 0.7),
    ]


def waiting(check: bool) -> list[Bound]:
    """Four workers and a program that waits; beside it NWChem and MOPAC, child processes that compute."""
    names = ("serial", "threads", "loky")
    spec = job(argon(16), {"program": "napping", "method": "lj"}, 1)
    found = contest(f"16 naps of {NAP} s in child processes", contenders(spec, names, 4), 4, 1 if check else TURNS)
    if not check:
        real = {"NWChem, HF/STO-3G": ("nwchem", "hf", "sto-3g", 4, 2), "MOPAC, PM6": ("mopac", "pm6", None, 6, 3)}
        for title, (name, method, basis, count, most) in real.items():
            spec = job(waters(count), {"program": name, "method": method, "basis": basis or ""}, most)
            contest(f"{count} waters to {most}-body, {title} gradients", contenders(spec, names, 4), 4)
    return [("waiting: serial / threads", found["serial"].wall / found["threads"].wall, 2.0)]


def python(check: bool) -> list[Bound]:
    """Work that computes in Python."""
    names = ("serial", "threads", "loky")
    lj = {"program": "model-potential", "method": "lj"}
    few = {"program": "model-potential", "method": "lj-atm"}
    small, large = job(argon(32), lj, driver="energy"), job(argon(12, 12), few)
    turns = 2 if check else TURNS
    tiny = contest("5,488 energies of up to 3 argon atoms", contenders(small, names, 2), 2, turns)
    found = contest("298 gradients of up to 36 argon atoms", contenders(large, names, 2), 2, turns)
    return [
        ("small in Python: threads / loky", tiny["threads"].wall / tiny["loky"].wall, 0.7),
        ("large in Python: threads / loky", found["threads"].wall / found["loky"].wall, 0.7),
    ]


def alone(check: bool) -> list[Bound]:
    """One core: serial beside QCManyBody's own loop."""
    spec = job(waters(6), {"program": "tblite", "method": "gfn2-xtb"})
    ours(spec, "serial", 1)  # known to QCEngine from here on
    runs = contenders(spec, ("serial", "QCManyBody"), 1)
    found = contest("6 waters to 3-body, GFN2-xTB gradients with tblite", runs, 1)
    return [("tblite: QCManyBody / serial", found["QCManyBody"].wall / found["serial"].wall, 0.8)]


def schedule(check: bool) -> list[Bound]:
    """A mixed load: many small calculations, and the whole cluster as one large one at the end of the plan."""
    low = {"program": "pyscf", "method": "hf", "basis": "sto-3g"}
    count, basis = (4, "sto-3g") if check else (6, "6-31g")
    levels = {"1": "high", "2": "low", "supersystem": "whole"}
    program = {"high": {**low, "method": "mp2", "basis": "6-31g*"}, "low": low, "whole": {**low, "basis": basis}}
    spec = job(waters(count), program, levels=levels)
    runs: dict[str, Contender] = {"serial": partial(ours, spec, "serial", 1)}
    for name in ("threads", "loky"):
        for order in ("nbody", "cost"):
            runs[f"{name}, {order}"] = partial(ours, spec, name, 2, schedule=order)
    title = f"{count} waters, MP2/6-31G* of each, HF/STO-3G of pairs, HF/{basis.upper()} of all, gradients"
    found = contest(title, runs, 2, 2 if check else TURNS)
    return [
        (f"{name}: nbody / cost", found[f"{name}, nbody"].wall / found[f"{name}, cost"].wall, 0.7)
        for name in ("threads", "loky")
    ]


SECTIONS = {section.__name__: section for section in (efficiency, waiting, python, alone, schedule)}


def main() -> int:
    """Print the tables; with --check, say whether every ratio is within its bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(SECTIONS))
    parser.add_argument("--check", action="store_true", help="exit with 1 if a ratio is out of bounds")
    given = parser.parse_args()
    if unknown := set(given.sections) - set(SECTIONS):
        parser.error(f"no section {sorted(unknown)[0]!r}; there are {', '.join(SECTIONS)}")
    os.environ |= ONE_CORE
    qcengine.register_program(Napping())
    bounds = [bound for name in given.sections or SECTIONS for bound in SECTIONS[name](given.check)]
    print()
    for name, ratio, low in bounds:
        print(f"{name}: {ratio:.2f}  (at least {low})")
    return 0 if all(ratio >= low for _, ratio, low in bounds) or not given.check else 1


if __name__ == "__main__":
    sys.exit(main())
