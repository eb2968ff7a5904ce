"""Graphs: order, data flow, failures, paths, priorities, cancellation."""

import asyncio
import operator
import threading
from contextlib import aclosing
from itertools import pairwise
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from mbexec.graph import End, Graph, GraphError, Limit, MergeError, Retry, RunContext
from mbexec.graph.content import digest
from tests.graph_nodes import Data, Model, Node, appending, context, failing, setting
from tests.test_graph_executor import Gate, run


def adding_up(name):
    """A node that appends its name."""
    return Node(lambda ctx: ctx.state.items.append(name) or ctx.add_provenance(name, "s"), name)


def graph_of(needs, **kw):
    """A graph of nodes that append their names."""
    graph = Graph(**kw)
    for name, after in needs.items():
        graph.add(adding_up(name), after=list(after))
    return graph


DIAMOND = {"a": "", "b": "a", "c": "a", "d": "bc"}

# Putting together


def test_nodes_come_after_those_they_depend_on():
    """Otherwise as they were added; dependencies may be added later."""
    assert graph_of({"d": "bc", "c": "a", "b": "a", "x": "", "a": ""}).order() == ["x", "a", "c", "b", "d"]


def test_one_dependency_may_be_a_name():
    """Of more than one letter."""
    graph = Graph()
    assert graph.add(Node(name="first")) == "first"
    assert graph.add(Node(name="second"), after="first", name="other") == "other"
    assert graph.order() == ["first", "other"]


def test_names_are_unique():
    """Otherwise the message asks for another."""
    graph = graph_of({"a": ""})
    with pytest.raises(GraphError, match="The graph has a node named 'a' already; give this one another name"):
        graph.add(adding_up("a"))


def test_classes_name_nodes():
    """That have no name of their own."""

    class Step:
        async def run(self, ctx):
            return End()

    assert Graph().add(Step()) == "Step"


def test_dependencies_are_in_the_graph():
    """A slip is an error with a hint."""
    with pytest.raises(GraphError, match=r"b comes after 'frist', which is not in the graph. Did you mean 'first'\?"):
        run(graph_of({"first": "", "b": ["frist"]}).run(context()))
    with pytest.raises(GraphError, match=r"which is not in the graph\.$"):
        graph_of({"b": ["something else"]}).order()


@pytest.mark.parametrize(
    ("needs", "cycle"),
    [({"a": "b", "b": "c", "c": "a", "d": ""}, "abc"), ({"a": "a"}, "a"), ({"x": "", "b": "ax", "a": "b"}, "ab")],
)
def test_cycles_are_named(needs, cycle):
    """All the way round."""
    with pytest.raises(GraphError, match="The graph has a cycle: ") as caught:
        graph_of(needs).order()
    named = str(caught.value).removeprefix("The graph has a cycle: ").split(";")[0].split(" -> ")
    assert named[0] == named[-1]
    assert sorted(named[1:]) == sorted(cycle)
    assert all(one in needs[other] for one, other in pairwise(named))


def test_fields_make_dependencies():
    """A node that reads a field comes after all that write it, whichever was added first."""
    graph = Graph()
    graph.add(setting(other=1), name="last", reads=["value", "items"], writes=["other"])
    graph.add(setting(value=1), name="writes", writes=["value"])
    graph.add(appending("x"), name="also", reads=["items"], writes=["items"], after=["writes"])
    assert graph.order() == ["writes", "also", "last"]
    assert run(graph.run(context())).merged().state == Model(value=1, other=1, items=["x"])


def test_fields_make_cycles():
    """They are named too."""
    graph = Graph()
    graph.add(Node(), name="one", reads=["a"], writes=["b"])
    graph.add(Node(), name="two", reads=["b"], writes=["a"])
    with pytest.raises(GraphError, match=r"one -> two -> one|two -> one -> two"):
        graph.order()


@pytest.mark.parametrize("given", [Data(), {"value": 0}, [1]])
def test_what_nobody_has_can_not_be_read(given):
    """A misspelt name would make no dependency; the message guesses what was meant."""
    graph = Graph()
    graph.add(setting(value=1), name="a", writes=["thing"])
    graph.add(adding_up("b"), reads=["thinf"])
    with pytest.raises(
        GraphError,
        match=r"^b reads 'thinf', which the state does not have and no node says that it writes. Did you mean 'thing'",
    ):
        graph.run(RunContext(given, ""))


def test_reducers_are_for_fields_that_there_are():
    """A misspelt one would reduce nothing. Keys of dicts and of metadata may be put there by nodes."""
    graph = Graph(reducers={"vaule": operator.add})
    graph.add(setting(value=1), name="a")
    with pytest.raises(
        GraphError, match=r"^reducers has 'vaule', which is no field of the state. Did you mean 'value'"
    ):
        graph.run(RunContext(Data(), ""))
    run(graph.run(RunContext({"value": 0}, "")))
    graph = Graph(reducers={"metadata['count']": operator.add, "value": operator.add})
    graph.add(setting(value=1), name="a")
    assert run(graph.run(RunContext(Data(), ""))).is_success


def test_properties_can_be_read():
    """And whatever else the class of the state has."""

    class Doubled(Data):
        @property
        def double(self):
            return 2 * self.value

    graph = Graph()
    graph.add(Node(lambda ctx: setattr(ctx.state, "other", ctx.state.double)), reads=["double"])
    assert run(graph.run(context(Doubled(value=3)))).merged().state.other == 6


def test_states_without_fields_are_read_and_written_whole():
    """Under the name state."""
    graph = Graph()
    graph.add(Node(lambda ctx: ctx.state.append("b")), name="b", reads="state")
    graph.add(Node(lambda ctx: ctx.state.append("a")), name="a", writes="state")
    assert run(graph.run(RunContext([], ""))).merged().state == ["a", "b"]


def test_nodes_write_what_they_say():
    """If they say so; anything else is an error of the node."""
    graph = Graph()
    graph.add(setting(value=1, other=2), name="stray", writes=["value"])
    graph.add(setting(other=2), name="quiet", writes=[])
    done = run(graph.run(context()))
    assert str(done.results["stray"].error) == "stray changed other, but said that it writes value; add it to writes."
    assert str(done.results["quiet"].error) == "quiet changed other, but said that it writes nothing; add it to writes."
    assert done.merged().state == Model()


def test_limits_are_known():
    """A slip is an error that lists them."""
    with pytest.raises(GraphError, match="node names a limit 'apo' that the graph does not have; it has api, disk"):
        Graph(limits={"api": Limit(), "disk": Limit()}).add(Node(), limits="apo")
    with pytest.raises(GraphError, match="it has none"):
        Graph().add(Node(), limits=["x"])


@pytest.mark.parametrize("number", [0, -1, 1.5, None])
def test_numbers_are_checked(number):
    """Of nodes at once and of steps."""
    with pytest.raises(ValueError, match=r"max_steps = .* must be a whole number of at least 1"):
        Graph(max_steps=number)
    with pytest.raises(ValueError, match="max_concurrent must be ≥1"):
        run(Graph().run(context(), max_concurrent=number))
    with pytest.raises(ValueError, match="timeout = 0 must be"):
        Graph().add(Node(), timeout=0)


# Data flow


def test_a_node_sees_what_it_depends_on():
    """And nothing else, however quick the rest is."""
    done = run(graph_of({**DIAMOND, "e": ""}).run(context(Model(items=["base"]), provenance=[{"base": 1}])))
    assert done.is_success
    assert {name: "".join(r.context.state.items[1:]) for name, r in done.results.items()} == {
        "a": "a", "b": "ab", "c": "ac", "d": "abcd", "e": "e",
    }  # fmt: skip
    merged = done.merged()
    assert merged.state.items == ["base", "a", "e", "b", "c", "d"] or merged.state.items == ["base", *"abcde"]
    assert [entry.get("node_name", "base") for entry in merged.provenance] == merged.state.items


def test_later_nodes_override():
    """What a node set takes the place of what it knew of."""
    graph = Graph()
    graph.add(setting(value=1), name="a")
    graph.add(setting(value=2), name="b", after="a")
    graph.add(setting(value=3), name="c", after=["a", "b"])
    graph.add(setting(other=4), name="d", after="a")
    graph.add(Node(), name="e", after=["c", "d"])
    done = run(graph.run(context()))
    assert done.results["e"].context.state == Model(value=3, other=4)
    assert done.merged().state == Model(value=3, other=4)


def test_a_conflict_is_an_error_of_the_node_that_needs_both():
    """It does not run; nor can the whole be merged."""
    graph = Graph()
    graph.add(setting(value=1), name="a")
    graph.add(setting(value=2), name="b")
    graph.add(adding_up("c"), after=["a", "b"])
    graph.add(adding_up("d"), after="c")
    done = run(graph.run(context()))
    assert isinstance(done.results["c"].error, MergeError)
    assert str(done.results["c"].error).startswith("a and b changed the field value to different values, 1 and 2")
    assert str(done.results["d"].error) == "d was not run, because c failed."
    with pytest.raises(MergeError, match="a and b changed the field value"):
        done.merged()


def test_a_later_node_settles_a_conflict_of_others():
    """If it depends on both and a reducer let it run."""
    graph = Graph(reducers={"value": max})
    graph.add(setting(value=1), name="a")
    graph.add(setting(value=5), name="b")
    graph.add(setting(other=1), name="c", after=["a", "b"])
    done = run(graph.run(context()))
    assert done.results["c"].context.state == Model(value=5, other=1)
    assert done.merged().state == Model(value=5, other=1)


def test_a_rewritten_list_holds_what_it_knew_of():
    """What a node appended that it did not know of is a conflict."""
    graph = Graph()
    graph.add(adding_up("a"))
    graph.add(setting(items=["new"]), name="b", after="a")
    graph.add(adding_up("c"), after="b")
    assert run(graph.run(context())).merged().state.items == ["new", "c"]
    graph.add(adding_up("d"), after="a")
    with pytest.raises(MergeError, match="b and d changed the field items"):
        run(graph.run(context())).merged()


def test_states_keep_their_type():
    """A state of another type has no fields to be merged; a state without fields may be replaced."""
    graph = Graph()
    graph.add(Node(lambda ctx: setattr(ctx, "state", Data(value=1))), name="a")
    assert str(run(graph.run(context())).results["a"].error) == (
        "a left a state of type Data, but in a graph it stays of one type; here that is Model."
    )
    assert run(graph.run(RunContext(None, ""))).merged().state == Data(value=1)


def test_uncomparable_fields_are_errors_of_the_node():
    """The run goes on."""
    from tests.test_graph_merging import Handle

    done = run(graph_of({"a": ""}).run(context(Data(value=Handle()))))
    assert isinstance(done.results["a"].error, MergeError)


def test_what_cannot_be_taken_over_is_an_error_of_the_node():
    """A lock that it left can't be copied for those after it; the run goes on."""
    graph = Graph()
    graph.add(Node(lambda ctx: setattr(ctx.state, "value", threading.Lock())), name="a")
    graph.add(adding_up("b"))
    done = run(graph.run(context(Data())))
    error = done.results["a"].error
    assert isinstance(error, GraphError)
    assert str(error).startswith("What a left can't be taken over: cannot pickle")
    assert isinstance(error.__cause__, TypeError)
    assert done.merged().state == Data(items=["b"])


def test_what_cannot_be_copied_ends_a_path():
    """The node that would have come next is not run; the run goes on."""
    graph = Graph()
    graph.add(Node(lambda ctx: setattr(ctx.state, "value", threading.Lock()) or adding_up("never")), name="a")
    graph.add(adding_up("b"))
    done = run(graph.run(context(Data())))
    assert str(done.results["a"].error).startswith("The context can't be copied")
    assert done.merged().state == Data(items=["b"])


def test_what_is_merged_is_nobodys():
    """Neither the caller's nor a node's, nor that of the run."""
    graph, ctx = graph_of(DIAMOND), context()

    async def main():
        async for step in graph.stream(ctx):
            step.result.context.state.items.append("meddled")
            step.run.merged().state.items.append("meddled")
        return step.run

    done = run(main())
    assert ctx.state == Model()
    assert done.merged().state.items == list("abcd")


def test_nothing_to_run():
    """Leaves what there was."""
    done = run(Graph().run(context(Model(value=3))))
    assert (done.results, done.is_success, done.merged().state) == ({}, True, Model(value=3))


def test_a_graph_runs_again():
    """In another loop, with another state."""
    graph = graph_of(DIAMOND)
    assert [run(graph.run(context())).merged().state.items for _ in range(3)] == [list("abcd")] * 3


def test_nodes_start_from_the_state_at_the_call():
    """The caller may go on with theirs."""

    async def main():
        ctx = context()
        graph = graph_of(DIAMOND)
        task, steps = asyncio.create_task(graph.run(ctx)), graph.stream(ctx)
        ctx.state.items.append("meddled")
        streamed = [step.run async for step in steps]
        return (await task).merged().state.items, streamed[-1].merged().state.items

    assert run(main()) == (list("abcd"), list("abcd"))


# Failures


def test_failures_pass_over_what_depends_on_them():
    """And nothing else."""
    graph = graph_of({"a": "", "x": ["bad"], "y": "ax", "z": "a"})
    error = ValueError("no")
    graph.add(failing(error), name="bad")
    done = run(graph.run(context()))
    assert not done.is_success
    assert {name: result.is_success for name, result in done.results.items()} == {
        "a": True, "bad": False, "x": False, "y": False, "z": True,
    }  # fmt: skip
    skipped = done.results["y"]
    assert str(skipped.error) == "y was not run, because bad failed."
    assert skipped.error.__cause__ is error
    assert skipped.is_end
    assert done.merged().state.items == ["a", "z"]


def test_timeouts_are_errors():
    """Of the node."""

    async def wait():
        await asyncio.sleep(60)

    graph = Graph()
    graph.add(Node(lambda ctx: wait()), name="slow", timeout=0.01)
    assert isinstance(run(graph.run(context())).results["slow"].error, TimeoutError)


class Flaky:
    """Fails some times, each time after it changed its copy."""

    def __init__(self, failures, error=ConnectionError):
        self.left = failures
        self.error = error
        self.runs = 0

    async def run(self, ctx):
        self.runs += 1
        ctx.state.items.append("x")
        if self.left:
            self.left -= 1
            raise self.error("busy")
        return End()


QUICK = {"delay": 0.001, "longest": 0.002}


def test_nodes_are_tried_again():
    """On a fresh copy."""
    graph = Graph()
    node = Flaky(2)
    graph.add(node, name="flaky", retry=Retry(attempts=3, **QUICK))
    done = run(graph.run(context()))
    assert node.runs == 3
    assert done.merged().state.items == ["x"]


def test_attempts_end():
    """The last error counts."""
    graph = Graph()
    node = Flaky(5)
    graph.add(node, name="flaky", retry=Retry(attempts=3, **QUICK))
    done = run(graph.run(context()))
    assert node.runs == 3
    assert isinstance(done.results["flaky"].error, ConnectionError)


def test_only_chosen_errors_are_tried_again():
    """Others fail at once."""
    graph = Graph()
    nodes = Flaky(1, ValueError), Flaky(1, ConnectionResetError)
    for name, node in zip("ab", nodes, strict=True):
        graph.add(node, name=name, retry=Retry(on=ConnectionError, **QUICK))
    done = run(graph.run(context()))
    assert [node.runs for node in nodes] == [1, 2]
    assert [result.is_success for result in done.results.values()] == [False, True]


# Paths


def counting(limit):
    """A node that goes on to itself until its state has a value."""

    def do(ctx):
        ctx.state.value += 1
        ctx.add_provenance("counting", "s", at=ctx.state.value)
        return node if ctx.state.value < limit else End("done")

    node = Node(do, "counting")
    return node


def test_paths_are_followed():
    """Node after node to the end, on one copy after the other; the result is that of the last."""
    last = Node(lambda ctx: ctx.state.items.append("last"), "last")
    graph = Graph()
    graph.add(Node(lambda ctx: ctx.state.items.append("first") or last, "first"))
    graph.add(adding_up("after"), after="first")
    done = run(graph.run(context()))
    assert done.results["first"].node is last
    assert done.results["first"].is_end
    assert done.merged().state.items == ["first", "last", "after"]
    assert done.merged().state == done.results["after"].context.state


def test_paths_go_in_circles_until_they_end():
    """A node may come again."""

    def start(ctx):
        return loop

    loop = counting(5)
    graph = Graph(max_steps=6)
    graph.add(Node(start), name="start")
    done = run(graph.run(context()))
    assert done.merged().state.value == 5
    assert len(done.merged().provenance) == 5
    assert done.results["start"].next_node == End("done")


def test_a_node_of_the_graph_may_come_again_on_its_own_path():
    """Such as one that asks a server until there is an answer; what depends on it waits for the end."""
    graph = Graph()
    graph.add(counting(3), name="asking")
    graph.add(Node(lambda ctx: setattr(ctx.state, "other", ctx.state.value)), name="after", after="asking")
    assert run(graph.run(context())).merged().state == Model(value=3, other=3)


def test_paths_have_a_bound():
    """The message names the last nodes."""
    graph = Graph(max_steps=5)
    loop = counting(1000)
    graph.add(Node(lambda ctx: loop), name="start")
    done = run(graph.run(context()))
    assert str(done.results["start"].error) == (
        "The path from start has not ended after 5 nodes, the last of them "
        "node -> counting -> counting -> counting -> counting -> counting; return End(), or allow more with max_steps."
    )


def test_a_step_of_a_path_is_tried_again():
    """From where it began, not from the start of the path."""
    flaky = Flaky(2)
    graph = Graph()
    graph.add(
        Node(lambda ctx: ctx.state.items.append("first") or flaky), name="first", retry=Retry(attempts=3, **QUICK)
    )
    assert run(graph.run(context())).merged().state.items == ["first", "x"]


def test_paths_end_where_the_graph_goes_on():
    """A node of the graph that depends on this one is run once, by the graph."""
    after = adding_up("after")
    graph = Graph()
    graph.add(Node(lambda ctx: ctx.state.items.append("first") or after, "first"))
    graph.add(after, after="first")
    done = run(graph.run(context()))
    assert done.merged().state.items == ["first", "after"]
    assert done.results["first"].next_node is after


def test_paths_do_not_enter_the_rest_of_the_graph():
    """A node of it that does not depend on this one would run twice."""
    other = adding_up("other")
    graph = Graph()
    graph.add(Node(lambda ctx: other, "first"))
    graph.add(other)
    done = run(graph.run(context()))
    assert str(done.results["first"].error) == (
        "first goes on to other, which is in the graph but does not depend on it; "
        "add it after first, or leave it out of the graph."
    )


# Priorities


def test_priorities_decide_who_starts():
    """The highest first; equals as they were added."""
    order = []
    graph = Graph()
    for name, priority in [("a", 0), ("b", 5), ("c", -1), ("d", 5), ("e", 9.5)]:
        graph.add(Node(lambda ctx, name=name: order.append(name)), name=name, priority=priority)
    run(graph.run(context(), max_concurrent=1))
    assert order == list("ebdac")


@pytest.mark.parametrize("slots", [1, 3, 100])
def test_slots_are_used_and_not_exceeded(slots):
    """As many nodes at once as allowed."""
    gate = Gate()
    graph = Graph()
    for i in range(20):
        graph.add(Node(gate), name=str(i))
    run(graph.run(context(), max_concurrent=slots))
    assert (gate.most, gate.count) == (min(slots, 20), 20)


# Streams and cancellation


def test_streams_tell_of_each_node():
    """With its name, its result, and what is merged so far."""

    async def main():
        steps = []
        async for step in graph_of(DIAMOND).stream(context()):
            assert step.run.results[step.name] is step.result
            steps.append((step.name, "".join(step.run.merged().state.items)))
        return steps

    assert run(main()) == [("a", "a"), ("b", "ab"), ("c", "abc"), ("d", "abcd")]


def waiting(ended):
    async def wait():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    return Node(lambda ctx: wait())


def test_leaving_a_stream_cancels_what_runs():
    """Nothing is left pending, limits are given back, and waits for another attempt are forgotten."""
    ended = []
    limit = Limit(2)
    graph = Graph(limits={"one": limit})
    graph.add(adding_up("a"), priority=1)
    graph.add(waiting(ended), name="b", limits="one")
    graph.add(Flaky(9), name="c", retry=Retry(attempts=9, delay=60, longest=60, jitter=0))

    async def main():
        async with aclosing(graph.stream(context())) as steps:
            async for step in steps:
                assert step.name == "a"
                break

    run(main())
    assert ended == [True]
    assert limit.wait() == 0
    assert not limit._watchers
    assert limit._running == 0


@pytest.mark.parametrize("error", [asyncio.CancelledError, KeyboardInterrupt])
def test_what_ends_a_run_is_no_error_of_a_node(error):
    """It comes out, and the other nodes are cancelled."""
    ended = []
    graph = Graph()
    graph.add(waiting(ended), name="waits")
    graph.add(failing(error()), name="ends")
    with pytest.raises(error):
        asyncio.run(graph.run(context()))
    assert ended == [True]


# Against a sequential reference


class State(BaseModel):
    value: int = 0
    items: list[str] = []
    total: Annotated[int, operator.add] = 10
    fields: dict[str, int] = {}


class Does:
    """A node of a random graph; it checks that all that it depends on has ended."""

    def __init__(self, place, needs, spec, world):
        self.place, self.needs, self.spec, self.world = place, needs, spec, world
        self.failures = spec["flaky"]

    async def run(self, ctx):
        world = self.world
        assert all(needed in world["ended"] for needed in self.needs)
        world["now"] += 1
        world["most"] = max(world["most"], world["now"])
        for limit in self.spec["limits"]:
            world["limits"][limit] = world["limits"].get(limit, 0) + 1
            assert world["limits"][limit] <= LIMITS[limit]
        try:
            for _ in range(self.spec["turns"]):
                await asyncio.sleep(0)
            does(ctx.state, self.place, self.spec)
            if self.failures:
                self.failures -= 1
                raise ConnectionError("again")
            if self.spec["fails"]:
                raise ValueError("no")
        finally:
            world["now"] -= 1
            for limit in self.spec["limits"]:
                world["limits"][limit] -= 1
        world["ended"].add(self.place)
        return End()


def does(state, place, spec):
    state.items.append(str(place))
    state.total += place
    if spec["sets"]:
        state.value = 2 * state.value + spec["sets"]


LIMITS = {"one": 1, "two": 2}
SPECS = st.fixed_dictionaries(
    {
        "turns": st.integers(0, 4),
        "sets": st.sampled_from([0, 0, 1, 2]),
        "fails": st.sampled_from([False] * 7 + [True]),
        "flaky": st.sampled_from([0, 0, 0, 1, 2]),
        "limits": st.sets(st.sampled_from(sorted(LIMITS))),
        "priority": st.integers(-1, 1),
    }
)


@st.composite
def dags(draw):
    """Nodes of a random graph: what each depends on, and what it does."""
    count = draw(st.integers(0, 9))
    needs = [
        sorted(draw(st.sets(st.integers(0, max(place - 1, 0)), max_size=3))) if place else [] for place in range(count)
    ]
    return needs, draw(st.lists(SPECS, min_size=count, max_size=count))


def made(needs, specs):
    world = {"ended": set(), "now": 0, "most": 0, "limits": {}}
    graph = Graph(limits={name: Limit(count) for name, count in LIMITS.items()})
    for place, (needed, spec) in enumerate(zip(needs, specs, strict=True)):
        graph.add(
            Does(place, needed, spec, world),
            name=str(place),
            after=map(str, needed),
            limits=spec["limits"],
            priority=spec["priority"],
            retry=Retry(attempts=3, on=ConnectionError, delay=0),
        )
    return graph, world


def above(needs, place):
    """All nodes that a node depends on, directly or not."""
    return {other for needed in needs[place] for other in {needed} | above(needs, needed)}


def state_after(needs, specs, places, seen):
    """What nodes leave together, one after the other; None if they contradict each other."""
    state = State()
    setters = [p for p in places if specs[p]["sets"]]
    last = [p for p in setters if not any(p in above(needs, other) for other in setters)]
    if len({seen[p] for p in last}) > 1:
        values = {seen[p] for p in setters}
        if len(values) > 1:
            return None
    for place in sorted(places):
        state.items.append(str(place))
        state.total += place
    state.value = seen[last[0]] if last else 0
    return state


def reference(needs, specs):
    """State or kind of error of each node, one after the other."""
    found, seen = {}, {}
    for place, spec in enumerate(specs):
        if any(isinstance(found[needed], str) for needed in needs[place]):
            found[place] = "GraphError"
            continue
        state = state_after(needs, specs, above(needs, place), seen)
        if state is None or spec["fails"]:
            found[place] = "MergeError" if state is None else "ValueError"
            continue
        does(state, place, spec)
        seen[place] = state.value
        found[place] = state
    succeeded = {place for place, state in found.items() if isinstance(state, State)}
    return found, state_after(needs, specs, succeeded, seen)


@settings(max_examples=200, deadline=None)
@given(dags(), st.integers(1, 4))
def test_random_graphs_equal_a_sequential_reference(dag, slots):
    """Whatever is slow, fails, or is tried again; no limit is exceeded and nothing is left pending."""
    needs, specs = dag
    graph, world = made(needs, specs)
    done = run(graph.run(context(State()), max_concurrent=slots))
    expected, merged = reference(needs, specs)
    found = {
        int(name): result.context.state if result.is_success else type(result.error).__name__
        for name, result in done.results.items()
    }
    assert found == expected
    assert world["most"] <= slots
    if merged is None:
        with pytest.raises(MergeError):
            done.merged()
    else:
        assert done.merged().state == merged


@settings(max_examples=100, deadline=None)
@given(dags(), st.integers(0, 12))
def test_random_graphs_can_be_cancelled(dag, turns):
    """At any time; nothing is left pending and no limit taken."""
    graph, world = made(*dag)

    async def main():
        task = asyncio.create_task(graph.run(context(State()), max_concurrent=3))
        for _ in range(turns):
            await asyncio.sleep(0)
        cancelled = task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            assert cancelled
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())
    assert world["now"] == 0
    assert all(limit._running == 0 for limit in graph.limits.values())


@settings(max_examples=25, deadline=None)
@given(dags())
def test_random_graphs_leave_the_same_with_any_number_of_slots(dag):
    """To the last bit."""
    contents = set()
    for slots in (1, 2, 9):
        graph, _ = made(*dag)
        done = run(graph.run(context(State()), max_concurrent=slots))
        contents.add(digest({name: r.context for name, r in done.results.items() if r.is_success}))
    assert len(contents) == 1
