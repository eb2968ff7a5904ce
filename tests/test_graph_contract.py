"""The contract of graph execution: contexts, nodes, results, errors."""

import pickle
import subprocess
import sys
import threading

import attrs
import pytest

from mbexec import MbexecError
from mbexec.graph import (
    BaseNode,
    End,
    GraphError,
    MergeError,
    MergeStrategy,
    NodeResult,
    ParallelExecutionError,
    ParallelExecutor,
    RunContext,
    Vote,
)
from tests.graph_nodes import STATES, Model, Node, context


def test_contexts_have_defaults():
    """A state and an id are enough."""
    ctx = RunContext(None, "run-1")
    assert (ctx.state, ctx.execution_id, ctx.user_id, ctx.metadata, ctx.provenance) == (None, "run-1", None, {}, [])


def test_contexts_take_keywords():
    """Every attribute can be given by name."""
    ctx = RunContext[int](state=3, execution_id="a", user_id="me", metadata={"k": 1}, provenance=[{"p": 2}])
    assert (ctx.state, ctx.execution_id, ctx.user_id, ctx.metadata, ctx.provenance) == (
        3,
        "a",
        "me",
        {"k": 1},
        [{"p": 2}],
    )


def test_contexts_share_no_defaults():
    """Each has metadata and provenance of its own."""
    one, other = RunContext(None, ""), RunContext(None, "")
    one.metadata["k"] = 1
    one.add_provenance("n", "s")
    assert (other.metadata, other.provenance) == ({}, [])


def test_provenance_is_appended():
    """An entry has the names of node and signature, and whatever else was given."""
    ctx = context()
    ctx.add_provenance("first", "sig", tokens=3)
    ctx.add_provenance(node_name="second", signature_name="sig")
    assert ctx.provenance == [
        {"node_name": "first", "signature_name": "sig", "tokens": 3},
        {"node_name": "second", "signature_name": "sig"},
    ]


@pytest.mark.parametrize("kind", STATES)
def test_contexts_pickle(kind):
    """With any state."""
    state = kind()
    state.items.append("x")
    again = pickle.loads(pickle.dumps(RunContext(state, "a", provenance=[{"p": 1}])))
    assert (again.state.items, again.provenance) == (["x"], [{"p": 1}])


class Mine(BaseNode[Model]):
    """A node that inherits what it does not need."""

    signature = "mine"

    async def run(self, ctx):
        return End(ctx.state.value)


class Duck:
    """A node that inherits nothing."""

    signature = None

    def extract_inputs(self, state):
        return {"value": state.value}

    def update_state(self, state, result):
        state.value = result

    async def run(self, ctx):
        return End()


TYPED = """
import asyncio

from mbexec.graph import BaseNode, End, Graph, GraphRun, NodeResult, ParallelExecutor, Retry, RunContext


class Add(BaseNode[list[int]]):
    signature = "n"

    async def run(self, ctx: RunContext[list[int]]) -> "Add | End":
        ctx.state.append(1)
        return Add() if len(ctx.state) < 3 else End()


async def main() -> None:
    ctx: RunContext[list[int]] = RunContext([], "typed")
    executor: ParallelExecutor[list[int]] = ParallelExecutor()
    task: asyncio.Task[list[NodeResult[list[int]]]] = asyncio.create_task(executor.execute_parallel([Add()], ctx))
    merged: RunContext[list[int]] = executor.merge_states(await task)
    async for result in executor.stream((Add() for _ in range(3)), merged):
        result.context.state.sort()
    graph = Graph[list[int]]()
    graph.add(Add(), retry=Retry(on=OSError))
    run: GraphRun[list[int]] = await graph.run(ctx)
    run.merged().state.sort()
"""


@pytest.mark.current
def test_typed_programs_pass_type_checkers(tmp_path):
    """Nodes that inherit what they don't need count as whole, and types of states go through."""
    (tmp_path / "typed.py").write_text(TYPED)
    check = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", tmp_path / "typed.py"]
    done = subprocess.run([*check, "--cache-dir", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("kind", [Mine, Duck, Node])
def test_nodes_are_told_by_what_they_have(kind):
    """By inheritance or not."""
    assert isinstance(kind(), BaseNode)
    assert not isinstance(object(), BaseNode)


def test_nodes_may_leave_out_inputs_and_updates():
    """A base class takes nothing and puts nothing back."""
    state = Model()
    assert Mine().extract_inputs(state) == {}
    Mine().update_state(state, 3)
    assert state == Model()


def test_nodes_must_run():
    """A subclass without `run` can't be made."""

    class Idle(BaseNode[Model]):
        signature = "idle"

    with pytest.raises(TypeError, match="run"):
        Idle()


def test_end_is_a_class_or_an_instance():
    """Either ends a path; an instance may have a value."""
    assert isinstance(End, End)
    assert isinstance(End(), End)
    assert not isinstance(3, End)
    assert End(3).value == 3
    assert End.value is None


def test_ends_are_equal_by_value():
    """An end without a value equals the class."""
    assert End() == End() == End
    assert End(1) == End(1) != End(2)
    assert End() != 3
    assert len({End(), End()}) == 1
    assert (repr(End()), repr(End(3))) == ("End()", "End(3)")


def test_results_are_shown_without_their_states():
    """Which may be large: asyncio.run writes the repr of what its coroutine returned and throws it away."""

    class Large:
        def __repr__(self):
            raise AssertionError

    ctx = RunContext(Large(), "")
    result = NodeResult(node=3, next_node=End(), context=ctx, execution_time_ms=1.0, start=ctx)
    assert repr(result) == "NodeResult(node=3, next_node=End(), execution_time_ms=1.0, error=None)"


def test_what_cannot_be_copied_is_an_error_that_says_what_to_do():
    """Before anything runs."""
    ctx = RunContext({"lock": threading.Lock()}, "")
    with pytest.raises(TypeError, match=r"^The context can't be copied: .*lock.*a __deepcopy__ that returns self"):
        ParallelExecutor().execute_parallel([], ctx)


def test_results_tell_success_and_end():
    """From the error and from what comes next."""
    good = NodeResult(node=Duck(), next_node=End(), context=context(), execution_time_ms=1.0)
    bad = NodeResult(Duck(), End, context(), 1.0, ValueError("no"))
    on = NodeResult(Duck(), Duck(), context(), 1.0)
    assert [(r.is_success, r.is_end) for r in (good, bad, on)] == [(True, True), (False, True), (True, False)]


def test_strategies_have_values():
    """The three of them, by name and by value."""
    assert {s.name: s.value for s in MergeStrategy} == {
        "FIRST_SUCCESS": "first_success",
        "ALL_SUCCESS": "all_success",
        "MAJORITY": "majority",
    }


RESULT = NodeResult(Duck(), End, context(), 1.0, ValueError("no"))


@pytest.mark.parametrize("kind", [ParallelExecutionError, MergeError])
@pytest.mark.parametrize(
    ("args", "kw", "message"),
    [
        (("It broke", [1], [2]), {}, "It broke"),
        (("It broke",), {"failed_nodes": [1], "partial_results": [2]}, "It broke"),
        ((), {"message": "It broke", "failed_nodes": [1], "partial_results": [2]}, "It broke"),
        (([1], [2]), {"message": "It broke"}, "It broke"),
        (([1], [2]), {}, "1 parallel nodes failed"),
        ((), {"failed_nodes": [1], "partial_results": [2]}, "1 parallel nodes failed"),
    ],
)
def test_errors_take_message_nodes_and_results(kind, args, kw, message):
    """The message may be left out."""
    error = kind(*args, **kw)
    assert (str(error), error.message, error.failed_nodes, error.partial_results) == (message, message, [1], [2])
    assert isinstance(error, ParallelExecutionError)
    assert isinstance(error, MbexecError)


def test_errors_take_nothing_else():
    """A slip does not go unnoticed."""
    with pytest.raises(TypeError, match="leave out the rest"):
        ParallelExecutionError("a", [], [], 4)
    with pytest.raises(TypeError, match="leave out the rest"):
        ParallelExecutionError("a", nodes=[])


@pytest.mark.parametrize("kind", [ParallelExecutionError, MergeError])
def test_errors_pickle(kind):
    """With the nodes and the results that they carry."""
    error = kind("It broke", [(RESULT.node, RESULT.error)], [RESULT])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == again.message == "It broke"
    assert isinstance(again.failed_nodes[0][0], Duck)
    assert str(again.partial_results[0].error) == "no"


def test_errors_pickle_without_what_does_not():
    """A node that can't be pickled arrives as its repr."""
    again = pickle.loads(pickle.dumps(ParallelExecutionError("It broke", [lambda: 1], [])))
    assert again.message == "It broke"
    assert "<lambda>" in again.failed_nodes[0]


def test_graph_errors_are_value_errors():
    """And pickle."""
    assert isinstance(pickle.loads(pickle.dumps(GraphError("no"))), ValueError)


def test_votes_pickle():
    """They are places in a list and nothing else."""
    vote = Vote(((0, 2), (1,)), (3,))
    assert pickle.loads(pickle.dumps(vote)) == vote
    assert (vote.winners, vote.dissenters, vote.is_unanimous) == ((0, 2), (1,), False)


def test_the_module_is_usable_alone():
    """Importing it imports neither chemistry nor pydantic."""
    code = "import sys, mbexec.graph; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"qcelemental", "qcmanybody", "qcengine", "pydantic"}


def test_data_classes_document_their_attributes():
    """Each attribute stands in the docstring."""
    for kind in (RunContext, NodeResult, Vote):
        assert [field.name for field in attrs.fields(kind) if field.name not in kind.__doc__] == []
