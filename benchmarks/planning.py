"""Planning of large clusters within distance cutoffs: time, memory, and time for each fragment calculation.

python benchmarks/planning.py            # lumps of 125 to 10,000 waters, pairs and triples within 6 angstrom
python benchmarks/planning.py --check    # fails where 1,000 or 10,000 waters take longer, or more, than they should

plan    from a molecule that is read to the Plan, by centres of mass and by closest atoms
read    from the job's tables to the molecule
all     `mbexec plan` of a job file, imports included, once
Time is processor time, the least of three turns; memory is by how much the peak resident set grew in the first.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from processes import apart

WATER = np.array([[0, 0, 0.1173], [0, 0.7572, -0.4692], [0, -0.7572, -0.4692]])  # angstrom
SIZES = (125, 1_000, 3_375, 10_000)
CHECKED = (1_000, 10_000)
MEASURES = ("centers_of_mass", "closest_atoms")
MOST = {  # processor seconds, MiB; twice what they should be is within what a busy machine does
    (1_000, "centers_of_mass"): (0.1, 100),
    (1_000, "closest_atoms"): (0.2, 100),
    (10_000, "centers_of_mass"): (1.0, 300),
    (10_000, "closest_atoms"): (2.0, 600),
}
MOST_ALL = 20.0  # s


def waters(nfr: int) -> np.ndarray:
    """Waters turned at random about a lattice of liquid density, (nfr, 3, 3), angstrom."""
    rng = np.random.default_rng(1)
    side = int(np.ceil(nfr ** (1 / 3)))
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:nfr]
    turns = np.linalg.qr(rng.normal(size=(nfr, 3, 3)))[0]
    return (3.1 * grid + 0.15 * rng.normal(size=(nfr, 3)))[:, None] + np.einsum("nij,aj->nai", turns, WATER)


def job(nfr: int, measure: str) -> dict[str, Any]:
    """The tables of a job."""
    parts = [
        "\n".join(f"{s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip("OHH", m, strict=True)) for m in waters(nfr)
    ]
    return {
        "molecule": {"geometry": "\n--\n".join(parts)},
        "mbe": {
            "bsse_type": "nocp",
            "max_nbody": 3,
            "cutoff": {"2": 6.0, "3": 6.0},
            "cutoff_measure": measure,
        },
        "program": {"program": "model-potential", "method": "lj"},
    }


def measure(nfr: int, kind: str) -> dict[str, float]:
    """How long reading and planning take in this process."""
    from mbexec.core.engine import read_job
    from mbexec.plugins.manybody.planning import make_plan

    make_plan(read_job(job(8, kind), {})[0])  # imports
    tables = job(nfr, kind)
    start = time.process_time()
    spec, _ = read_job(tables, {})
    found = {"read": time.process_time() - start}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plan = make_plan(spec)
    found["memory"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    found["tasks"] = len(plan)
    times = []
    for _ in range(3):
        start = time.process_time()
        make_plan(spec)
        times.append(time.process_time() - start)
    return found | {"plan": min(times)}


def whole(nfr: int) -> float:
    """Processor time of the command, of a job file with an .xyz file that is cut into fragments."""
    with tempfile.TemporaryDirectory() as folder:
        atoms = [f"{s} {x:.6f} {y:.6f} {z:.6f}" for m in waters(nfr) for s, (x, y, z) in zip("OHH", m, strict=True)]
        Path(folder, "waters.xyz").write_text("\n".join([str(len(atoms)), "", *atoms]))
        tables = job(nfr, MEASURES[0])
        Path(folder, "job.toml").write_text(
            '[molecule]\nfile = "waters.xyz"\n[mbe]\nbsse_type = "nocp"\nmax_nbody = 3\n'
            f"cutoff = {{2 = 6.0, 3 = 6.0}}\ncutoff_measure = {json.dumps(MEASURES[0])}\n"
            "[program]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in tables["program"].items())
        )
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        script = "import sys; from mbexec.cli import main; main(sys.argv[1:])"
        command = [sys.executable, "-c", script, "plan", str(Path(folder, "job.toml"))]
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def rows(sizes: tuple[int, ...]) -> Iterator[tuple[int, str, dict[str, float]]]:
    """What each cluster takes, in a process of its own."""
    for nfr in sizes:
        for kind in MEASURES:
            yield nfr, kind, apart(measure, nfr, kind)


def main() -> int:
    """Print the tables; with --check, say whether everything is within its bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="1,000 and 10,000 waters; exit with 1 if out of bounds")
    options = parser.parse_args()
    good = True
    print("| waters | measure | calculations | plan / ms | us each | MiB | read / s |")
    print("| --: | --- | --: | --: | --: | --: | --: |")
    for nfr, kind, found in rows(CHECKED if options.check else SIZES):
        seconds, memory = MOST.get((nfr, kind), (np.inf, np.inf))
        good &= found["plan"] < 2 * seconds and found["memory"] < memory
        each = 1e6 * found["plan"] / found["tasks"]
        print(
            f"| {nfr:,} | {kind} | {found['tasks']:,.0f} | {1e3 * found['plan']:.0f} | {each:.2f} "
            f"| {found['memory']:.0f} | {found['read']:.2f} |",
            flush=True,
        )
    took = whole(10_000)
    print(f"\n`mbexec plan` of 10,000 waters in a file, all in all: {took:.1f} s")
    good &= took < MOST_ALL
    return 0 if good or not options.check else 1


if __name__ == "__main__":
    sys.exit(main())
