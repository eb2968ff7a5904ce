"""What graph execution costs a node, beside asyncio.gather with a semaphore and copies that are deep.

python benchmarks/graph.py            # prints a table
python benchmarks/graph.py --check    # fails where a figure is out of its wide bounds
"""

from __future__ import annotations

import argparse
import asyncio
import copy
import gc
import resource
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import attrs
import numpy as np
from pydantic import BaseModel

from mbexec.graph import End, Graph, ParallelExecutor, RunContext

SLOTS = 64


class State(BaseModel):
    """A small state."""

    question: str = "what"
    count: int = 0
    scores: dict[str, float] = {"a": 0.5, "b": 0.25}
    items: list[str] = ["x", "y"]
    parts: tuple = ()


@attrs.frozen(eq=False)
class Part:
    """A piece of a large state that never changes."""

    values: np.ndarray
    label: str


class Node:
    """Does little."""

    signature = None

    async def run(self, ctx: RunContext) -> type[End]:
        """Count."""
        ctx.state.count += 1
        await asyncio.sleep(0)
        return End


class Failing(Node):
    """Fails."""

    async def run(self, ctx: RunContext) -> type[End]:
        """Raise."""
        await asyncio.sleep(0)
        raise ValueError("no")


class Waiting(Node):
    """Waits a tenth of a second."""

    async def run(self, ctx: RunContext) -> type[End]:
        """Wait."""
        await asyncio.sleep(0.1)
        return End


async def seconds(work: Callable[[], Awaitable[object]], repeats: int = 5) -> float:
    """Median, after one run to warm up; garbage is collected before, not within."""
    await work()
    times = []
    for _ in range(repeats):
        gc.collect()
        gc.disable()
        start = time.perf_counter()
        await work()
        times.append(time.perf_counter() - start)
        gc.enable()
    return statistics.median(times)


def bare(nodes: list[Node], state: State) -> Callable[[], Awaitable[object]]:
    """What one would write without this module."""

    async def work() -> object:
        slots = asyncio.Semaphore(SLOTS)

        async def one(node: Node) -> RunContext:
            async with slots:
                ctx = RunContext(state.model_copy(deep=True), "run")
                await node.run(ctx)
                return ctx

        return await asyncio.gather(*[one(node) for node in nodes])

    return work


def ours(nodes: list[Node], state: object) -> Callable[[], Awaitable[object]]:
    """With this module."""
    executor: ParallelExecutor = ParallelExecutor(SLOTS)
    return lambda: executor.execute_parallel(nodes, RunContext(state, "run"))


async def overhead() -> list[tuple[str, float, float, float]]:
    """A node that does nothing, with a small pydantic state."""
    nodes = [Node() for _ in range(2000)]
    mine, theirs = await seconds(ours(nodes, State())), await seconds(bare(nodes, State()))
    failing = await seconds(ours([Failing() for _ in nodes], State()))
    per_node = 1e3 / len(nodes)
    return [
        ("node with a small state / gather and semaphore and model_copy(deep=True)", mine / theirs, 0.0, 2.0),
        ("node with a small state, ms", mine * per_node, 0.0, 1.0),
        ("more for a node that fails, ms", (failing - mine) * per_node, -1.0, 0.1),
    ]


async def large_state() -> list[tuple[str, float, float, float]]:
    """10 MB of frozen arrays in a state, one small thing of which changes."""
    parts = []
    for place in range(1000):
        values = np.full(1250, float(place))
        values.flags.writeable = False
        parts.append(Part(values, str(place)))
    state = State(parts=tuple(parts))
    nodes = [Node() for _ in range(20)]
    mine = await seconds(ours(nodes, state)) / len(nodes)

    async def deep() -> object:
        return copy.deepcopy(state)

    theirs = await seconds(deep, 3)
    return [
        ("node with 10 MB of frozen arrays, ms", 1e3 * mine, 0.0, 10.0),
        ("deep copy of it / node with it", theirs / mine, 3.0, float("inf")),
    ]


async def many() -> list[tuple[str, float, float, float]]:
    """100,000 nodes on 64 slots."""
    executor: ParallelExecutor = ParallelExecutor(SLOTS)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    async for _ in executor.stream((Node() for _ in range(100_000)), RunContext(State(), "run")):
        pass
    streamed = time.perf_counter() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    nodes: list[Node] = [Node() for _ in range(100_000)]
    start = time.perf_counter()
    await ours(nodes, State())()
    return [
        ("100,000 nodes streamed, s", streamed, 0.0, 60.0),
        ("100,000 nodes streamed, MB more memory", grown, 0.0, 20.0),
        ("100,000 nodes at once, s", time.perf_counter() - start, 0.0, 60.0),
    ]


async def graphs() -> list[tuple[str, float, float, float]]:
    """A tree of nodes, each with its dependency and its merge."""
    graph: Graph = Graph()
    for place in range(2000):
        graph.add(Node(), name=str(place), after=str((place - 1) // 3) if place else ())
    took = await seconds(lambda: graph.run(RunContext(State(), "run"), max_concurrent=SLOTS), 3)
    return [("node of a graph, ms", 1e3 * took / 2000, 0.0, 5.0)]


async def speedup() -> list[tuple[str, float, float, float]]:
    """Four nodes that wait 100 ms each, on four slots."""
    took = await seconds(ours([Waiting() for _ in range(4)], State()))
    return [("speedup of four nodes that wait, on four slots", 0.4 / took, 3.0, 4.0)]


def main() -> int:
    """Print the table; with --check, say whether every figure is within its bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 if a figure is out of bounds")
    check = parser.parse_args().check
    good = True
    for benchmark in (many, overhead, large_state, graphs, speedup):
        for name, figure, low, high in asyncio.run(benchmark()):
            good &= low <= figure <= high
            print(f"{name}: {figure:.3g}  (bounds {low:g} to {high:g})")
    return 0 if good or not check else 1


if __name__ == "__main__":
    sys.exit(main())
