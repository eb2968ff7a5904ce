"""ParallelExecutor: slots, isolation, errors, cancellation."""

import asyncio
import contextvars
import gc
import threading
import time
import weakref

import pytest
from pydantic import BaseModel

from mbexec.graph import End, MergeStrategy, ParallelExecutionError, ParallelExecutor, RunContext
from mbexec.graph.content import digest
from tests.graph_nodes import STATES, Model, Node, appending, context, failing, setting


def run(coroutine):
    """What a coroutine returns, in a loop of its own in which nothing may be left pending."""

    async def alone():
        try:
            return await coroutine
        finally:
            assert asyncio.all_tasks() == {asyncio.current_task()}

    return asyncio.run(alone())


def parallel(nodes, ctx=None, slots=4, **kw):
    return run(ParallelExecutor(slots).execute_parallel(nodes, ctx or context(), **kw))


class Gate:
    """Counts nodes that run at once, and the most there ever were."""

    def __init__(self):
        self.now = self.most = self.count = 0

    async def __call__(self, ctx):
        self.now += 1
        self.count += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.now -= 1


# Slots


@pytest.mark.parametrize("slots", [0, -1, 1.5, None, "4"])
def test_slots_are_one_or_more(slots):
    """Anything else is an error that says what was given."""
    with pytest.raises(ValueError, match=r"^max_concurrent must be ≥1") as caught:
        ParallelExecutor(max_concurrent=slots)
    assert repr(slots) in str(caught.value)


def test_there_are_four_slots():
    """Unless one says otherwise."""
    assert ParallelExecutor().max_concurrent == 4
    assert ParallelExecutor[Model](7).max_concurrent == 7


@pytest.mark.parametrize(("slots", "count"), [(1, 5), (4, 100), (64, 10)])
def test_slots_are_used_and_not_exceeded(slots, count):
    """As many nodes as slots run at once, or all of them if they are fewer."""
    gate = Gate()
    results = parallel([Node(gate) for _ in range(count)], slots=slots)
    assert all(result.is_success for result in results)
    assert (gate.most, gate.count) == (min(slots, count), count)


def test_calls_share_the_slots():
    """Several at once on one executor don't run more nodes than it has slots."""
    gate = Gate()
    executor = ParallelExecutor(3)

    async def several():
        calls = [executor.execute_parallel([Node(gate) for _ in range(20)], context()) for _ in range(3)]
        singles = [executor.execute_single_with_isolation(Node(gate), context()) for _ in range(20)]
        await asyncio.gather(*calls, *singles)

    run(several())
    assert (gate.most, gate.count) == (3, 80)


@pytest.mark.parametrize("slots", [1, 2])
def test_nodes_may_run_nodes(slots):
    """A node that waits for others on the same executor lends them its slot: no deadlock, and no slot too many."""
    gate = Gate()
    executor = ParallelExecutor(slots)

    async def inner(ctx):
        await asyncio.gather(
            executor.execute_parallel([Node(gate) for _ in range(3)], ctx),
            executor.execute_single_with_isolation(Node(gate), ctx),
            executor.execute_until_success([Node(gate)], ctx),
        )
        await gate(ctx)

    results = run(executor.execute_parallel([Node(inner) for _ in range(4)], context()))
    assert [result.error for result in results] == [None] * 4
    assert (gate.most, gate.count) == (slots, 24)


def test_a_node_cancelled_while_it_takes_its_slot_back():
    """It leaves as many slots as there were."""
    gate = Gate()
    executor = ParallelExecutor(1)

    async def inner(ctx):
        await executor.execute_parallel([Node(gate)], ctx)

    async def cancelled():
        outer = asyncio.create_task(executor.execute_single_with_isolation(Node(inner), context()))
        hold = asyncio.Event()
        await asyncio.sleep(0)
        others = [
            asyncio.create_task(executor.execute_single_with_isolation(Node(lambda ctx: wait(hold)), context()))
            for _ in range(2)
        ]
        while not gate.count:
            await asyncio.sleep(0)
        for _ in range(20):
            await asyncio.sleep(0)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        hold.set()
        await asyncio.gather(*others)
        await executor.execute_parallel([Node(gate) for _ in range(3)], context())

    async def wait(event):
        await event.wait()

    run(cancelled())
    assert gate.most == 1


def test_one_executor_in_several_loops():
    """One after the other, and in several threads at once."""
    executor = ParallelExecutor(2)
    gates = [Gate() for _ in range(3)]

    def use(gate):
        results = asyncio.run(executor.execute_parallel([Node(gate) for _ in range(9)], context()))
        assert all(result.is_success for result in results)

    use(gates[0])
    threads = [threading.Thread(target=use, args=(gate,)) for gate in gates[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(gate.most, gate.count) for gate in gates] == [(2, 9)] * 3


# Results


def test_loops_that_are_closed_are_forgotten():
    """But for the last: an executor that lives long does not keep them all."""
    executor, loops = ParallelExecutor(1), []

    async def main():
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await executor.execute_parallel([Node(lambda ctx: asyncio.sleep(0)) for _ in range(3)], context())

    for _ in range(4):
        asyncio.run(main())
    gc.collect()
    assert [loop() is None for loop in loops] == [True, True, True, False]


def test_results_are_in_the_order_of_nodes():
    """Whichever ends first."""

    async def wait(turns):
        for _ in range(turns):
            await asyncio.sleep(0)

    nodes = [Node(lambda ctx, turns=turns: wait(turns)) for turns in (9, 1, 5, 0, 3)]
    results = parallel(nodes)
    assert [result.node for result in results] == nodes


def test_no_nodes_give_no_results():
    """And no error."""
    assert parallel([]) == []


def test_times_are_in_milliseconds():
    """From when the node runs until it has ended; waiting for a slot is not in it."""

    async def wait():
        await asyncio.sleep(0.02)

    results = parallel([Node(lambda ctx: wait()) for _ in range(3)], slots=1)
    assert all(19 < result.execution_time_ms < 2000 for result in results)
    assert sum(result.execution_time_ms for result in results[:1]) < 50 * 20


def test_what_a_node_returns_is_kept():
    """The next node, or the end with its value."""
    follower = Node()
    one, other = parallel([Node(lambda ctx: follower), Node(lambda ctx: End(3))])
    assert (one.next_node, one.is_end) == (follower, False)
    assert (other.next_node.value, other.is_end) == (3, True)


def test_errors_are_kept():
    """With the node, the copy it worked on, the time, and an end."""
    error = ValueError("no")

    def do(ctx):
        ctx.state.value = 7
        raise error

    good, bad = parallel([setting(value=1), Node(do)])
    assert good.is_success
    assert not bad.is_success
    assert bad.error is error
    assert bad.next_node is End
    assert bad.is_end
    assert bad.context.state.value == 7
    assert bad.execution_time_ms >= 0


@pytest.mark.parametrize("returned", [3, "end", object])
def test_a_node_returns_a_node_or_an_end(returned):
    """Anything else is an error of the node that says what it was."""
    (result,) = parallel([Node(lambda ctx: returned)])
    assert isinstance(result.error, TypeError)
    assert str(result.error) == f"node returned {returned!r}; a node returns the next node or End()."


def test_a_node_that_returns_nothing():
    """Is told so."""

    class Forgetful:
        async def run(self, ctx):
            pass

    (result,) = parallel([Forgetful()])
    assert str(result.error) == "Forgetful returned None; a node returns the next node or End()."


# Isolation


@pytest.mark.parametrize("kind", STATES)
def test_nodes_do_not_see_each_other(kind):
    """Nor does the caller see them, whatever the state is."""
    ctx = RunContext(kind(), "run-1", metadata={"seen": []}, provenance=[{"inner": []}])

    async def do(ctx):
        for _ in range(3):
            ctx.state.value += 1
            ctx.state.items.append("x")
            ctx.metadata["seen"].append(1)
            ctx.provenance[0]["inner"].append(1)
            ctx.add_provenance("n", "s")
            await asyncio.sleep(0)

    before = digest([ctx.state, ctx.metadata, ctx.provenance])
    results = parallel([Node(do) for _ in range(5)], ctx)
    assert digest([ctx.state, ctx.metadata, ctx.provenance]) == before
    for result in results:
        assert result.context.state.value == len(result.context.state.items) == 3
        assert result.context.metadata == {"seen": [1, 1, 1]}
        assert len(result.context.provenance) == 4
        assert (result.context.execution_id, result.context.user_id) == ("run-1", None)


@pytest.mark.parametrize(
    "call", ["execute_parallel", "execute_single_with_isolation", "stream", "execute_until_success"]
)
def test_nodes_start_from_the_state_at_the_call(call):
    """Though copies are made later, what the caller does meanwhile is not seen."""
    executor = ParallelExecutor(1)
    ctx = context()
    seen = []

    async def look(ctx):
        seen.append((ctx.state.value, list(ctx.state.items), dict(ctx.metadata)))
        await asyncio.sleep(0)

    async def several():
        nodes = [Node(look) for _ in range(4)]
        if call == "execute_single_with_isolation":
            return await asyncio.gather(*[executor.execute_single_with_isolation(node, ctx) for node in nodes])
        if call == "stream":
            return [result async for result in executor.stream(nodes, ctx)]
        return await getattr(executor, call)(nodes, ctx)

    async def meddle():
        task = asyncio.create_task(several())
        for turn in range(10):
            await asyncio.sleep(0)
            if seen:
                ctx.state.value = 99 + turn
                ctx.state.items.append("meddled")
                ctx.metadata["meddled"] = True
        await task

    run(meddle())
    assert seen == [(0, [], {})] * (1 if call == "execute_until_success" else 4)
    assert ctx.state.value > 0


@pytest.mark.parametrize("call", ["execute_parallel", "execute_single_with_isolation", "execute_until_success"])
def test_the_call_counts_not_when_it_is_awaited(call):
    """A task that has not begun starts from the state as it was when the task was made."""

    async def main():
        ctx = context()
        nodes = Node() if call == "execute_single_with_isolation" else [Node()]
        task = asyncio.create_task(getattr(ParallelExecutor(), call)(nodes, ctx))
        ctx.state.value = 99
        return await task

    found = run(main())
    result = found if call == "execute_single_with_isolation" else found[0]
    assert result.context.state.value == 0


def test_streams_start_from_the_state_at_the_call():
    """Even if nobody has asked for a result yet."""

    async def main():
        ctx = context()
        stream = ParallelExecutor().stream([Node()], ctx)
        ctx.state.value = 99
        return [result async for result in stream]

    assert run(main())[0].context.state.value == 0


def test_calls_that_nobody_awaits_are_told():
    """As of any coroutine, by a name that says which."""
    with pytest.warns(RuntimeWarning, match=r"'ParallelExecutor\._execute_parallel' was never awaited"):
        ParallelExecutor().execute_parallel([], context())


def test_context_variables_are_isolated():
    """What one node sets is not seen by the next in the same slot."""
    variable = contextvars.ContextVar("variable", default=0)
    seen = []

    def do(ctx):
        seen.append(variable.get())
        variable.set(1)

    parallel([Node(do) for _ in range(5)], slots=1)
    assert seen == [0] * 5


class Counted(BaseModel):
    """A state that knows how many of it are alive."""

    value: int = 0
    alive = weakref.WeakSet()

    model_config = {"ignored_types": (weakref.WeakSet,)}

    def __deepcopy__(self, memo):
        new = Counted(value=self.value)
        self.alive.add(new)
        return new

    __hash__ = object.__hash__


def test_waiting_nodes_cost_no_copies():
    """While nodes wait there is one copy of the state for the call, and one for each node that has started."""
    started = 0
    most = 0

    async def do(ctx):
        nonlocal started, most
        started += 1
        most = max(most, len(Counted.alive) - started)
        await asyncio.sleep(0)

    results = parallel([Node(do) for _ in range(200)], context(Counted()))
    assert most <= 1
    assert len(results) == 200


def test_100_000_nodes_on_64_slots():
    """None is lost, and streamed results that are dropped leave never more copies alive than slots and a few."""
    gc.collect()
    before = len(Counted.alive)
    most = count = 0

    async def many():
        nonlocal most, count
        nodes = (Node(Gate()) for _ in range(100_000))
        async for result in ParallelExecutor(64).stream(nodes, context(Counted())):
            count += result.is_success
            if not count % 64:
                most = max(most, len(Counted.alive) - before)

    run(many())
    assert count == 100_000
    assert most <= 64 + 3


def test_the_speedup_of_four_waiting_nodes():
    """Four nodes of 100 ms on four slots run 3.9 times as fast as one after the other, at best."""

    async def wait():
        await asyncio.sleep(0.1)

    async def main():
        nodes = [Node(lambda ctx: wait()) for _ in range(4)]
        speedups = []
        for _ in range(10):
            began = time.perf_counter()
            await ParallelExecutor(4).execute_parallel(nodes, context())
            speedups.append(0.4 / (time.perf_counter() - began))
            if speedups[-1] >= 3.9:
                break
        return max(speedups)

    assert run(main()) >= 3.9


def test_runs_are_identical():
    """A hundred times the same content."""

    def once():
        nodes = [appending(str(i)) for i in range(6)] + [failing(ValueError("no"))]
        results = parallel(nodes, context(provenance=[{"base": 1}]))
        merged = ParallelExecutor().merge_states(results[:6], "all_success")
        return digest([merged, [(r.context, str(r.error)) for r in results]])

    assert len({once() for _ in range(100)}) == 1


# Cancellation


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("call", ["execute_parallel", "execute_single_with_isolation", "execute_until_success"])
def test_what_ends_a_run_is_no_error_of_a_node(call, error):
    """It comes out, and the other nodes are cancelled."""
    ended = []

    async def wait():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def main():
        executor = ParallelExecutor(4)
        bad = failing(error())
        if call == "execute_single_with_isolation":
            ended.append(True)
            await executor.execute_single_with_isolation(bad, context())
        elif call == "execute_until_success":
            ended.append(True)
            await executor.execute_until_success([bad, setting(value=1)], context())
        else:
            await executor.execute_parallel([Node(lambda ctx: wait()), bad], context())

    with pytest.raises(error):
        asyncio.run(main())
    assert ended == [True]


def test_a_cancelled_run_leaves_nothing_pending():
    """Not even if it is told to hurry while nodes clean up."""
    ended = []

    async def wait():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append(True)

    async def main():
        nodes = [Node(lambda ctx: wait()) for _ in range(10)]
        task = asyncio.create_task(ParallelExecutor(4).execute_parallel(nodes, context()))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert len(ended) == 4


def test_a_node_that_met_its_own_timeout_is_cancelled_too():
    """Once it has cleaned up, undisturbed, and means to go on."""
    met, ended = asyncio.Event(), []

    async def wait():
        try:
            async with asyncio.timeout(0.001):
                try:
                    await asyncio.Event().wait()
                finally:
                    met.set()
                    await asyncio.sleep(0.01)
                    ended.append("cleaned up")
        except TimeoutError:
            await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(ParallelExecutor().execute_parallel([Node(lambda ctx: wait())], context()))
        await met.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)

    run(main())
    assert ended == ["cleaned up"]


def test_leaving_a_stream_cancels_what_runs():
    """As soon as the stream is closed."""
    ended = []

    async def wait(turns):
        try:
            await asyncio.sleep(0 if turns == 0 else 60)
        except asyncio.CancelledError:
            ended.append(turns)
            raise

    async def main():
        nodes = [Node(lambda ctx, turns=turns: wait(turns)) for turns in range(6)]
        stream = ParallelExecutor(3).stream(nodes, context())
        async for result in stream:
            assert result.node is nodes[0]
            break
        await stream.aclose()

    run(main())
    assert set(ended) <= {1, 2, 3}
    assert len(ended) >= 2


def test_streams_give_results_as_nodes_end():
    """The fastest first; and partial merges of what is there."""
    release = [asyncio.Event() for _ in range(3)]

    async def do(ctx, place):
        await release[place].wait()
        ctx.state.items.append(str(place))

    async def main():
        executor = ParallelExecutor(3)
        release[2].set()
        seen, merged = [], []
        async for result in executor.stream([Node(lambda ctx, i=i: do(ctx, i)) for i in range(3)], context()):
            seen.append(result)
            merged.append(executor.merge_states(seen, "all_success").state.items)
            release[len(seen) - 1 if len(seen) < 2 else 1].set()
        return merged

    assert run(main()) == [["2"], ["2", "0"], ["2", "0", "1"]]


# Timeouts


@pytest.mark.parametrize(
    "call", ["execute_parallel", "execute_single_with_isolation", "execute_until_success", "stream"]
)
def test_nodes_have_timeouts(call):
    """A node that takes longer fails; its slot is free for the next."""

    async def wait():
        await asyncio.sleep(60)

    slow, quick = Node(lambda ctx: wait(), "slow"), setting(value=1)

    async def main():
        executor = ParallelExecutor(1)
        if call == "execute_single_with_isolation":
            return [
                await executor.execute_single_with_isolation(node, context(), timeout=0.01) for node in (slow, quick)
            ]
        if call == "stream":
            return [result async for result in executor.stream([slow, quick], context(), timeout=0.01)]
        return await getattr(executor, call)([slow, quick], context(), timeout=0.01)

    first, second = run(main())
    assert isinstance(first.error, TimeoutError)
    assert str(first.error) == "slow did not end within 0.01 s."
    assert first.is_end
    assert second.is_success


def test_a_nodes_own_timeout_is_its_own():
    """An error that the node raised itself keeps its words."""
    (result,) = parallel([failing(TimeoutError("the server's"))], timeout=10)
    assert str(result.error) == "the server's"


@pytest.mark.parametrize("timeout", [0, -1])
@pytest.mark.parametrize("call", ["execute_parallel", "execute_single_with_isolation", "execute_until_success"])
def test_timeouts_are_positive(call, timeout):
    """Anything else is an error."""
    with pytest.raises(ValueError, match=f"timeout = {timeout} must be a positive number of seconds, or None"):
        run(getattr(ParallelExecutor(), call)([], context(), timeout=timeout))


# Alternatives


def test_alternatives_end_at_the_first_success():
    """Later ones are not tried."""
    nodes = [failing(ValueError("no")), setting(value=2), setting(value=3)]
    results = run(ParallelExecutor(1).execute_until_success(nodes, context()))
    assert [result.node for result in results] == nodes[:2]
    assert ParallelExecutor().merge_states(results).state.value == 2


def test_alternatives_that_all_fail():
    """Leave their errors, and can't be merged."""
    results = run(ParallelExecutor().execute_until_success([failing(ValueError(x)) for x in "ab"], context()))
    assert [str(result.error) for result in results] == ["a", "b"]
    with pytest.raises(ParallelExecutionError, match=r"^All parallel nodes failed$"):
        ParallelExecutor().merge_states(results, MergeStrategy.FIRST_SUCCESS)


# Statistics


def test_statistics():
    """Numbers of nodes, times and errors."""
    results = parallel([setting(value=1), failing(ValueError("no")), setting(value=2), setting(value=2)])
    times = [result.execution_time_ms for result in results]
    assert ParallelExecutor().get_statistics(results) == {
        "total_nodes": 4,
        "successes": 3,
        "failures": 1,
        "success_rate": 0.75,
        "avg_time_ms": sum(times) / 4,
        "min_time_ms": min(times),
        "max_time_ms": max(times),
        "total_time_ms": sum(times),
        "errors": ["no"],
    }


def test_errors_without_words_are_told_by_their_class():
    """Such as that of a bare assert."""
    results = parallel([failing(AssertionError())])
    assert ParallelExecutor().get_statistics(results)["errors"] == ["AssertionError()"]


def test_statistics_of_nothing():
    """Are zero."""
    found = ParallelExecutor().get_statistics([])
    assert found.pop("errors") == []
    assert set(found.values()) == {0}
    assert len(found) == 8
