"""What keeping results costs: time beside a run without a store, time to resume, and room on the disk.

python benchmarks/store.py            # 100,000 fragments; prints a table
python benchmarks/store.py --check    # fewer; fails where a figure is out of its wide bounds

The fragments are up to three argon atoms on the model potential, which take next to no time of their own: a store costs
no other run as much. The file is in the temporary directory (TMPDIR says which), so the disk is that one's. Times of
processor count for this process alone; wall times also for whatever else the machine does.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import structlog

import mbexec
from mbexec import Task, TaskResult
from mbexec.plugins.sqlite import Sqlite

LARGE, SMALL = 85, 24  # atoms: 102,425 and 2,324 fragments
WATERS = 9  # atoms of three molecules


def job(nfr: int) -> dict[str, Any]:
    """Argon atoms on a lattice, one a fragment, up to three at once on the model potential."""
    places = 3.8 * np.stack(np.meshgrid(*[np.arange(6)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:nfr]
    return {
        "molecule": {"geometry": "\n--\n".join(f"Ar {x} {y} {z}" for x, y, z in places)},
        "mbe": {"bsse_type": "nocp", "max_nbody": 3},
        "program": {"program": "model-potential", "method": "lj"},
        "task": {"ncores": 1, "memory": 1},
    }


@contextmanager
def clocked(found: dict[str, tuple[float, float]], name: str, count: int) -> Iterator[None]:
    """Put down microseconds of wall and of processor time for each of so many."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    scale = 1e6 / count
    found[name] = (scale * (time.perf_counter() - wall), scale * (time.process_time() - cpu))


def runs(nfr: int, path: Path) -> dict[str, tuple[float, float]]:
    """Times for each fragment of a run without a store, with one, and with one that has it all."""
    found: dict[str, tuple[float, float]] = {}
    count = len(mbexec.plan(job(nfr)))
    for name, store in (("run without a store", None), ("run with a store", path), ("run again", path)):
        with clocked(found, name, count):
            mbexec.run(job(nfr), executor="serial", store=store)
    return found


def made(count: int, nat: int) -> list[tuple[Task, str, TaskResult]]:
    """Results as from workers, with a gradient if there are atoms."""
    random = np.random.default_rng(1)
    found = []
    for index in range(count):
        values = {"energy": random.normal()} | ({"gradient": random.normal(size=(nat, 3))} if nat else {})
        place = tuple(sorted(random.choice(100, 3, replace=False).tolist()))
        began = 1.7e9 + random.random()
        result = TaskResult(index, values, None, began, began + random.random(), random.random(), "node01:12345:12345")
        key = hashlib.blake2b(str(index).encode(), digest_size=20).hexdigest()
        found.append((Task(index, "(auto)", place, place), key, result))
    return found


def store(count: int, nat: int, path: Path) -> tuple[dict[str, tuple[float, float]], float]:
    """Times of the store alone for each result, and bytes."""
    found: dict[str, tuple[float, float]] = {}
    given = made(count, nat)
    tasks, keys = [task for task, _, _ in given], [key for _, key, _ in given]
    with Sqlite(path) as opened:
        with clocked(found, "keep one", count):
            for each in given:
                opened.keep_result(*each)
        with clocked(found, "ask for one that is not there", count):
            for task, key in zip(tasks, keys, strict=True):
                opened.recall_results([task], [key[::-1]])
    with Sqlite(path) as opened:
        with clocked(found, "ask for one that is there", count):
            for task, key in zip(tasks, keys, strict=True):
                opened.recall_results([task], [key])
        with clocked(found, "recall in batches of 1,000", count):
            for start in range(0, count, 1000):
                opened.recall_results(tasks[start : start + 1000], keys[start : start + 1000])
    return found, path.stat().st_size / count


def main() -> int:
    """Print the tables; with --check, say whether every figure is within its bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fewer; exit with 1 if a figure is out of bounds")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    nfr, count = (SMALL, 5000) if given.check else (LARGE, 100_000)
    show: Callable[..., None] = lambda name, wall, cpu: print(f"{name:45} {wall:8.1f} {cpu:8.1f}")  # noqa: E731
    with tempfile.TemporaryDirectory() as folder:
        print(f"{'us for each':45} {'wall':>8} {'cpu':>8}")
        ran = runs(nfr, Path(folder) / "run.store")
        for name, times in ran.items():
            show(name, *times)
        alone, sizes = {}, {}
        for what, nat in (("energy", 0), ("gradient of 9 atoms", WATERS)):
            alone[what], sizes[what] = store(count, nat, Path(folder) / f"{nat}.store")
            for name, times in alone[what].items():
                show(f"{what}: {name}", *times)
    for what, size in sizes.items():
        print(f"{what}: {size:.0f} bytes on disk")
    good = True
    for name, figure, most in [
        ("run with a store / without, processor", ran["run with a store"][1] / ran["run without a store"][1], 4.0),
        ("run again / run without a store, processor", ran["run again"][1] / ran["run without a store"][1], 2.0),
        ("us to ask for one, processor", alone["energy"]["ask for one that is not there"][1], 150.0),
        ("bytes of an energy", sizes["energy"], 400.0),
        ("bytes of a gradient of 9 atoms", sizes["gradient of 9 atoms"], 800.0),
    ]:
        good &= figure <= most
        print(f"{name}: {figure:.2f}  (at most {most:g})")
    return 0 if good or not given.check else 1


if __name__ == "__main__":
    sys.exit(main())
