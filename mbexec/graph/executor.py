"""Nodes that don't depend on each other, run at once on asyncio."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from enum import StrEnum
from itertools import islice
from typing import Any, Generic, TypeVar

from mbexec.graph.contract import BaseNode, NodeResult, RunContext
from mbexec.graph.copies import Memo
from mbexec.graph.errors import ParallelExecutionError
from mbexec.graph.fields import Reducer
from mbexec.graph.merging import merge_all
from mbexec.graph.running import cancel, checked_timeout, read, run_node
from mbexec.graph.slots import Slot, lending
from mbexec.graph.voting import merge_majority

__all__ = ["MergeStrategy", "ParallelExecutor"]

StateT = TypeVar("StateT")


class MergeStrategy(StrEnum):
    """How results become one context."""

    FIRST_SUCCESS = "first_success"
    """The first node, in the order given, that succeeded."""
    ALL_SUCCESS = "all_success"
    """What all of them changed, together; none may have failed."""
    MAJORITY = "majority"
    """What more than half of those that succeeded left alike."""


class ParallelExecutor(Generic[StateT]):
    """Runs nodes at once, each on its own copy of the context, and merges what they leave.

    It can be made anywhere and used in any event loop, in one after the other or in several threads'.

    Parameters
    ----------
    max_concurrent
        How many nodes run at once, in each event loop; nodes of all calls together.
    """

    def __init__(self, max_concurrent: int = 4) -> None:
        if not isinstance(max_concurrent, int) or max_concurrent < 1:
            raise ValueError(f"max_concurrent must be ≥1 and a whole number, not {max_concurrent!r}.")
        self.max_concurrent = max_concurrent
        self._slots: dict[asyncio.AbstractEventLoop, asyncio.Semaphore] = {}

    def _free(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        free = self._slots.get(loop)
        if free is None:
            for other in [*self._slots]:  # a semaphore refers to its loop, so weak references would not do
                if other.is_closed():
                    self._slots.pop(other, None)
            self._slots[loop] = free = asyncio.Semaphore(self.max_concurrent)
        return free

    def execute_parallel(
        self, nodes: Iterable[BaseNode[StateT]], ctx: RunContext[StateT], *, timeout: float | None = None
    ) -> Coroutine[Any, Any, list[NodeResult[StateT]]]:
        """Run nodes at once.

        Every node starts from the context as it is at the time of the call, even if what the call gives is awaited
        later or made a task. Its copy is made when it gets its slot, so nodes that wait cost nothing.

        Parameters
        ----------
        nodes
            Any number of them.
        ctx
            What they start from; it is not changed.
        timeout
            Seconds that each of them may take.

        Returns
        -------
        list of NodeResult
            In the order of `nodes`. A node that fails has its error there.
        """
        checked_timeout(timeout)
        return self._execute_parallel(list(nodes), *ctx.snapshot(), timeout)

    async def _execute_parallel(
        self, nodes: Sequence[BaseNode[StateT]], start: RunContext[StateT], known: Memo, timeout: float | None
    ) -> list[NodeResult[StateT]]:
        results: list[Any] = [None] * len(nodes)
        async for place, result in self._finished(nodes, start, known, timeout):
            results[place] = result
        return results

    def stream(
        self, nodes: Iterable[BaseNode[StateT]], ctx: RunContext[StateT], *, timeout: float | None = None
    ) -> AsyncGenerator[NodeResult[StateT], None]:
        """Run nodes at once and give each result as soon as it is there.

        Nodes are started as results are taken: of running nodes and results that nobody has taken yet there are never
        more than slots, so memory does not grow with the number of nodes. Leaving the loop ends the nodes that run;
        with `contextlib.aclosing` it does so at once.

        Parameters
        ----------
        nodes
            Any number of them; taken one by one, so that a generator does as well.
        ctx, timeout
            As in `execute_parallel`.
        """
        checked_timeout(timeout)
        return self._each(nodes, *ctx.snapshot(), timeout)

    async def _each(
        self, nodes: Iterable[BaseNode[StateT]], start: RunContext[StateT], known: Memo, timeout: float | None
    ) -> AsyncGenerator[NodeResult[StateT], None]:
        async with aclosing(self._finished(nodes, start, known, timeout)) as finished:
            async for _, result in finished:
                yield result

    def execute_single_with_isolation(
        self, node: BaseNode[StateT], ctx: RunContext[StateT], *, timeout: float | None = None
    ) -> Coroutine[Any, Any, NodeResult[StateT]]:
        """Run one node, when there is a slot, on a copy of the context as it is at the time of the call.

        Parameters
        ----------
        node
            What to run.
        ctx, timeout
            As in `execute_parallel`.
        """
        checked_timeout(timeout)
        return self._alone(node, *ctx.snapshot(), timeout)

    async def _alone(
        self, node: BaseNode[StateT], start: RunContext[StateT], known: Memo, timeout: float | None
    ) -> NodeResult[StateT]:
        free = self._free()
        async with lending(free), Slot(free):
            return await run_node(node, start, known, timeout)

    def execute_until_success(
        self, nodes: Iterable[BaseNode[StateT]], ctx: RunContext[StateT], *, timeout: float | None = None
    ) -> Coroutine[Any, Any, list[NodeResult[StateT]]]:
        """Try alternatives, one after the other, until one succeeds.

        Parameters
        ----------
        nodes
            In the order in which to try them.
        ctx, timeout
            As in `execute_parallel`.

        Returns
        -------
        list of NodeResult
            Of the nodes that were tried; only the last can be a success.
        """
        checked_timeout(timeout)
        return self._execute_until_success(nodes, *ctx.snapshot(), timeout)

    async def _execute_until_success(
        self, nodes: Iterable[BaseNode[StateT]], start: RunContext[StateT], known: Memo, timeout: float | None
    ) -> list[NodeResult[StateT]]:
        results: list[NodeResult[StateT]] = []
        for node in nodes:
            results.append(await self._alone(node, start, known, timeout))
            if results[-1].is_success:
                break
        return results

    async def _finished(
        self, nodes: Iterable[BaseNode[StateT]], start: RunContext[StateT], known: Memo, timeout: float | None
    ) -> AsyncGenerator[tuple[int, NodeResult[StateT]], None]:
        """Places and results of nodes, as they end."""
        free = self._free()
        loop = asyncio.get_running_loop()
        todo = enumerate(nodes)
        running: set[asyncio.Task[tuple[int, NodeResult[StateT]]]] = set()
        done: deque[asyncio.Task[tuple[int, NodeResult[StateT]]]] = deque()
        news = asyncio.Event()

        async def _in_slot(place: int, node: BaseNode[StateT]) -> tuple[int, NodeResult[StateT]]:
            async with Slot(free):
                return place, await run_node(node, start, known, timeout)

        def _ended(task: asyncio.Task[tuple[int, NodeResult[StateT]]]) -> None:
            read(task)
            running.discard(task)
            done.append(task)
            news.set()

        async with lending(free):
            try:
                while True:
                    for place, node in islice(todo, self.max_concurrent - len(running) - len(done)):
                        task = loop.create_task(_in_slot(place, node))
                        running.add(task)
                        task.add_done_callback(_ended)
                    if done:
                        yield done.popleft().result()
                    elif running:
                        news.clear()
                        await news.wait()
                    else:
                        return
            finally:
                await cancel(running)

    def merge_states(
        self,
        results: Sequence[NodeResult[StateT]],
        strategy: MergeStrategy | str = MergeStrategy.FIRST_SUCCESS,
        *,
        reducers: Mapping[str, Reducer] | None = None,
        key: Callable[[StateT], Any] | None = None,
        strict: bool = False,
    ) -> RunContext[StateT]:
        """One context of several results.

        Parameters
        ----------
        results
            Of nodes that started from the same context, in the order that counts.
        strategy
            A `MergeStrategy` or its value.
        reducers
            For ALL_SUCCESS: a function of two arguments for each field that several nodes change, besides those of
            the state's annotations.
        key
            For MAJORITY: what of a state counts.
        strict
            For MAJORITY: whether any dissent, and any failure, is an error.

        Raises
        ------
        ParallelExecutionError
            There are no results, or too few successes.
        MergeError
            Nodes contradict each other.
        """
        results = list(results)
        if not results:
            raise ParallelExecutionError("Cannot merge empty results list", [], [])
        strategy = _strategy(strategy)
        if strategy is MergeStrategy.MAJORITY:
            return merge_majority(results, key, strict)
        failed = [(result.node, result.error) for result in results if not result.is_success]
        if strategy is MergeStrategy.ALL_SUCCESS:
            if failed:
                raise ParallelExecutionError(
                    f"{len(failed)} of {len(results)} nodes failed (ALL_SUCCESS requires all)", failed, results
                )
            return merge_all(results, reducers)
        for result in results:
            if result.is_success:
                return result.context
        raise ParallelExecutionError("All parallel nodes failed", failed, results)

    def get_statistics(self, results: Sequence[NodeResult[StateT]]) -> dict[str, Any]:
        """How many nodes succeeded, and how long they took.

        Parameters
        ----------
        results
            Of any nodes.

        Returns
        -------
        dict
            total_nodes, successes, failures, success_rate (0 to 1); avg_time_ms, min_time_ms, max_time_ms and
            total_time_ms, zero if there are no results; errors, the words of each, its repr if it has none.
        """
        times = [result.execution_time_ms for result in results]
        errors = [str(result.error) or repr(result.error) for result in results if not result.is_success]
        count = len(times)
        return {
            "total_nodes": count,
            "successes": count - len(errors),
            "failures": len(errors),
            "success_rate": (count - len(errors)) / count if count else 0.0,
            "avg_time_ms": sum(times) / count if count else 0.0,
            "min_time_ms": min(times, default=0.0),
            "max_time_ms": max(times, default=0.0),
            "total_time_ms": sum(times, start=0.0),
            "errors": errors,
        }


def _strategy(given: MergeStrategy | str) -> MergeStrategy:
    try:
        return MergeStrategy(given)
    except ValueError:
        known = ", ".join(repr(strategy.value) for strategy in MergeStrategy)
        raise ValueError(f"{given!r} is no merge strategy; choose one of {known}.") from None
