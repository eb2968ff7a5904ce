"""Copies that cost what can change, and content told apart."""

import collections
import copy
import dataclasses
import datetime
import decimal
import enum
import functools
import re
import subprocess
import sys
import threading
import types
import weakref

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, PrivateAttr

from mbexec.graph import BaseNode, RunContext, copies
from mbexec.graph.content import attributes, digest, same
from mbexec.graph.copies import copy_of, plain_kind
from tests.graph_nodes import STATES, Frozen


def copied(thing):
    return copy_of(thing, {})


def frozen_array(n=8):
    array = np.arange(float(n))
    array.flags.writeable = False
    return array


@attrs.frozen
class Point:
    x: float
    data: object = None


@attrs.frozen(slots=False)
class OpenPoint:
    x: float
    data: object = None


@dataclasses.dataclass(frozen=True)
class DataPoint:
    x: float
    data: object = None


class ModelPoint(BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)
    x: float
    data: object = None


class Open(BaseModel):
    model_config = ConfigDict(extra="allow", arbitrary_types_allowed=True)
    array: object = None
    _hidden: list = PrivateAttr(default_factory=list)


class Slotted:
    __slots__ = ("__hidden", "seen")

    def __init__(self):
        self.__hidden = []
        self.seen = [1]

    @property
    def hidden(self):
        return self.__hidden


class Color(enum.Enum):
    RED = 1


class Stack(list):
    """A list with an attribute."""


FROZEN = [Point, OpenPoint, DataPoint, ModelPoint]

# Copies

trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.tuples(inner, inner)
        | st.builds(Point, st.just(1.0), inner)
    ),
    max_leaves=20,
)


@given(trees)
def test_copies_have_the_same_content(tree):
    """As deep copies have."""
    again = copied(tree)
    assert same(again, tree)
    assert same(again, copy.deepcopy(tree))
    assert digest(again) == digest(tree)


@pytest.mark.parametrize("kind", [*STATES, Frozen])
def test_states_are_copied(kind):
    """Of any kind, with what in them can change."""
    state = kind()
    state.items.append(["inner"])
    again = copied(state)
    assert type(again) is kind
    assert again.items == [["inner"]]
    assert again.items is not state.items
    assert again.items[0] is not state.items[0]


@pytest.mark.parametrize("kind", FROZEN)
@pytest.mark.parametrize("data", [None, b"x" * 100, (1, "a"), frozenset({1})])
def test_frozen_objects_are_shared(kind, data):
    """If nothing in them can change."""
    point = kind(x=1.0, data=data)
    assert copied([point])[0] is point


@pytest.mark.parametrize("kind", FROZEN)
def test_frozen_objects_of_frozen_arrays_are_shared(kind):
    """However large."""
    point = kind(x=1.0, data=(frozen_array(), kind(x=2.0, data=b"")))
    assert copied({"a": point})["a"] is point


@pytest.mark.parametrize("kind", FROZEN)
@pytest.mark.parametrize("data", [[1], {"a": 1}, {1}, np.zeros(3), ([1],), bytearray(b"x")])
def test_frozen_objects_that_hold_something_else_are_copied(kind, data):
    """A frozen object may hold a list."""
    point = kind(x=1.0, data=data)
    again = copied(point)
    assert again is not point
    assert again.data is not data
    assert digest(again) == digest(point)


@attrs.frozen
class Secretive:
    """Has a slot with a name that Python mangles."""

    __data: list = attrs.field(factory=list, alias="data")


def test_private_slots_of_frozen_objects_count():
    """A list in one of them is copied."""
    point = Secretive([1])
    again = copied(point)
    again._Secretive__data.append(2)
    assert point._Secretive__data == [1]


@dataclasses.dataclass(frozen=True)
class NamedList(list):
    name: str = "a"


def test_frozen_objects_that_are_lists_besides_are_copied():
    """Their attributes are not all that they are."""
    named = NamedList()
    named.append(1)
    again = copied(named)
    again.append(2)
    assert list(named) == [1]


def test_subclasses_of_frozen_dataclasses_are_copied():
    """Without being dataclasses themselves they let attributes be set."""

    class Noted(DataPoint):
        pass

    noted = Noted(1.0)
    copied(noted).note = "changed"
    assert vars(noted) == {"x": 1.0, "data": None}


def test_frozen_arrays_are_shared():
    """Read-only arrays that own their data."""
    array = frozen_array()
    assert copied([array])[0] is array


def test_read_only_views_are_copied():
    """They can change through their base."""
    base = np.arange(8.0)
    view = base[:]
    view.flags.writeable = False
    again = copied(view)
    base[0] = 99.0
    assert again[0] == 0.0
    assert not again.flags.writeable
    assert copied(again) is again


def test_arrays_are_copied():
    """With values, order of axes, and masks."""
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    again = copied(array)
    assert again is not array
    assert again.flags.f_contiguous
    assert again.tobytes() == array.tobytes()
    masked = np.ma.masked_array([1.0, 2.0], mask=[True, False])
    assert copied(masked).mask.tolist() == [True, False]


def test_arrays_of_objects_are_copied_through_and_through():
    """Read-only does not mean that their items can't change."""
    array = np.array([[1], None], dtype=object)
    array.flags.writeable = False
    again = copied(array)
    assert again is not array
    assert again[0] is not array[0]


def test_structured_scalars_are_copied():
    """They can be written to."""
    scalar = np.array([(1, 2.0)], dtype=[("a", int), ("b", float)])[0]
    again = copied(scalar)
    again["a"] = 7
    assert scalar["a"] == 1


def test_what_is_met_twice_is_copied_once():
    """Also in models and frozen objects, and in circles."""
    inner = [1]
    array = np.zeros(2)
    one, two, point, first, second = copied([inner, inner, Point(1.0, inner), Open(array=array), array])
    assert one is two is point.data
    assert first.array is second
    ring = [1]
    ring.append(ring)
    again = copied(ring)
    assert again[1] is again
    held = []
    loop = Point(1.0, held)
    held.append(loop)
    again = copied(loop)
    assert again.data[0] is again
    pair = ([],)
    pair[0].append(pair)
    again = copied(pair)
    assert again[0][0] is again


def test_models_are_copied_part_by_part():
    """Private and extra attributes and the fields set too; frozen arrays in them are shared."""
    model = Open(array=frozen_array(), more=[1])
    model._hidden.append(2)
    again = copied(model)
    assert again == model
    assert again.array is model.array
    assert again.more is not model.more
    assert again._hidden == [2]
    assert again._hidden is not model._hidden
    assert again.model_fields_set == {"array", "more"}
    assert again.model_fields_set is not model.model_fields_set


class Singleton:
    def __deepcopy__(self, memo):
        return self


def test_own_deep_copies_are_honoured():
    """What says itself how it is copied is."""
    only = Singleton()
    assert copied({"a": [only]})["a"][0] is only


@pytest.mark.parametrize(
    "thing",
    [
        collections.OrderedDict(a=[1]),
        collections.defaultdict(list, a=[1]),
        collections.deque([[1]], maxlen=3),
        collections.Counter("ab"),
        Stack([[1]]),
        datetime.datetime(2020, 1, 2, tzinfo=datetime.UTC),
        decimal.Decimal("1.5"),
        Color.RED,
        np.float64(1.5),
        np.dtype("f8"),
        bytearray(b"x"),
        types.SimpleNamespace(a=[1]),
        {1, 2},
        slice(1, 2),
        range(3),
        print,
        int,
        ValueError("x"),
        copied.__code__,
        np.add,
        weakref.ref(Point),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_copies_are_those_of_deepcopy(thing):
    """For what else there is."""
    again, reference = copied([thing])[0], copy.deepcopy([thing])[0]
    assert type(again) is type(reference)
    assert str(again) == str(reference)


def test_methods_go_with_their_object():
    """Those that were bound by hand too."""
    thing = types.SimpleNamespace(items=[1])
    thing.method = types.MethodType(lambda self: self.items, thing)
    again = copied(thing)
    assert again.method() is again.items
    assert again.items is not thing.items


def test_slots_are_copied():
    """Also those with private names."""
    thing = Slotted()
    again = copied(thing)
    assert again.seen == [1]
    assert again.seen is not thing.seen
    assert again.hidden is not thing.hidden


def test_mapping_proxies_are_copied():
    """The dict behind one can change."""
    behind = {"a": [1]}
    again = copied([types.MappingProxyType(behind)] * 2)
    behind["a"].append(2)
    assert again[0] == {"a": [1]}
    assert again[0] is again[1]


def test_what_cannot_be_copied_is_an_error():
    """As with copy.deepcopy."""
    with pytest.raises(TypeError, match="lock"):
        copied([threading.Lock()])


def test_dispatch_tables_are_honoured(monkeypatch):
    """What copyreg knows counts, as for copy.deepcopy."""
    import copyreg

    class Odd:
        pass

    copyreg.pickle(Odd, lambda odd: (list, ((1,),)))
    try:
        assert copied(Odd()) == [1]
    finally:
        del copyreg.dispatch_table[Odd]


@attrs.define
class Pieces:
    pieces: list
    rest: list


def test_further_copies_need_not_look_again(monkeypatch):
    """What a copy shares is noted, and only the outermost of it; a copy that knows it looks at nothing inside."""
    points = [Point(1.0, (frozen_array(), Point(2.0, frozen_array()))) for _ in range(5)]
    start, known = RunContext(Pieces(points, [1]), "").snapshot()
    before = set(known)
    assert before >= {id(point) for point in points}
    assert not before & {id(part) for point in points for part in (point.data, *point.data)}
    looked = []
    monkeypatch.setattr(copies, "_values", lambda thing: looked.append(thing))
    again = start.copy(known)
    assert looked == []
    assert all(one is other for one, other in zip(again.state.pieces, points, strict=True))
    assert again.state.pieces is not start.state.pieces
    assert again.state.rest is not start.state.rest
    assert set(known) == before


# Content


def test_content_is_the_same_in_every_process():
    """Whatever the seed of hash()."""
    code = (
        "from mbexec.graph.content import digest; import numpy as np\n"
        "print(digest([{'b': {'x', 'y', 'z'}, 'a': 1.5}, np.arange(3), (None, b'x', print, ValueError('no'))]).hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


class Cached:
    def __init__(self, value):
        self.value = value

    @functools.cached_property
    def twice(self):
        return 2 * self.value


def adding(number):
    def add(other):
        return number + other

    return add


def halfway():
    """A function whose variable has no value yet."""

    def look():
        return later

    yield look
    later = 1


def ring_in_array():
    """An array that contains itself."""
    array = np.array([None], dtype=object)
    array[0] = array
    return array


ALIKE = [
    ([10**5000], [10**5000]),
    (types.MappingProxyType({"a": 1, "b": 2}), types.MappingProxyType({"b": 2, "a": 1})),
    (types.SimpleNamespace(a=1, b=2), types.SimpleNamespace(b=2, a=1)),
    (re.compile("a"), re.compile("a")),
    (adding(1), adding(1)),
    (next(halfway()), next(halfway())),
    (ring_in_array(), ring_in_array()),
    ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ({1, 2, 3}, {3, 2, 1}),
    (float("nan"), -float("nan")),
    (np.array([np.nan, 1]), np.array([-np.nan, 1])),
    (np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))),
    (Point(1.0, [1]), Point(1.0, [1])),
    (Open(array=1, more=2), Open(more=2, array=1)),
    (Open(), Open(array=None)),
    (collections.deque([1]), collections.deque([1])),
    (slice(1, 2), slice(1, 2)),
    (Color.RED, Color.RED),
]
DIFFERENT = [
    (1, 1.0),
    (1, True),
    ([1], (1,)),
    (0.0, -0.0),
    ("1", b"1"),
    ([[1], 2], [1, [2]]),
    (["ab"], ["a", "b"]),
    (np.arange(3), np.arange(3.0)),
    (np.zeros((2, 3)), np.zeros((3, 2))),
    (np.array([[1]], dtype=object), np.array([[2]], dtype=object)),
    (Point(1.0), OpenPoint(1.0)),
    (Open(array=1), Open(array=1, more=2)),
    ({1: 2}, {1: 3}),
    ({"a": 1}, {"b": 1}),
    (collections.deque([1]), collections.deque([2])),
    (1.5, 1.25),
    (1j, 2j),
    (int, float),
    ([10**5000], [10**5000 + 1]),
    (types.MappingProxyType({"a": 1}), types.MappingProxyType({"a": 2})),
    (types.SimpleNamespace(a=1), types.SimpleNamespace(b=1)),
    (re.compile("a"), re.compile("a", re.IGNORECASE)),
    (adding(1), adding(2)),
    (lambda: 1, lambda: 2),
    (len, print),
    (np.add, np.multiply),
    (np.array([[None]]), np.array([None])),
    ({1: "a"}, {True: "a"}),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_the_same_content(one, other):
    """Order of dicts and sets, layout of arrays and signs of NaN don't matter."""
    assert same(one, other)
    assert digest(one) == digest(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_content(one, other):
    """Types, shapes, nesting and every bit of a number matter."""
    assert not same(one, other)
    assert digest(one) != digest(other)


def test_cached_values_do_not_count():
    """They follow from the others."""
    one, other = Cached(1), Cached(1)
    assert one.twice == 2
    assert same(one, other)
    assert attributes(one) == {"value": 1}


def test_circles_have_content():
    """They are told from those that close elsewhere."""
    one, other, third = [1], [1], [1, []]
    one.append(one)
    other.append(other)
    third[1].append(third[1])
    assert same(one, other)
    assert digest(one) != digest(third)


def test_what_is_met_often_is_looked_at_once():
    """Lists that hold the list before twice would take as long as there are ways to the first."""
    one, other = [1], [1]
    for _ in range(60):
        one, other = [one, one], [other, other]
    assert same(one, other)
    assert digest(one) == digest(other)


def test_circles_are_the_same_wherever_they_are_met_first():
    """Whether parts are shared or not, and in whatever order a dict has them."""

    def ring_and_part():
        part = []
        ring = [1, part, part]
        part.append(ring)
        return ring, part

    ring, part = ring_and_part()
    (first, _), (_, second) = ring_and_part(), ring_and_part()
    assert digest([ring, part]) == digest([first, second])
    assert digest({"a": ring, "b": part}) == digest({"b": part, "a": ring})
    assert digest([ring, part]) != digest([ring, ring])


@pytest.mark.parametrize("kind", [*STATES, *FROZEN, Open, Slotted, Cached, Secretive, BaseNode])
def test_plain_classes_are_told(kind):
    """What is written in Python and is nothing but its attributes."""
    assert plain_kind(kind)
    assert plain_kind(type("Sub", (kind,), {}))


@pytest.mark.parametrize(
    "kind", [type(threading.Lock()), Stack, NamedList, ValueError, int, collections.deque, type(None)]
)
def test_other_classes_are_told(kind):
    """What has content that is no attribute."""
    assert not plain_kind(kind)


def test_locks_have_no_content():
    """The message says what can't be compared."""
    with pytest.raises(TypeError, match="no content that could be compared"):
        digest([threading.Lock()])
