"""What several nodes leave, merged."""

import asyncio
import collections
import dataclasses
import functools
import operator
import threading
import types
from typing import Annotated, Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from mbexec.graph import (
    End,
    MergeError,
    MergeStrategy,
    NodeResult,
    ParallelExecutionError,
    ParallelExecutor,
    RunContext,
)
from mbexec.graph.content import digest, same
from tests.graph_nodes import STATES, Data, Frozen, Model, Node, appending, context, failing, setting

EXECUTOR = ParallelExecutor(4)


def results_of(*nodes, start=None):
    return asyncio.run(EXECUTOR.execute_parallel(nodes, start or context()))


def merge(*nodes, start=None, strategy="all_success", **kw):
    return EXECUTOR.merge_states(results_of(*nodes, start=start), strategy, **kw)


# In general


@pytest.mark.parametrize("strategy", [*MergeStrategy, *(s.value for s in MergeStrategy)])
def test_nothing_can_not_be_merged(strategy):
    """Whatever the strategy; strategies may be given as text."""
    with pytest.raises(ParallelExecutionError, match=r"^Cannot merge empty results list$") as caught:
        EXECUTOR.merge_states([], strategy)
    assert (caught.value.failed_nodes, caught.value.partial_results) == ([], [])


@pytest.mark.parametrize("strategy", ["most", None, 3])
def test_strategies_are_known(strategy):
    """Anything else is an error that lists them."""
    with pytest.raises(
        ValueError, match="is no merge strategy; choose one of 'first_success', 'all_success', 'majority'"
    ):
        merge(setting(value=1), strategy=strategy)


@pytest.mark.parametrize("strategy", MergeStrategy)
def test_one_success_is_its_own_merge(strategy):
    """By any strategy."""
    merged = merge(appending("a"), strategy=strategy)
    assert merged.state == Model(items=["a"])
    assert [entry["item"] for entry in merged.provenance] == ["a"]


@pytest.mark.parametrize("strategy", ["first_success", "majority"])
def test_no_success_can_not_be_merged(strategy):
    """The error has the nodes, what they raised, and the results."""
    errors = ValueError("a"), KeyError("b")
    nodes = [failing(error) for error in errors]
    with pytest.raises(ParallelExecutionError, match=r"^All parallel nodes failed$") as caught:
        merge(*nodes, strategy=strategy)
    assert caught.value.failed_nodes == list(zip(nodes, errors, strict=True))
    assert [result.node for result in caught.value.partial_results] == nodes


# First success


def test_the_first_success_counts():
    """In the order of the nodes, with that path's provenance alone."""

    async def late(ctx):
        for _ in range(5):
            await asyncio.sleep(0)
        ctx.state.value = 1
        ctx.add_provenance("late", "s")

    merged = EXECUTOR.merge_states(
        results_of(failing(ValueError()), Node(late), appending("quick"), start=context(provenance=[{"base": 1}]))
    )
    assert merged.state == Model(value=1)
    assert merged.provenance == [{"base": 1}, {"node_name": "late", "signature_name": "s"}]


# All success


def test_all_must_succeed():
    """The message says how many did not."""
    with pytest.raises(ParallelExecutionError) as caught:
        merge(failing(ValueError()), setting(value=1), failing(KeyError()))
    assert str(caught.value) == "2 of 3 nodes failed (ALL_SUCCESS requires all)"
    assert len(caught.value.failed_nodes) == 2
    assert len(caught.value.partial_results) == 3


@pytest.mark.parametrize("kind", [*STATES, functools.partial(dict, value=0, other=0, items=[])])
def test_changes_come_together(kind):
    """Different fields combine, lists grow by what each node appended, and what nobody changed stays."""

    def put(**values):
        def do(ctx):
            state = ctx.state
            for name, value in values.items():
                if isinstance(state, dict):
                    state[name] = state[name] + value
                else:
                    setattr(state, name, getattr(state, name) + value)

        return Node(do)

    start = context(kind())
    merged = merge(put(value=1, items=["a", "b"]), put(other=2), put(items=["c"]), start=start)
    found = (
        merged.state
        if isinstance(merged.state, dict)
        else merged.state.__class__ and {name: getattr(merged.state, name) for name in ("value", "other", "items")}
    )
    assert found == {"value": 1, "other": 2, "items": ["a", "b", "c"]}
    assert type(merged.state) is type(start.state)


def test_lists_keep_what_they_began_with_once():
    """And each appended item, equal ones too, in node order."""
    merged = merge(appending("x"), appending("x"), appending("a"), start=context(Model(items=["base"])))
    assert merged.state.items == ["base", "x", "x", "a"]


def test_provenance_comes_together():
    """The base's once, then each node's own additions in node order."""
    merged = merge(appending("a", "b"), setting(value=1), appending("c"), start=context(provenance=[{"base": 1}]))
    assert [entry.get("item", "base") for entry in merged.provenance] == ["base", "a", "b", "c"]


def test_metadata_come_together():
    """By name, as fields do."""

    def noting(**values):
        return Node(lambda ctx: ctx.metadata.update(values))

    merged = merge(noting(a=1), noting(b=2), noting(c=3), start=context(metadata={"base": 0}))
    assert merged.metadata == {"base": 0, "a": 1, "b": 2, "c": 3}
    with pytest.raises(MergeError, match=r"changed the field metadata\['a'\] to different values, 1 and 2"):
        merge(noting(a=1), noting(a=2))


def test_ids_come_from_the_base():
    """Execution and user."""
    merged = merge(setting(value=1), setting(other=1), start=context(user_id="me"))
    assert (merged.execution_id, merged.user_id) == ("run-1", "me")


def test_conflicts_are_errors():
    """That name the field and both nodes, and carry the results."""
    one = Node(lambda ctx: setattr(ctx.state, "value", 1), "one")
    two = Node(lambda ctx: setattr(ctx.state, "value", 2), "two")
    with pytest.raises(MergeError) as caught:
        merge(setting(other=1), one, two)
    assert str(caught.value) == (
        "one (node 1) and two (node 2) changed the field value to different values, 1 and 2; "
        "give a reducer for it, or let one node run after the other."
    )
    assert caught.value.failed_nodes == []
    assert len(caught.value.partial_results) == 3


def test_equal_changes_are_no_conflict():
    """Two nodes may find the same."""
    assert merge(setting(value=1), setting(value=1), setting(value=1)).state.value == 1


@pytest.mark.parametrize(("one", "other"), [(0.0, -0.0), (1, True), (np.zeros(2), np.ones(2))])
def test_content_decides_what_is_equal(one, other):
    """To the last bit."""
    with pytest.raises(MergeError, match="value"):
        merge(setting(value=one), setting(value=other))


def test_arrays_are_compared_by_content():
    """Equal ones are no conflict."""
    merged = merge(setting(value=np.array([1.0, np.nan])), setting(value=np.array([1.0, np.nan])))
    assert merged.state.value.tolist()[0] == 1.0


@pytest.mark.parametrize("rewrite", [["new"], [], ["base", "extra"][:1] * 2 + ["z"]])
def test_rewritten_lists_conflict_with_grown_ones(rewrite):
    """A list that was replaced has not grown."""
    if rewrite[:1] == ["base"]:
        rewrite = ["other", *rewrite]
    with pytest.raises(MergeError, match="field items to different values") as caught:
        merge(appending("x"), setting(items=rewrite), start=context(Model(items=["base"])))
    assert "more items ['x']" in str(caught.value)


def test_fields_can_go():
    """A key that a node takes out of a dict is gone; two that put and take it conflict."""
    start = RunContext({"a": 1, "b": 2}, "run-1")
    taking = Node(lambda ctx: ctx.state.pop("a") and None)
    assert merge(taking, Node(lambda ctx: ctx.state.update(c=3)), start=start).state == {"b": 2, "c": 3}
    with pytest.raises(MergeError, match="nothing and 5"):
        merge(taking, Node(lambda ctx: ctx.state.update(a=5)), start=start)


def test_attributes_can_go_and_come():
    """Those of plain objects too."""

    class Bag:
        def __init__(self):
            self.a = 1

    merged = merge(
        Node(lambda ctx: delattr(ctx.state, "a")),
        Node(lambda ctx: setattr(ctx.state, "b", 2)),
        start=RunContext(Bag(), ""),
    )
    assert vars(merged.state) == {"b": 2}


def test_namespaces_have_fields():
    """As plain objects have."""
    merged = merge(setting(a=1), setting(b=2), start=RunContext(types.SimpleNamespace(a=0), ""))
    assert merged.state == types.SimpleNamespace(a=1, b=2)


def test_numbers_that_are_too_long_to_write_conflict():
    """The message does without them."""
    with pytest.raises(MergeError, match="the field value to different values, some int and some int;"):
        merge(setting(value=10**5000), setting(value=10**5000 + 1))


def test_frozen_states_are_replaced():
    """A node puts another one in place; fields merge as usual."""

    def evolving(**values):
        def do(ctx):
            ctx.state = attrs.evolve(ctx.state, **values)

        return Node(do)

    merged = merge(evolving(value=1), evolving(other=2), evolving(items=["a"]), start=RunContext(Frozen(), ""))
    assert merged.state == Frozen(1, 2, ["a"])


@pytest.mark.parametrize("state", [None, 3, [1], "text"])
def test_states_without_fields_are_one_field(state):
    """None, a number, a list."""
    start = RunContext(state, "")
    assert same(merge(Node(), Node(), start=start).state, state)
    put = Node(lambda ctx: setattr(ctx, "state", {"new": 1}))
    assert merge(put, Node(), start=start).state == {"new": 1}
    with pytest.raises(MergeError, match="changed the field state to different values"):
        merge(put, Node(lambda ctx: setattr(ctx, "state", 7)), start=start)


def test_a_state_of_another_type_is_one_value():
    """It excludes changes to the fields of the old one."""
    swap = Node(lambda ctx: setattr(ctx, "state", Data(value=1)))
    assert merge(swap, Node()).state == Data(value=1)
    with pytest.raises(MergeError, match="field state"):
        merge(swap, setting(value=2))


class Rich(BaseModel):
    model_config = ConfigDict(extra="allow")
    value: int = 0
    _hidden: int = PrivateAttr(default=0)


def test_models_merge_with_all_they_have():
    """Extra and private attributes, and which fields were set."""

    def do(ctx):
        ctx.state._hidden = 5

    merged = merge(Node(do), setting(more="x"), setting(value=1), start=context(Rich(extra=1)))
    assert merged.state._hidden == 5
    assert merged.state.model_dump() == {"value": 1, "extra": 1, "more": "x"}
    assert "value" in merged.state.model_fields_set


def test_merging_changes_nothing():
    """Neither the results nor what they started from; and the merged context is nobody else's."""
    results = results_of(appending("a"), appending("b"), start=context(Model(items=["base"])))
    before = digest([(r.context, r.start) for r in results])
    merged = EXECUTOR.merge_states(results, "all_success")
    merged.state.items.append("mine")
    merged.provenance[0]["mine"] = 1
    assert digest([(r.context, r.start) for r in results]) == before


def test_results_made_by_hand_merge():
    """What all have in common counts as the base."""

    def result(value, *items):
        ctx = context(Model(value=value, items=["base", *items]), provenance=[{"base": 1}, *({"i": i} for i in items)])
        return NodeResult(Node(), End(), ctx, 1.0)

    merged = EXECUTOR.merge_states([result(1, "a"), result(1), result(1, "b")], MergeStrategy.ALL_SUCCESS)
    assert merged.state == Model(value=1, items=["base", "a", "b"])
    assert merged.provenance == [{"base": 1}, {"i": "a"}, {"i": "b"}]
    with pytest.raises(MergeError, match="field value"):
        EXECUTOR.merge_states([result(1), result(2)], MergeStrategy.ALL_SUCCESS)


# Reducers


def adding(amount):
    def do(ctx):
        ctx.state.value += amount

    return Node(do)


def test_reducers_are_given():
    """By the name of the field; a sum is of what nodes added."""
    start = context(Model(value=10))
    assert merge(adding(1), adding(2), adding(0), start=start, reducers={"value": operator.add}).state.value == 13
    assert merge(setting(value=3), setting(value=7), start=start, reducers={"value": max}).state.value == 10
    assert merge(setting(value=30), setting(value=7), start=start, reducers={"value": max}).state.value == 30
    assert merge(setting(value=3), setting(value=7), reducers={"value": lambda old, new: new}).state.value == 7


def test_arrays_are_summed():
    """By what nodes added to them."""
    start = context(Model.model_construct(value=np.ones(2)))
    merged = merge(
        adding(np.array([1.0, 0])), adding(np.array([0, 2.0])), start=start, reducers={"value": operator.add}
    )
    assert merged.state.value.tolist() == [2.0, 3.0]


def test_lists_are_reduced_by_what_was_appended():
    """The base's items are there once."""
    start = context(Model(items=["base"]))
    assert merge(appending("a"), appending("b"), start=start, reducers={"items": operator.add}).state.items == [
        "base",
        "a",
        "b",
    ]
    union = lambda old, new: sorted({*old, *new})  # noqa: E731
    assert merge(appending("z", "a"), appending("a"), start=start, reducers={"items": union}).state.items == [
        "a",
        "base",
        "z",
    ]


def test_dicts_are_reduced():
    """`operator.or_` puts them together; metadata have reducers too."""

    def do(ctx, key):
        ctx.state.value = {**ctx.state.value, key: 1}
        ctx.metadata["calls"] = ctx.metadata["calls"] + 1

    start = context(Model.model_construct(value={"base": 0}), metadata={"calls": 1})
    nodes = [Node(lambda ctx, key=key: do(ctx, key)) for key in "ab"]
    merged = merge(*nodes, start=start, reducers={"value": operator.or_, "metadata['calls']": operator.add})
    assert merged.state.value == {"base": 0, "a": 1, "b": 1}
    assert merged.metadata == {"calls": 3}


@pytest.mark.parametrize(
    ("base", "added", "summed"),
    [("a", ["b", "c"], "abc"), ((1,), [(2,), (3,)], (1, 2, 3)), (b"a", [b"b", b""], b"ab")],
)
def test_text_and_tuples_are_summed_by_what_was_appended(base, added, summed):
    """The base counts once."""
    nodes = [setting(value=base + more) for more in added]
    merged = merge(*nodes, start=context(Data(value=base)), reducers={"value": operator.add})
    assert merged.state.value == summed


def test_arrays_of_truth_values_are_summed_as_they_are():
    """They have no differences."""
    nodes = [setting(value=np.array(value)) for value in ([True, False, False], [False, True, False])]
    merged = merge(*nodes, start=context(Data(value=np.zeros(3, bool))), reducers={"value": operator.add})
    assert merged.state.value.tolist() == [True, True, False]


def test_dicts_are_united_by_what_was_put_in():
    """What one node changed is not undone by another that left it as it was."""
    nodes = [setting(value={"a": 2, "b": 1}), setting(value={"a": 1, "b": 1, "c": 3})]
    merged = merge(*nodes, start=context(Data(value={"a": 1, "b": 1})), reducers={"value": operator.or_})
    assert merged.state.value == {"a": 2, "b": 1, "c": 3}


def test_reducers_that_change_what_they_are_given():
    """They change copies."""
    results = results_of(
        adding(collections.Counter("a")),
        adding(collections.Counter("b")),
        start=context(Model.model_construct(value=collections.Counter("x"))),
    )
    before = digest([(r.context, r.start) for r in results])

    def update(old, new):
        old.update(new - collections.Counter("x"))
        return old

    merged = EXECUTOR.merge_states(results, "all_success", reducers={"value": update})
    assert merged.state.value == collections.Counter("xab")
    assert digest([(r.context, r.start) for r in results]) == before


def test_nothing_to_begin_with():
    """A field that was None begins with the first value."""
    start = context(Model.model_construct(value=None))
    assert merge(setting(value=1), setting(value=2), start=start, reducers={"value": operator.add}).state.value == 3


def longest(one, other):
    return max(one, other, key=len)


class AnnotatedModel(BaseModel):
    total: Annotated[int, operator.add] = 0
    text: Annotated[str, Field(max_length=20), longest] = ""
    best: Annotated[float, max] = 0.0
    plain: Annotated[int, Field(ge=0), int] = 0


@attrs.define
class AnnotatedAttrs:
    total: Annotated[int, operator.add] = 0
    text: "Annotated[str, longest]" = ""
    best: Annotated[float, max] = 0.0
    plain: "Unknown" = 0  # noqa: F821 - what only a type checker knows


@dataclasses.dataclass
class AnnotatedData:
    total: Annotated[int, operator.add] = 0
    text: Annotated[str, longest] = ""
    best: Annotated[float, max] = 0.0
    plain: Any = 0


class Inherits(AnnotatedData):
    pass


@pytest.mark.parametrize("kind", [AnnotatedModel, AnnotatedAttrs, AnnotatedData, Inherits])
def test_reducers_stand_in_annotations(kind):
    """As functions of two arguments; other things in annotations are left alone."""

    def do(ctx, text):
        ctx.state.total += len(text)
        ctx.state.text = text
        ctx.state.best = float(len(text))

    nodes = [Node(lambda ctx, text=text: do(ctx, text)) for text in ("aa", "bbbb", "c")]
    merged = merge(*nodes, start=context(kind(total=1)))
    assert (merged.state.total, merged.state.text, merged.state.best) == (8, "bbbb", 4.0)
    with pytest.raises(MergeError, match="field plain"):
        merge(setting(plain=1), setting(plain=2), start=context(kind()))


def test_given_reducers_go_before_annotations():
    """For one merge."""
    start = context(AnnotatedModel())
    merged = merge(setting(total=3), setting(total=5), start=start, reducers={"total": max})
    assert merged.state.total == 5


def test_reducers_name_fields():
    """A slip is an error that lists the fields."""
    with pytest.raises(
        MergeError, match="reducers has 'vaule', which is no field; fields are items, other, provenance, value"
    ):
        merge(setting(value=1), reducers={"vaule": max})


def test_reducers_may_fail():
    """The message names the field and the nodes, and has the cause."""
    with pytest.raises(
        MergeError, match=r"The reducer of the field value failed on what setting \(node 0\) and setting"
    ) as caught:
        merge(setting(value="a"), setting(value=2), reducers={"value": lambda a, b: a / b})
    assert isinstance(caught.value.__cause__, TypeError)


@given(st.lists(st.lists(st.integers(), max_size=3), min_size=1, max_size=6), st.lists(st.integers(), max_size=3))
def test_merged_lists_are_the_sum_of_what_was_appended(appended, base):
    """Whatever it was."""
    merged = merge(*[appending(*items) for items in appended], start=context(Model.model_construct(items=base)))
    assert merged.state.items == base + [item for items in appended for item in items]


# Majority


def test_the_majority_counts():
    """The first node of it, and the vote stands in the metadata."""
    nodes = [
        setting(value=1),
        setting(value=2),
        failing(ValueError()),
        setting(value=2),
        appending("x"),
        setting(value=2),
    ]
    merged = merge(*nodes, strategy="majority")
    vote = merged.metadata["vote"]
    assert merged.state.value == 2
    assert (vote.groups, vote.failed) == (((1, 3, 5), (0,), (4,)), (2,))
    assert (vote.winners, vote.dissenters, vote.is_unanimous) == ((1, 3, 5), (0, 4), False)


def test_a_vote_changes_no_result():
    """It stands in a context of its own."""
    results = results_of(setting(value=1))
    merged = EXECUTOR.merge_states(results, MergeStrategy.MAJORITY)
    assert merged.metadata["vote"].is_unanimous
    assert results[0].context.metadata == {}


@pytest.mark.parametrize("values", [[1, 2], [1, 1, 2, 2], [1, 2, 3], [1, 1, 2, 3]])
def test_half_is_no_majority(values):
    """The message says how many there were."""
    with pytest.raises(MergeError, match=rf"^No majority: at most \d of {len(values)} nodes left the same"):
        merge(*[setting(value=value) for value in values], strategy="majority")


def test_strict_majorities_are_unanimous():
    """A dissenter and a failure are errors that name the nodes."""
    same_nodes = [setting(value=np.array([1.0])) for _ in range(3)]
    assert merge(*same_nodes, strategy="majority", strict=True).state.value.tolist() == [1.0]
    with pytest.raises(MergeError) as caught:
        merge(
            *same_nodes, setting(value=np.array([1.0 + 1e-15])), failing(ValueError()), strategy="majority", strict=True
        )
    assert str(caught.value) == (
        "3 of 5 nodes left the same (strict MAJORITY requires all); "
        "the others are setting (node 3), failing (node 4, failed)."
    )
    assert len(caught.value.failed_nodes) == 1


def test_keys_say_what_counts():
    """What differs besides does not."""

    def do(ctx, time):
        ctx.state.value = 1
        ctx.state.other = time

    nodes = [Node(lambda ctx, time=time: do(ctx, time)) for time in range(3)]
    merged = merge(*nodes, strategy="majority", key=lambda state: {"energy": state.value}, strict=True)
    assert (merged.state.value, merged.state.other) == (1, 0)


def test_states_that_cannot_be_compared():
    """Say why."""
    with pytest.raises(MergeError, match=r"^The states can't be compared: .* has no content"):
        merge(setting(value=1), strategy="majority", key=lambda state: (x for x in ()))


class Client:
    """Is shared by all copies, and holds what can't be compared."""

    def __init__(self):
        self.lock = threading.Lock()

    def __deepcopy__(self, memo):
        return self


@pytest.mark.parametrize("around", [list, tuple, Data, types.MappingProxyType, types.SimpleNamespace, dict])
def test_what_copies_share_need_not_be_compared(around):
    """A client with a connection may stand anywhere in a state."""
    clients = {"one": Client()}
    held = around(clients.values()) if around in (list, tuple) else Data(clients) if around is Data else None
    held = held or (around(**clients) if around is types.SimpleNamespace else around(clients))
    assert merge(setting(other=1), appending("x"), start=context(Data(value=held))).state.items == ["x"]


class Handle:
    """Can be copied, and holds what can't be compared."""

    def __init__(self):
        self.lock = threading.Lock()

    def __deepcopy__(self, memo):
        return Handle()


def test_lists_that_cannot_be_compared():
    """Say which they are too, when they have grown."""
    with pytest.raises(MergeError, match=r"^The field items can't be compared: .* has no content"):
        merge(appending("x"), start=context(Data(items=[Handle()])))


def test_fields_that_cannot_be_compared():
    """Say which."""
    with pytest.raises(MergeError, match=r"^The field value can't be compared: .* has no content"):
        merge(setting(other=1), start=context(Data(value=Handle())))
