"""What nodes changed, and how changes of several nodes come together."""

from __future__ import annotations

import numbers
import operator
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from mbexec.graph.content import same
from mbexec.graph.contract import NodeResult, RunContext, name_of
from mbexec.graph.copies import copy_of
from mbexec.graph.errors import MergeError
from mbexec.graph.fields import Field, Reducer, annotated_reducers, fields_of, gone, has_fields, with_fields

__all__ = ["Change", "Conflict", "changes", "merge_all", "merge_field", "merged_value", "reducers_for"]

Earlier: TypeAlias = Callable[[int, int], bool]


class Change(NamedTuple):
    """What a node did to a field.

    Attributes
    ----------
    writer
        The node, by its place.
    kind
        It was set to a value, it grew by items, or there is something to be reduced into it.
    value
        The value, the items, or what is to be reduced.
    """

    writer: int
    kind: Literal["set", "grew", "reduce"]
    value: Any


class Conflict(Exception):  # noqa: N818 - caught here, and never seen by users
    """Two changes that exclude each other."""

    def __init__(self, one: Change, other: Change) -> None:
        super().__init__(one, other)
        self.changes = one, other


def reducers_for(state: Any, given: Mapping[str, Reducer] | None) -> dict[str, Reducer]:
    """Reducers by name of the field, as messages write it: those of the state's annotations, and those given."""
    return {**annotated_reducers(type(state)), **(given or {})}


def changes(
    writer: int, before: Mapping[Field, Any], after: Mapping[Field, Any], reducers: Mapping[str, Reducer]
) -> dict[Field, Change]:
    """What a node changed, by field."""
    found = {}
    for field in {**before, **after}:
        try:
            change = _change(writer, before.get(field, gone), after.get(field, gone), reducers.get(str(field)))
        except TypeError as error:
            raise MergeError(f"The field {field} can't be compared: {error}", [], []) from error
        if change is not None:
            found[field] = change
    return found


def _change(writer: int, old: Any, new: Any, reducer: Reducer | None) -> Change | None:
    if same(old, new):
        return None
    if reducer is not None and new is not gone:
        return Change(writer, "reduce", _brought(old, new, reducer))
    if _grew(old, new, list):
        return Change(writer, "grew", new[len(old) :])
    return Change(writer, "set", new)


def _grew(old: Any, new: Any, *kinds: type) -> bool:
    return type(old) in kinds and type(new) is type(old) and len(old) <= len(new) and same(old, new[: len(old)])


def _brought(old: Any, new: Any, reducer: Reducer) -> Any:
    """What a node brings to a field with a reducer.

    What it appended, if it did nothing else to a list; how much it added, if numbers, arrays, text or tuples are
    summed; what it put into a dict, if dicts are united; else the value that it left.
    """
    summed, united = reducer in (operator.add, operator.iadd), reducer in (operator.or_, operator.ior)
    if _grew(old, new, list) or (summed and _grew(old, new, tuple, str, bytes)):
        return new[len(old) :]
    if summed and _is_number(old) and _is_number(new):
        return new - old
    if united and type(old) is dict is type(new):
        return {key: value for key, value in new.items() if not same(old.get(key, gone), value)}
    return new


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Number) or (isinstance(value, np.ndarray) and value.dtype.kind != "b")


def merged_value(base: Any, entries: Sequence[Change], reducer: Reducer | None, earlier: Earlier) -> Any:
    """What becomes of a field.

    Parameters
    ----------
    base
        Its value before any of the changes.
    entries
        The changes, in the order of the nodes.
    reducer
        For changes of the kind that needs one.
    earlier
        Whether one writer had ended when another began: what the later one set takes the place of the earlier's.

    Raises
    ------
    Conflict
        Of two changes by nodes that did not know of each other.
    """
    sets = [entry for entry in entries if entry.kind == "set"]
    if any(not same(sets[0].value, other.value) for other in sets[1:]):
        sets = [entry for entry in sets if not any(earlier(entry.writer, later.writer) for later in sets)]
    for other in sets[1:]:
        if not same(sets[0].value, other.value):
            raise Conflict(sets[0], other)
    value = sets[0].value if sets else base
    rest = [e for e in entries if e.kind != "set" and not any(earlier(e.writer, later.writer) for later in sets)]
    for entry in rest:
        for other in sets:
            if not earlier(other.writer, entry.writer):
                raise Conflict(*sorted((other, entry), key=lambda change: change.writer))
    grown = [item for entry in rest if entry.kind == "grew" for item in entry.value]
    value = [*value, *grown] if grown else value
    amounts = [entry.value for entry in rest if entry.kind == "reduce"]
    if amounts and reducer is not None:
        value = copy_of(value, {})  # a reducer may change what it is given
        for brought in amounts:
            value = brought if value is gone or value is None else reducer(value, copy_of(brought, {}))
    return value


def merge_all(results: Sequence[NodeResult[Any]], given: Mapping[str, Reducer] | None) -> RunContext[Any]:
    """The context that several nodes leave, of which each started from the same."""
    first = results[0].start or results[0].context
    contexts = [first, *(context for r in results for context in (r.start, r.context) if context is not None)]
    whole = not has_fields(first.state) or any(type(c.state) is not type(first.state) for c in contexts)
    afters = [fields_of(result.context, whole=whole) for result in results]
    if all(result.start is not None for result in results):
        befores = [fields_of(result.start or first, whole=whole) for result in results]
    else:
        befores = [_in_common(afters)] * len(results)
    reducers = reducers_for(first.state, given)
    _check_names(given or {}, [*befores, *afters], results)
    entries: dict[Field, list[Change]] = {}
    for place, (before, after) in enumerate(zip(befores, afters, strict=True)):
        for field, change in changes(place, before, after, reducers).items():
            entries.setdefault(field, []).append(change)
    names = [f"{name_of(result.node)} (node {place})" for place, result in enumerate(results)]
    merged = {
        field: merge_field(
            field, befores[0].get(field, gone), found, reducers, lambda one, other: False, names, results
        )
        for field, found in entries.items()
    }
    if any(result.start is None for result in results):
        merged = {**befores[0], **merged}
    return with_fields(first, merged).copy()


def merge_field(
    field: Field,
    base: Any,
    entries: Sequence[Change],
    reducers: Mapping[str, Reducer],
    earlier: Earlier,
    names: Sequence[str],
    results: Iterable[NodeResult[Any]],
) -> Any:
    """What becomes of a field; a `MergeError` if there is no one answer."""
    reducer = reducers.get(str(field))
    try:
        return merged_value(base, entries, reducer, earlier)
    except Conflict as conflict:
        one, other = conflict.changes
        raise MergeError(
            f"{names[one.writer]} and {names[other.writer]} changed the field {field} to different values, "
            f"{_said(one)} and {_said(other)}; give a reducer for it, or let one node run after the other.",
            [],
            list(results),
        ) from None
    except Exception as error:
        if reducer is None:
            raise
        writers = " and ".join(names[entry.writer] for entry in entries[:2])
        raise MergeError(
            f"The reducer of the field {field} failed on what {writers} left: {error}.", [], list(results)
        ) from error


def _said(change: Change) -> str:
    try:
        said = reprlib.repr(change.value)
    except ValueError:  # a number of more digits than Python writes
        said = f"some {type(change.value).__name__}"
    return ("more items " if change.kind == "grew" else "") + said


def _in_common(afters: Sequence[Mapping[Field, Any]]) -> dict[Field, Any]:
    """What nodes may have started from, told by what they left: what all have, and what all lists begin with."""
    found = {}
    for field in {field: None for after in afters for field in after}:
        values = [after.get(field, gone) for after in afters]
        if all(same(values[0], value) for value in values[1:]):
            found[field] = values[0]
        elif all(type(value) is list for value in values):
            found[field] = _common_beginning(values)
    return found


def _common_beginning(lists: Sequence[list[Any]]) -> list[Any]:
    found = []
    for items in zip(*lists, strict=False):
        if not all(same(items[0], item) for item in items[1:]):
            break
        found.append(items[0])
    return found


def _check_names(
    given: Mapping[str, Reducer], known: Iterable[Mapping[Field, Any]], results: Sequence[NodeResult[Any]]
) -> None:
    fields = sorted({str(field) for values in known for field in values})
    for name in given:
        if name not in fields:
            raise MergeError(f"reducers has {name!r}, which is no field; fields are {', '.join(fields)}.", [], results)
