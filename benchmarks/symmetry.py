"""Duplicates by symmetry: how many calculations are unique, how long that takes to find, and what a run gains.

python benchmarks/symmetry.py            # all of it, with tblite and PySCF (some minutes); prints tables
python benchmarks/symmetry.py --check    # the model potential only; fails where a count is another, or a time too long

The crystals: argon, face-centred cubic, atoms round one of them; rigid waters on a cubic lattice, each upside down to
its neighbours, and each second layer turned by a right angle. Runs are serial, without a store; each system runs with
symmetry and without it, one after the other. Times are of the processor (finding) and of the clock (runs, with planning
and merging). The last columns are differences, in atomic units: the greatest of all calculations' energies, those of
the total energy and gradient. A total has the rounding of each energy, some 1e-13 E_h, multiplied by its coefficients.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np

import mbexec
from mbexec import RunResult
from mbexec.plugins.manybody.symmetry import find_symmetry

WATER = np.array([[0.0, 0.0, 0.0], [1.43, 0.0, 1.108], [-1.43, 0.0, 1.108]])  # a0
MODEL = {"program": "model-potential", "method": "lj-atm", "keywords": {"rmin": {"H": 1.0, "O": 1.8}}}
TBLITE = {"program": "tblite", "method": "GFN2-xTB", "keywords": {"accuracy": 1e-4}}
PYSCF = {
    "program": "pyscf",
    "method": "hf",
    "basis": "sto-3g",
    "keywords": {"conv_tol": 1e-13, "conv_tol_grad": 1e-10},
}


def argon(number: int) -> str:
    """Atoms of a face-centred cubic crystal round one of them; 13, 19, 43 and 55 are whole shells."""
    grid = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[grid.sum(axis=1) % 2 == 0]
    nearest = np.argsort((grid**2).sum(axis=1), kind="stable")[:number]
    return "\n--\n".join("Ar {:.4f} {:.4f} {:.4f}".format(*place) for place in 5.02 * grid[nearest])


def waters(*sizes: int) -> str:
    """Rigid waters on a lattice."""
    molecules = []
    for place in np.ndindex(*sizes):
        atoms = WATER * [1, 1, 1 - 2 * (sum(place) % 2)]
        atoms = (atoms[:, [1, 0, 2]] if place[2] % 2 else atoms) + 5.5 * np.array(place)
        molecules.append("\n".join(f"{s} {x:.8f} {y:.8f} {z:.8f}" for s, (x, y, z) in zip("OHH", atoms, strict=True)))
    return "\n--\n".join(molecules)


def job(geometry: str, program: dict[str, Any], **mbe: Any) -> dict[str, Any]:
    """To 3-body with gradients, unless it is said otherwise."""
    settings = {"bsse_type": "nocp", "max_nbody": 3, "driver": "gradient", "cluster_properties": "none", **mbe}
    return {"molecule": {"units": "bohr", "geometry": geometry}, "mbe": settings, "program": program}


FOUND = {  # job, how many are unique
    "argon, 55": (job(argon(55), MODEL), 186),
    "argon, 55, vmfc": (job(argon(55), MODEL, bsse_type="vmfc"), 1092),
    "waters, 32": (job(waters(2, 4, 4), MODEL), 869),
    "waters, 32, cp": (job(waters(2, 4, 4), MODEL, bsse_type="cp"), 2753),
    "waters, 64": (job(waters(4, 4, 4), MODEL), 2282),
}
RUN = {  # job, how many are unique
    "argon, 55, model potential": (job(argon(55), MODEL), 186),
    "argon, 13, GFN2-xTB": (job(argon(13), TBLITE), 15),
    "waters, 16, GFN2-xTB": (job(waters(2, 2, 4), TBLITE), 107),
    "waters, 8, HF/STO-3G": (job(waters(2, 2, 2), PYSCF), 23),
}


def find() -> bool:
    """How many are unique and how long that takes to find; whether all is as it should be."""
    print(f"{'':20} {'calculations':>12} {'unique':>7} {'finding / s':>11}")
    good = True
    for name, (given, unique) in FOUND.items():
        plan = mbexec.plan(given)
        start = time.process_time()
        found = find_symmetry(plan.spec.molecule, plan.expansion, 1e-6)
        taken = time.process_time() - start
        count = int(found.runs.sum())
        print(f"{name:20} {len(plan):12} {count:7} {taken:11.2f}")
        good = good and count == unique and taken < 60
    return good


def timed(given: dict[str, Any], **mbe: Any) -> tuple[RunResult, float]:
    """A run, and how long it took with planning and merging."""
    whole = given | {"mbe": given["mbe"] | mbe}
    start = time.perf_counter()
    return mbexec.run(whole, executor="serial"), time.perf_counter() - start


def apart(found: RunResult, plain: RunResult) -> tuple[float, float, float]:
    """The greatest difference of the calculations' energies, and those of the total energy and gradient."""
    ours, theirs = found.result.properties, plain.result.properties
    return (
        float(np.abs(found.energies - plain.energies).max()),
        abs(ours.return_energy - theirs.return_energy),
        float(np.abs(ours.return_gradient - theirs.return_gradient).max()),
    )


def run(checked: bool) -> bool:
    """What runs gain, and how far numbers differ; whether all is as it should be."""
    heads = ("run", "unique", "time / s", "with / s", "gain", "each E", "total E", "gradient")
    print(f"\n{'':28}" + "".join(f"{head:>10}" for head in heads))
    good = True
    for name, (given, unique) in RUN.items():
        if checked and given["program"] is not MODEL:
            continue
        timed(job(argon(2), given["program"], max_nbody=1))  # programs are loaded
        plain, without = timed(given)
        found, taken = timed(given, symmetry_tolerance=1e-6)
        each, total, gradient = apart(found, plain)
        count = found.report.executed
        print(
            f"{name:28}{plain.report.executed:10}{count:10}{without:10.2f}{taken:10.2f}{without / taken:10.1f}"
            f"{each:10.0e}{total:10.0e}{gradient:10.0e}"
        )
        good = good and count == unique and each < 1e-12 and gradient < 1e-10 and taken < without
    return good


def main() -> int:
    """Print the tables; with --check, say whether counts, numbers and times are as they should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="the model potential only; exit with 1 out of bounds")
    check = parser.parse_args().check
    good = [find(), run(check)]
    return 0 if all(good) or not check else 1


if __name__ == "__main__":
    sys.exit(main())
