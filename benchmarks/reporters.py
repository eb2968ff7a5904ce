"""What reporters cost: a run of about 10,000 trivial fragments with each, with several and with none, side by side.

python benchmarks/reporters.py            # prints a table
python benchmarks/reporters.py --check    # fewer; fails where a ratio is out of its wide bounds

The fragments are up to three argon atoms on the model potential, which take next to no time of their own: reporters
cost no other run as much. Runs take turns, and the fastest of each kind counts: whatever else the machine does only
makes them slower. Processor time is that of this process. What is written goes into the temporary directory, and the
display onto a terminal that nobody sees.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from importlib.metadata import entry_points
from typing import Any

import numpy as np

import mbexec
from mbexec.cli.common import DEFAULTS
from mbexec.core.engine import read_job
from mbexec.core.logs import configure

LARGE, SMALL = 39, 24  # atoms: 9,919 and 2,324 fragments
RECORD = {"plugin.jsonl.path": "run.jsonl"}
BOUND = 1.5  # of the default set, small runs on a busy machine; 1.1 is the aim for 10,000 fragments
ALL_BOUND = 4.0


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
def terminal() -> Iterator[None]:
    """Let standard error be a terminal whose screen nobody sees; worker processes keep it open as long as they live."""
    ours, theirs = os.openpty()
    threading.Thread(target=_drain, args=(ours,), daemon=True).start()
    before, sys.stderr = sys.stderr, open(theirs, "w", encoding="utf-8")  # noqa: SIM115 - closed below
    configure()
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = before


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 65536):
            pass
    except OSError:  # how a terminal ends on Linux
        pass


def measured(spec: Any, executor: str, reporters: tuple[str, ...]) -> tuple[float, float]:
    """Wall and processor time of a run, s."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = mbexec.run(spec, executor=executor, workers=2 if executor != "serial" else 1, reporters=reporters, **RECORD)
    times = time.perf_counter() - wall, time.process_time() - cpu
    assert found.result.success
    return times


def sets() -> dict[str, tuple[str, ...]]:
    """Reporters to run with, by what the set is called."""
    there = {point.name for point in entry_points(group="mbexec")}
    single = [name for name in ("progress", "jsonl", "structlog", "trace") if name in there]
    default = (*DEFAULTS["run.reporters"], "jsonl")
    return {
        "none": (),
        **{name: (name,) for name in single},
        f"default ({', '.join(default)})": default,
        "all": tuple(single),
    }


def main() -> int:
    """Print the tables; with --check, say whether the ratios are within their bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fewer; exit with 1 if a ratio is out of bounds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--executors", default="serial,loky")
    given = parser.parse_args()
    spec, _ = read_job(job(SMALL if given.check else LARGE), {})
    count, good = len(mbexec.plan(spec)), True
    for executor in given.executors.split(","):
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in sets()}
        with terminal(), tempfile.TemporaryDirectory() as folder, chdir(folder):
            measured(spec, executor, ())
            for _ in range(given.rounds):
                for name, reporters in sets().items():
                    times[name].append(measured(spec, executor, reporters))
        print(f"\n{executor}, {count:,} fragments: ratio to none, us more for each fragment (processor)")
        print(f"{'reporters':32} {'wall':>8} {'cpu':>8} {'us':>8}")
        for name, found in times.items():
            best = [min(kind) for kind in zip(*found, strict=True)]
            least = [min(kind) for kind in zip(*times["none"], strict=True)]
            ratios = [one / none for one, none in zip(best, least, strict=True)]
            more = best[1] - least[1]
            print(f"{name:32} {ratios[0]:8.3f} {ratios[1]:8.3f} {1e6 * more / count:8.1f}")
            good &= min(ratios) <= (BOUND if name.startswith("default") else ALL_BOUND)
    return 0 if good or not given.check else 1


if __name__ == "__main__":
    sys.exit(main())
