"""What reporters cost: a run of about 10,000 trivial fragments with each, with several and with none, side by side.

python benchmarks/reporters.py            # prints a table
python benchmarks/reporters.py --check    # fewer; fails where a ratio is out of its wide bounds

The fragments are up to three argon atoms on the model potential, which take next to no time of their own: reporters
cost no other run as much. Each run has one without reporters beside it, and the median of the ratios counts: a run may
differ by a tenth from the next for other reasons, so that these ratios tell little. Processor time is that of this
process. What is written goes into the temporary directory, and the display onto a terminal that nobody sees.

For `serial`, a second table therefore takes reporters away for half of the blocks of 64 fragments, drawn at random,
within the same runs, and compares medians of blocks, in processor time of the thread that computes; what other threads
take is added.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from importlib.metadata import entry_points
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
from attrs import frozen

import mbexec
from mbexec import FragmentDone
from mbexec.cli.common import DEFAULTS
from mbexec.core.engine import read_job
from mbexec.core.logs import configure
from mbexec.core.loop import Run

LARGE, SMALL = 39, 24  # atoms: 9,919 and 2,324 fragments
RECORD = {"plugin.jsonl.path": "run.jsonl"}
BOUND = 1.5  # of the default set, small runs on a busy machine; 1.1 is the aim for 10,000 fragments
BLOCK_BOUND = 1.5  # of the same by blocks
ALL_BOUND = 4.0
BLOCK = 64  # fragments

Times = tuple[float, float]  # wall and processor time, s


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
    """Let standard error be a terminal that a process of its own reads, as terminals are."""
    ours, theirs = os.openpty()
    reader = subprocess.Popen(["cat"], stdin=ours, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(ours)
    before, sys.stderr = sys.stderr, open(theirs, "w", encoding="utf-8")  # noqa: SIM115 - closed below
    configure()
    try:
        yield
    finally:
        sys.stderr.close()
        sys.stderr = before
        reader.terminate()
        reader.wait()


def measured(spec: Any, executor: str, reporters: tuple[str, ...]) -> Times:
    """What a run takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = mbexec.run(spec, executor=executor, workers=2 if executor != "serial" else 1, reporters=reporters, **RECORD)
    times = time.perf_counter() - wall, time.process_time() - cpu
    assert found.result.success
    return times


@frozen
class Costs:
    """Processor time for a fragment, s: of the run's thread without reporters and with them, and of other threads."""

    without: float
    with_: float
    others: float

    @property
    def ratio(self) -> float:
        """What a fragment takes with them to what it takes without."""
        return (self.with_ + self.others) / self.without


def by_blocks(spec: Any, reporters: tuple[str, ...], rounds: int) -> Costs:
    """Costs of runs in which reporters are told of half of the blocks of fragments, drawn at random."""
    blocks: dict[bool, list[float]] = {True: [], False: []}
    told, count, since, others, total = True, 0, 0.0, 0.0, 0
    chance = random.Random(1)
    report, begun = Run._report, Run._begun

    def report_some(run: Run, event: Any) -> None:
        nonlocal told, count, since
        reporters = run._reporters
        if isinstance(event, FragmentDone):
            run._reporters = reporters if told else {}
        report(run, event)
        run._reporters = reporters
        if isinstance(event, FragmentDone):
            count += 1
            if count % BLOCK == 0:
                now = time.thread_time()
                blocks[told].append(now - since)
                told, since = chance.random() < 0.5, now

    with (
        mock.patch.object(Run, "_report", report_some),
        mock.patch.object(Run, "_begun", lambda run, task: begun(run, task) if told else None),
    ):
        for _ in range(rounds):
            whole, since, count = time.process_time() - time.thread_time(), time.thread_time(), 0
            mbexec.run(spec, executor="serial", workers=1, reporters=reporters, **RECORD)
            others += time.process_time() - time.thread_time() - whole
            total += count
    return Costs(median(blocks[False]) / BLOCK, median(blocks[True]) / BLOCK, others / total)


def sets() -> dict[str, tuple[str, ...]]:
    """Reporters to run with, by what the set is called."""
    there = {point.name for point in entry_points(group="mbexec")}
    single = [name for name in ("progress", "jsonl", "structlog", "trace") if name in there]
    default = (*DEFAULTS["run.reporters"], "jsonl")
    return {
        **{name: (name,) for name in single},
        f"default ({', '.join(default)})": default,
        "all": tuple(single),
    }


def main() -> int:
    """Print the tables; with --check, say whether the ratios are within their bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="fewer; exit with 1 if a ratio is out of bounds")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--executors", default="serial,threads,loky")
    given = parser.parse_args()
    spec, _ = read_job(job(SMALL if given.check else LARGE), {})
    count, good = len(mbexec.plan(spec)), True
    for executor in given.executors.split(","):
        pairs: dict[str, list[tuple[Times, Times]]] = {name: [] for name in sets()}
        with terminal(), tempfile.TemporaryDirectory() as folder, chdir(folder):
            measured(spec, executor, ())
            for _ in range(given.rounds):
                for name, reporters in sets().items():
                    pairs[name].append((measured(spec, executor, ()), measured(spec, executor, reporters)))
        print(f"\n{executor}, {count:,} fragments: ratio to none, us more for each fragment (processor)")
        print(f"{'reporters':32} {'wall':>8} {'cpu':>8} {'us':>8}")
        for name, found in pairs.items():
            wall, cpu = (median(with_[kind] / none[kind] for none, with_ in found) for kind in (0, 1))
            more = median(with_[1] - none[1] for none, with_ in found)
            print(f"{name:32} {wall:8.3f} {cpu:8.3f} {1e6 * more / count:8.1f}")
            good &= min(wall, cpu) <= (BOUND if name.startswith("default") else ALL_BOUND)
    print(f"\nserial, {count:,} fragments: reporters told of half of the blocks, us of processor time for a fragment")
    print(f"{'reporters':32} {'ratio':>8} {'without':>8} {'with':>8} {'threads':>8}")
    with terminal(), tempfile.TemporaryDirectory() as folder, chdir(folder):
        for name, reporters in sets().items():
            costs = by_blocks(spec, reporters, given.rounds)
            figures = (1e6 * each for each in (costs.without, costs.with_, costs.others))
            print(f"{name:32} {costs.ratio:8.3f}", *(f"{each:8.1f}" for each in figures))
            good &= costs.ratio <= (BLOCK_BOUND if name.startswith("default") else ALL_BOUND)
    return 0 if good or not given.check else 1


if __name__ == "__main__":
    sys.exit(main())
