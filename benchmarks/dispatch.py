"""How far executors scale: from what one message costs, the least fragment time at which workers are 90 % busy.

python benchmarks/dispatch.py              # simulates up to 10,000 workers; a table of formula and simulation
python benchmarks/dispatch.py -o PAGE.svg  # draws it as well
python benchmarks/dispatch.py --measure    # measures what a message costs here; needs Dask and Parsl
python benchmarks/dispatch.py --check      # fails where the formula and the simulation are far apart

Discrete events, on a heap. Workers ask one after the other at two counters that serve one message at a time: the broker
(Parsl's interchange, Dask's scheduler), which passes results on and tasks out, and the process of the run, which takes
in each result and makes the next message. A worker has its next message in hand or waits. Fragment times scatter by
half their mean. What counts is a run in full swing, from a fifth of its fragments to four fifths.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass

WORKERS = (10, 100, 1000, 10_000)
GOAL = 0.9
SCATTER = 0.5
MESSAGES = 20  # for each worker
BOUND = 2.0
GAIN = 5.0
ARRIVAL, END = 0, 1  # of a message at a worker, of its work there


@dataclass(frozen=True)
class System:
    """What a message costs, and how messages are made up.

    Attributes
    ----------
    name
        Of the table's row.
    run
        Seconds of the run's process for a message.
    each
        Seconds of the same for each fragment in it.
    broker
        Seconds of the broker's process for a message, there and back.
    travel
        Seconds that a message is under way to a worker, and its answer back.
    ahead
        Messages that a worker has at once.
    largest
        Most fragments in a message.
    """

    name: str
    run: float
    each: float
    broker: float
    travel: float
    ahead: int = 1
    largest: int = 1

    def size(self, workers: int, fragment: float) -> int:
        """Fragments in a message: what mbexec-parsl makes of its default chunk time."""
        target = max(0.2, 0.004 * workers)
        return max(1, min(self.largest, int(target / fragment)))


# By --measure, the least of three, on a 2-core x86-64 machine, Python 3.11, Parsl 2026.10, Dask 2026.8; processor time.
SYSTEMS = (
    System("mbexec-parsl", run=0.00042, each=0.00002, broker=0.00042, travel=0.002, ahead=2, largest=200),
    System("Parsl, a task a fragment", run=0.00015, each=0.0, broker=0.00025, travel=0.0014),
    System("Dask, a task a fragment", run=0.00024, each=0.0, broker=0.00063, travel=0.0054, ahead=2),
)


def by_formula(system: System, workers: int) -> float:
    """The least fragment time at which workers are 90 % busy, seconds.

    Neither counter may have more to do than it can in the time that workers take, and what a worker has in hand must
    last until its next message is there.
    """

    def holds(fragment: float) -> bool:
        size = system.size(workers, fragment)
        span = size * fragment
        rate = workers / span  # messages a second, if all are busy
        load = rate * max(system.run + size * system.each, system.broker)
        waits = system.travel + system.run + system.broker
        return min(1.0, 1 / load) * min(1.0, system.ahead * span / (span + waits)) >= GOAL

    return least(holds)


def least(holds: Callable[[float], bool]) -> float:
    """The fragment time from which on a condition holds, by bisection."""
    low, high = 1e-6, 1e4
    while high / low > 1.03:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


class Simulation:
    """Workers that ask one after the other at the counters of a system, from event to event."""

    def __init__(self, system: System, workers: int, fragment: float, seed: int = 1) -> None:
        self.system, self.workers, self.fragment = system, workers, fragment
        self.chance = random.Random(seed)
        self.size = system.size(workers, fragment)
        self.left = self.total = workers * MESSAGES * self.size
        self.waiting: list[list[int]] = [[] for _ in range(workers)]  # messages in hand
        self.busy = [False] * workers
        self.free = {"broker": 0.0, "run": 0.0}
        self.events: list[tuple[float, int, int, int]] = []  # time, kind, worker, fragments

    def efficiency(self) -> float:
        """Share of the workers' time that is spent in fragments when all is in full swing."""
        for _ in range(self.system.ahead):
            for worker in range(self.workers):
                self._sent(worker, 0.0, 0)
        done, running, area, last, started = 0, 0, 0.0, 0.0, 0.0
        while done < 0.8 * self.total:
            now, kind, worker, count = heapq.heappop(self.events)
            if done >= 0.2 * self.total:
                started = started or last
                area += running * (now - last)
            last = now
            if kind == ARRIVAL:
                self.waiting[worker].append(count)
            else:
                done += count
                running -= 1
                self.busy[worker] = False
                answered = self._served("broker", now + self.system.travel / 2, self.system.broker / 2)
                self._sent(worker, answered, count)
            running += self._begun(worker, now)
        return area / (self.workers * (now - started))

    def _served(self, counter: str, at: float, cost: float) -> float:
        self.free[counter] = max(self.free[counter], at) + cost
        return self.free[counter]

    def _sent(self, worker: int, at: float, answered: int) -> None:
        """The run takes in an answer, and sends that worker's next message."""
        system = self.system
        count = min(self.left, self.size, max(1, self.left // (2 * system.ahead * self.workers)))
        if count == 0:
            self._served("run", at, answered * system.each)
            return
        self.left -= count
        made = self._served("run", at, system.run + answered * system.each)
        passed = self._served("broker", made, system.broker / 2)
        heapq.heappush(self.events, (passed + system.travel / 2, ARRIVAL, worker, count))

    def _begun(self, worker: int, now: float) -> bool:
        """Whether a worker now begins with a message."""
        if self.busy[worker] or not self.waiting[worker]:
            return False
        count = self.waiting[worker].pop(0)
        span = max(0.1 * count, self.chance.gauss(count, SCATTER * count**0.5)) * self.fragment
        self.busy[worker] = True
        heapq.heappush(self.events, (now + span, END, worker, count))
        return True


def by_simulation(system: System, workers: int) -> float:
    """The least fragment time at which workers are 90 % busy, seconds."""
    near = by_formula(system, workers)
    low, high = near / 4, near * 4
    while high / low > 1.15:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if Simulation(system, workers, middle).efficiency() >= GOAL else (middle, high)
    return high


def in_words(seconds: float) -> str:
    """With the unit that suits."""
    number = float(f"{seconds if seconds >= 1 else 1000 * seconds:.2g}")
    return f"{number:g} s" if seconds >= 1 else f"{number:g} ms"


def table(systems: tuple[System, ...], counts: tuple[int, ...]) -> list[tuple[System, int, float, float]]:
    """Formula and simulation for each, printed as a table of Markdown."""
    print("| | " + " | ".join(f"{count:,} workers" for count in counts) + " |")
    print("| --- |" + " --: |" * len(counts))
    rows = []
    for system in systems:
        found = [(system, count, by_formula(system, count), by_simulation(system, count)) for count in counts]
        rows += found
        cells = [f"{in_words(simulated)} ({in_words(formula)})" for _, _, formula, simulated in found]
        print(f"| {system.name} | " + " | ".join(cells) + " |", flush=True)
    return rows


def draw(rows: list[tuple[System, int, float, float]], path: str) -> None:
    """The table as a plot: dots are simulated, lines the formula."""
    import matplotlib.pyplot as plt
    from matplotlib import use

    use("svg")
    figure, axes = plt.subplots(figsize=(7, 4.2))
    for system in dict.fromkeys(row[0] for row in rows):
        mine = [row for row in rows if row[0] == system]
        counts = [10 ** (0.1 * n) for n in range(10, 41)]
        (line,) = axes.loglog(counts, [by_formula(system, round(count)) for count in counts], label=system.name)
        axes.loglog([row[1] for row in mine], [row[3] for row in mine], "o", color=line.get_color())
    axes.set(xlabel="workers", ylabel="least fragment time for 90 % efficiency, s")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def check() -> bool:
    """Whether formula and simulation agree, and batches help."""
    good = True
    for system in SYSTEMS:
        for count in (10, 300):
            ratio = by_simulation(system, count) / by_formula(system, count)
            good &= 1 / BOUND < ratio < BOUND
            print(f"{system.name}, {count} workers: simulation / formula {ratio:.2f}  (bounds {1 / BOUND} to {BOUND})")
    ours, *others = (by_formula(system, 10_000) for system in SYSTEMS)
    gain = min(others) / ours
    print(f"10,000 workers, a task a fragment / mbexec-parsl: {gain:.1f}  (more than {GAIN})")
    return good and gain > GAIN


def main() -> int:
    """Do what is asked for; with --check, say whether all is within bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a ratio is out of bounds")
    parser.add_argument("--measure", action="store_true", help="print what a message costs here")
    parser.add_argument("-o", "--output", metavar="PAGE.svg", help="draw the table")
    given = parser.parse_args()
    if given.check:
        return 0 if check() else 1
    if given.measure:
        from message_costs import measure

        measure()
        return 0
    rows = table(SYSTEMS, WORKERS)
    if given.output:
        draw(rows, given.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
