"""What 1 to 8 workers make of a run: its wall time, the time of a fragment calculation, and the memory held at its end.

python benchmarks/scaling.py

Each run has an interpreter of its own, and a small run before it that starts workers and loads the program. With more
workers than cores, calculations take longer each, and the run no less. Memory that processes share is counted once.
"""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from typing import Any

from parallel import argon, waters

WORKERS = range(1, 9)
EXECUTORS = ("threads", "loky")
TURNS = 3
SCRIPT = """
import sys, time, psutil
import mbexec
executor, workers = sys.argv[1], int(sys.argv[2])
mbexec.run({small!r}, executor=executor, workers=workers)
start = time.perf_counter()
run = mbexec.run({job!r}, executor=executor, workers=workers)
wall = time.perf_counter() - start
levels = run.report.levels
count = run.report.ntasks
own = psutil.Process()
held = [process.memory_full_info().pss / 2**20 for process in (own, *own.children(recursive=True))]
each = [1e3 * sum(values) / count for values in ([l.wall_time for l in levels], [l.cpu_time for l in levels])]
print(wall, *each, held[0], sum(held[1:]))
"""


def job(geometry: str, max_nbody: int, program: dict[str, Any], driver: str) -> dict[str, Any]:
    """Return the tables of a job file."""
    return {
        "molecule": {"geometry": geometry},
        "mbe": {"bsse_type": "nocp", "max_nbody": max_nbody, "driver": driver, "return_total_data": True},
        "program": program,
        "task": {"ncores": 1, "memory": 0.5},
    }


HF = {"program": "pyscf", "method": "hf", "basis": "6-31g"}
LJ = {"program": "model-potential", "method": "lj"}
JOBS = {  # a run, and a smaller one to start with, which has work for 8 workers
    "32 argon atoms to 3-body, model potential": (job(argon(32), 3, LJ, "energy"), job(argon(32), 1, LJ, "energy")),
    "5 waters to 3-body, HF/6-31G gradients": (job(waters(5), 3, HF, "gradient"), job(waters(12), 1, HF, "gradient")),
}


def measured(tables: dict[str, Any], small: dict[str, Any], executor: str, workers: int) -> list[float]:
    """Wall time (s), wall and processor time of a calculation (ms), memory of the parent and of others (MiB)."""
    command = [sys.executable, "-c", SCRIPT.format(job=tables, small=small), executor, str(workers)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(number) for number in done.stdout.split()]


def main() -> None:
    """Print a table of each job, with the quickest of a few turns for each row."""
    for title, (tables, small) in JOBS.items():
        best: dict[tuple[str, int], list[float]] = {}
        for turn in range(TURNS):  # rows take turns, so that what else the machine does is shared among them
            for row in product(EXECUTORS, WORKERS):
                found = measured(tables, small, *row)
                best[row] = min(found, best.get(row, found))
            print(f"turn {turn + 1} of {TURNS} done", file=sys.stderr, flush=True)
        print(
            f"\n{title}\n{'':12} {'wall / s':>9} {'ms each':>9} {'cpu each':>9} {'parent':>7} {'others':>7} {'all':>7}"
        )
        for (executor, workers), (wall, each, cpu, own, others) in best.items():
            held = " ".join(f"{part:7.0f}" for part in (own, others, own + others))
            print(f"{executor:8} {workers:3} {wall:9.2f} {each:9.2f} {cpu:9.2f} {held}", flush=True)


if __name__ == "__main__":
    main()
