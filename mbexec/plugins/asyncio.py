"""The asyncio executor: fragments as nodes of :mod:`mbexec.graph`, run once or several times and put to the vote."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import islice
from queue import SimpleQueue
from typing import Any, Self

import attrs
from attrs import define, field, validators

from mbexec import Level, Task, TaskError, TaskResult, Work, hookimpl
from mbexec.graph import BaseNode, End, MergeError, MergeStrategy, NodeResult, ParallelExecutor, RunContext

__all__ = ["Asyncio"]

_MERGES = ("majority", "first_success")
_KEYS = {"program", "method", "basis", "keywords"}


def _are_alternatives(_: Any, field: attrs.Attribute[Any], value: Any) -> None:
    if not all(isinstance(table, Mapping) and table and table.keys() <= _KEYS for table in value):
        raise ValueError(f"{field.name} must be tables with some of the keys {', '.join(sorted(_KEYS))}")


@define(eq=False)
class Asyncio:
    """Runs fragments on an event loop, each as a node on its own copy of the context.

    The loop has a thread of its own, so that it does not matter whether the caller has one running. The threads that
    fragments run in stay from level to level, so that a worker is the same one in all of a run.

    Attributes
    ----------
    repeat
        How often each fragment is run.
    merge
        What becomes of several runs of one fragment, which follow one another on one worker. "majority": the result
        is that of more than half of them, compared to the last bit. "first_success": that of the first that succeeds,
        and then there are no more.
    alternatives
        For "first_success": what to try when the model chemistry as given fails, tables with some of the keys of
        ``[program]``.
    """

    repeat: int = field(default=1, validator=[validators.instance_of(int), validators.ge(1)])
    merge: str = field(default="majority", validator=validators.in_(_MERGES))
    alternatives: tuple[Mapping[str, Any], ...] = field(default=(), converter=tuple, validator=_are_alternatives)
    _threads: list[ThreadPoolExecutor] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        if self.alternatives and self.merge != "first_success":
            raise ValueError('alternatives go with merge = "first_success"')

    def __enter__(self) -> Self:
        """Threads start when they are needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the threads."""
        while self._threads:
            self._threads.pop().shutdown()

    def _workers(self, count: int) -> list[ThreadPoolExecutor]:
        """For each worker a thread."""
        while len(self._threads) < count:
            self._threads.append(ThreadPoolExecutor(1, thread_name_prefix=f"mbexec-{len(self._threads)}"))
        return self._threads[:count]

    @hookimpl
    def submit_level(self, level: Level, work: Work) -> Iterator[TaskResult]:
        """Pull a task when a slot is free for it, so that none is left to begin when the run is being stopped."""
        ended: SimpleQueue[tuple[Task, _Future]] = SimpleQueue()
        done: deque[tuple[Task, _Future]] = deque()
        running = 0
        with _Loop(work, self._several(level), self._workers(work.workers)) as loop:
            while True:
                while not ended.empty() or (running and not done):
                    done.append(ended.get())
                    running -= 1
                for task in islice(level, min(work.workers, 2 * work.workers - len(done)) - running):
                    loop.submit(task).add_done_callback(partial(_put, ended, task))
                    running += 1
                if done:
                    task, future = done.popleft()
                    if (result := future.result()) is not None:
                        yield result
                    else:
                        level.put_back(task)
                elif not running:
                    return

    def _several(self, level: Level) -> _Several:
        """How a fragment is run, once or more."""
        if self.merge == "majority":
            return partial(_voted, count=self.repeat, level=level) if self.repeat > 1 else _once
        attempts = [*[0] * self.repeat, *range(1, len(self.alternatives) + 1)]
        return partial(_until_success, attempts=attempts, level=level) if len(attempts) > 1 else _once


def _put(ended: SimpleQueue[tuple[Task, _Future]], task: Task, future: _Future) -> None:
    ended.put((task, future))


@define(eq=False)
class _Outcome:
    """The state that a node works on: what came of its fragment."""

    result: TaskResult | None = None


@define(eq=False)
class _Fragment(BaseNode[_Outcome]):
    """A node that runs a fragment. One that fails is a success as well: it holds a TaskError."""

    work: Work
    thread: ThreadPoolExecutor
    task: Task
    alternative: int = 0
    must_succeed: bool = False

    @property
    def signature(self) -> str:
        """The fragment's label."""
        return self.task.label

    def update_state(self, state: _Outcome, result: TaskResult) -> None:
        """Keep what came of it."""
        state.result = result

    async def run(self, ctx: RunContext[_Outcome]) -> End:
        """Run it in a thread."""
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self.thread, self.work, self.task, self.alternative)
        self.update_state(ctx.state, result)
        if self.must_succeed and result.error is not None:
            raise _FailedError(result.error.error_message)
        return End()


class _FailedError(Exception):
    """An attempt that gave a TaskError, where another one may follow."""


_Node = Callable[..., _Fragment]
_Several = Callable[[ParallelExecutor[_Outcome], _Node], Any]
_Future = Future[TaskResult | None]  # None of a fragment that the end of the run has left without a result


async def _once(slots: ParallelExecutor[_Outcome], node: _Node) -> TaskResult:
    return _outcome(await slots.execute_single_with_isolation(node(), _start()))


async def _voted(slots: ParallelExecutor[_Outcome], node: _Node, *, count: int, level: Level) -> TaskResult | None:
    """Run a fragment several times; what more than half of the runs gave."""
    results: list[NodeResult[_Outcome]] = []
    while len(results) < count and not (results and level.draining):
        results.append(await slots.execute_single_with_isolation(node(), _start()))
    try:
        context = slots.merge_states(results, MergeStrategy.MAJORITY, key=_content)
    except MergeError:
        if len(results) < count:
            return None
        told = f"{count} runs of this fragment gave no result that more than half of them agree on, to the last bit."
        found = attrs.evolve(_outcome(results[0]), values={}, body=None, error=TaskError("random_error", told))
        return _timed(found, results)
    vote = context.metadata["vote"]
    if 2 * len(vote.winners) <= count:
        return None
    assert context.state.result is not None
    found = _timed(context.state.result, results)
    if vote.dissenters:
        found = found.noted(f"{len(vote.dissenters)} of {len(results)} runs of this fragment gave another result.")
    return found


async def _until_success(
    slots: ParallelExecutor[_Outcome], node: _Node, *, attempts: list[int], level: Level
) -> TaskResult | None:
    """Try a fragment in one way after another; if none succeeds, what the first one said."""
    begun: list[int] = []

    def _nodes() -> Iterator[_Fragment]:
        for attempt in attempts:
            if begun and level.draining:
                return
            begun.append(attempt)
            yield node(alternative=attempt, must_succeed=True)

    results = await slots.execute_until_success(_nodes(), _start())
    if not results[-1].is_success:
        return _timed(_outcome(results[0]), results) if begun == attempts else None
    found = _timed(_outcome(results[-1]), results)
    return found.noted(f"Attempt {len(results)} succeeded.") if len(results) > 1 else found


def _timed(found: TaskResult, results: list[NodeResult[_Outcome]]) -> TaskResult:
    """A result with the times of all runs of its fragment."""
    runs = [_outcome(result) for result in results]
    lost = [run.lost for run in runs if run.lost is not None]
    return attrs.evolve(
        found,
        started=runs[0].started,
        ended=runs[-1].ended,
        cpu_time=sum(run.cpu_time for run in runs),
        lost=sum(lost) if len(lost) == len(runs) else None,
        peak_memory=max(run.peak_memory for run in runs),
    )


def _start() -> RunContext[_Outcome]:
    return RunContext(_Outcome(), execution_id="")


def _outcome(result: NodeResult[_Outcome]) -> TaskResult:
    found = result.context.state.result
    if found is None:
        assert result.error is not None
        raise result.error
    return found


def _content(state: _Outcome) -> Any:
    """What runs of one fragment are compared by."""
    assert state.result is not None
    return dict(state.result.values), state.result.error


class _Loop:
    """An event loop in a thread of its own, and for each worker one of the given threads to run fragments in.

    A fragment has one of them to itself until it has a result, so that all its runs are one worker's.
    """

    def __init__(self, work: Work, several: _Several, threads: list[ThreadPoolExecutor]) -> None:
        self._work = work
        self._several = several
        self._slots: ParallelExecutor[_Outcome] = ParallelExecutor(work.workers)
        self._threads = threads
        self._free = threads[::-1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="mbexec-asyncio", daemon=True)
        self._running: set[_Future] = set()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def _run(self) -> None:
        """Run the loop until it is stopped.

        What a fragment raises that ends a loop, such as KeyboardInterrupt, is on its way to the run in the fragment's
        future, which the loop has to see to.
        """
        while True:
            try:
                self._loop.run_forever()
            except (KeyboardInterrupt, SystemExit):
                continue
            return

    def submit(self, task: Task) -> _Future:
        """Run a task, perhaps several times; there is a worker free."""
        thread = self._free.pop()
        node = partial(_Fragment, self._work, thread, task)
        future: _Future = asyncio.run_coroutine_threadsafe(self._several(self._slots, node), self._loop)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        future.add_done_callback(lambda _: self._free.append(thread))
        return future

    def __exit__(self, *_: object) -> None:
        """Cancel what waits, wait for what runs in threads, and end the loop."""
        for future in list(self._running):
            future.cancel()
        asyncio.run_coroutine_threadsafe(_cancelled(), self._loop).result()
        wait([thread.submit(_nothing) for thread in self._threads])
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def _nothing() -> None:
    """A thread that has come to it has done what it had to do before."""


async def _cancelled() -> None:
    """Wait until every other task of the loop has ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
