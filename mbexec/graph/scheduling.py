"""Which node of a graph starts when."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from heapq import heappop, heappush
from typing import Any, Generic, NamedTuple, TypeVar

from attrs import define, evolve, field

from mbexec.graph.contract import End, NodeResult, RunContext, name_of
from mbexec.graph.errors import GraphError, MergeError
from mbexec.graph.limits import Limit
from mbexec.graph.running import cancel, read, run_node
from mbexec.graph.tracking import GraphRun, Member

__all__ = ["GraphStep", "Scheduler"]

StateT = TypeVar("StateT")
_SOON = 0.001  # seconds


class GraphStep(NamedTuple, Generic[StateT]):
    """A node of a graph has ended.

    Attributes
    ----------
    name
        The node's.
    result
        What came of it.
    run
        The run so far: `run.merged()` is what is there already.
    """

    name: str
    result: NodeResult[StateT]
    run: GraphRun[StateT]


@define(eq=False)
class _Path:
    """A node of the graph under way: which node of its path is next, and what that starts from."""

    place: int
    member: Member
    node: Any
    begin: RunContext[Any]
    start: RunContext[Any]
    steps: int = 1
    failures: int = 0
    time_ms: float = 0.0
    recent: deque[str] = field(factory=lambda: deque(maxlen=4))


class Scheduler(Generic[StateT]):
    """Starts nodes that are ready, by priority, as limits allow."""

    def __init__(self, run: GraphRun[StateT], limits: Mapping[str, Limit], max_concurrent: int, max_steps: int) -> None:
        self.run = run
        self._limits = limits
        self._max_concurrent = max_concurrent
        self._max_steps = max_steps
        self._missing = [len(needs) for needs in run.needs]
        self._dependents: list[list[int]] = [[] for _ in run.needs]
        for place, needs in enumerate(run.needs):
            for needed in needs:
                self._dependents[needed].append(place)
        self._left = [len(dependents) for dependents in self._dependents]
        self._ready: dict[tuple[str, ...], list[tuple[float, int, _Path]]] = {}
        self._running: dict[asyncio.Task[NodeResult[StateT]], _Path] = {}
        self._ended: deque[asyncio.Task[NodeResult[StateT]]] = deque()
        self._known: set[int] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._next_look: asyncio.TimerHandle | None = None
        self._told: deque[GraphStep[StateT]] = deque()

    async def steps(self) -> AsyncGenerator[GraphStep[StateT], None]:
        """Run all; a step for each node, as it ends."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._news = asyncio.Event()
        for limit in self._limits.values():
            limit.watch(self._wake)
        try:
            for place, missing in enumerate(self._missing):
                if not missing:
                    self._begin(place)
            while len(self.run.results) < len(self._missing) or self._told:
                self._launch()
                if self._told:
                    yield self._told.popleft()
                elif self._ended:
                    task = self._ended.popleft()
                    self._go_on(self._running.pop(task), task.result())
                else:
                    await self._news.wait()
                    self._news.clear()
        finally:
            for limit in self._limits.values():
                limit.unwatch(self._wake)
            for timer in (*self._timers, *filter(None, [self._next_look])):
                timer.cancel()
            await cancel(self._running)

    def _wake(self) -> None:
        """Look again at what may start; called from any thread."""
        if threading.get_ident() == self._thread:
            self._news.set()
        else:
            with suppress(RuntimeError):  # the loop is closed, so nobody waits
                self._loop.call_soon_threadsafe(self._news.set)

    def _begin(self, place: int) -> None:
        member = self.run.members[place]
        try:
            start = self.run.start_of(place)
        except MergeError as error:
            self._settle(place, NodeResult(member.node, End, self.run.start.copy(), 0.0, error))
            return
        self._enqueue(_Path(place, member, member.node, start, start))

    def _enqueue(self, path: _Path) -> None:
        heappush(self._ready.setdefault(path.member.limits, []), (-path.member.priority, path.place, path))

    def _launch(self) -> None:
        """Start what can be started: of those whose limits allow it, the node with the highest priority first."""
        waiting: set[tuple[str, ...]] = set()
        soonest = math.inf
        while len(self._running) < self._max_concurrent:
            heads = [(queue[0], names) for names, queue in self._ready.items() if queue and names not in waiting]
            if not heads:
                break
            names = min(heads)[1]
            wait = self._take(names)
            if wait:
                waiting.add(names)
                soonest = min(soonest, wait)
                continue
            path = heappop(self._ready[names])[2]
            task = self._loop.create_task(run_node(path.node, path.start, self.run.known, path.member.timeout))
            self._running[task] = path
            task.add_done_callback(self._over)
        if self._next_look is not None:
            self._next_look.cancel()
        self._next_look = self._loop.call_later(soonest, self._news.set) if soonest < math.inf else None

    def _take(self, names: tuple[str, ...]) -> float:
        """Take all of some limits, or none; the seconds to wait, infinite if a node has to end first."""
        limits = [self._limits[name] for name in names]
        wait = max((limit.wait() for limit in limits), default=0.0)
        if wait:
            return wait
        for count, limit in enumerate(limits):
            if not limit.take():  # another thread was quicker
                for taken in limits[:count]:
                    taken.give_back(unused=True)
                return _SOON
        return 0.0

    def _over(self, task: asyncio.Task[NodeResult[StateT]]) -> None:
        read(task)
        for name in self._running[task].member.limits:
            self._limits[name].give_back()
        self._ended.append(task)
        self._news.set()

    def _later(self, seconds: float, path: _Path) -> None:
        """Try a node again after some time."""

        def _now() -> None:
            self._timers.discard(timer)
            self._enqueue(path)
            self._news.set()

        timer = self._loop.call_later(seconds, _now)
        self._timers.add(timer)

    def _go_on(self, path: _Path, result: NodeResult[StateT]) -> None:
        """What follows when a node has run: another attempt, the next node of its path, or the end."""
        path.time_ms += result.execution_time_ms
        if result.error is not None:
            path.failures += 1
            wait = path.member.retry.wait(result.error, path.failures)
            if wait is not None:
                self._later(wait, path)
                return
        elif not isinstance(result.next_node, End):
            again = result.next_node is path.member.node  # a node may come back on its own path
            other = None if again else self.run.place_of(result.next_node)
            error = self._refusal(path, result.next_node, other)
            if error is not None:
                result = evolve(result, error=error, next_node=End)
            elif other is None:
                path.recent.append(name_of(path.node))
                path.node, path.start = result.next_node, result.context
                path.steps, path.failures = path.steps + 1, 0
                self._enqueue(path)
                return
        self._settle(path.place, evolve(result, start=path.begin, execution_time_ms=path.time_ms))

    def _refusal(self, path: _Path, following: Any, other: int | None) -> GraphError | None:
        """Why a path can't go on to a node; `other` is its place, if it is in the graph, which then runs it itself."""
        name = path.member.name
        if other is not None and not self.run.is_before(path.place, other):
            return GraphError(
                f"{name} goes on to {self.run.members[other].name}, which is in the graph but does not depend on it; "
                f"add it after {name}, or leave it out of the graph."
            )
        if other is None and path.steps >= self._max_steps:
            recent = " -> ".join([*path.recent, name_of(path.node), name_of(following)])
            return GraphError(
                f"The path from {name} has not ended after {path.steps} nodes, the last of them {recent}; "
                "return End(), or allow more with max_steps."
            )
        return None

    def _settle(self, place: int, result: NodeResult[StateT]) -> None:
        """A node has ended for good: those that depend on it begin, or are passed over."""
        result = self.run.keep(place, result)
        self._tell(place, result)
        if result.error is not None:
            self._pass_over(place, result.error)
            return
        for dependent in self._dependents[place]:
            self._missing[dependent] -= 1
            if not self._missing[dependent] and self.run.members[dependent].name not in self.run.results:
                self._begin(dependent)

    def _pass_over(self, failed: int, cause: Exception) -> None:
        """Say of all nodes that depend on one that failed that they were not run."""
        names = [member.name for member in self.run.members]
        look, found = [failed], {failed}
        while look:
            further = set(self._dependents[look.pop()]) - found
            found |= further
            look.extend(further)
        for place in sorted(found):
            if names[place] not in self.run.results:
                error = GraphError(f"{names[place]} was not run, because {names[failed]} failed.")
                error.__cause__ = cause
                start = self.run.start
                result = NodeResult(self.run.members[place].node, End, start.copy(), 0.0, error, start)
                self._tell(place, self.run.keep(place, result))

    def _tell(self, place: int, result: NodeResult[StateT]) -> None:
        self._told.append(GraphStep(self.run.members[place].name, result, self.run))
        for needed in self.run.needs[place]:
            self._left[needed] -= 1
            if result.is_success:
                self._known.add(needed)
            if not self._left[needed] and needed in self._known:
                self.run.forget(needed)
