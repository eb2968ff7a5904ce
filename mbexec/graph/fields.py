"""The fields of a context: its state's, its metadata's, and its provenance; read, written, and how they are reduced."""

from __future__ import annotations

import copy
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple, TypeAlias, get_args, get_origin

from mbexec.graph.content import attributes
from mbexec.graph.contract import RunContext
from mbexec.graph.copies import plain_kind

__all__ = ["Field", "Reducer", "annotated_reducers", "fields_of", "gone", "has_fields", "with_fields"]

Reducer: TypeAlias = Callable[[Any, Any], Any]

gone: Any = type("Gone", (), {"__repr__": lambda self: "nothing"})()
"""Stands for the value of a field that is not there."""


class Field(NamedTuple):
    """One field of a context.

    Attributes
    ----------
    part
        "state", "metadata" or "provenance".
    name
        Within the part; empty for the part as a whole.
    """

    part: str
    name: Any = ""

    def __str__(self) -> str:
        if self.part == "state" and isinstance(self.name, str):
            return self.name or "state"
        return f"{self.part}[{self.name!r}]" if self.name != "" else self.part


def has_fields(state: Any) -> bool:
    """Whether a state has fields that change by themselves: it is a dict, or nothing but its attributes."""
    kind: type = type(state)
    return kind in (dict, types.SimpleNamespace) or (plain_kind(kind) and kind is not object)


def fields_of(context: RunContext[Any], *, whole: bool = False) -> dict[Field, Any]:
    """The values of all fields, not copies; with `whole`, the state is one field, whatever it is."""
    state = context.state
    found: dict[Field, Any]
    if whole or not has_fields(state):
        found = {Field("state"): state}
    else:
        items = state if type(state) is dict else attributes(state)
        found = {Field("state", name): value for name, value in items.items()}
    found.update((Field("metadata", key), value) for key, value in context.metadata.items())
    found[Field("provenance")] = context.provenance
    return found


def with_fields(context: RunContext[Any], changed: Mapping[Field, Any]) -> RunContext[Any]:
    """A context with some fields changed. It shares all values, so nobody may work on it: copy it first."""
    new = RunContext(
        copy.copy(context.state),
        context.execution_id,
        context.user_id,
        dict(context.metadata),
        list(context.provenance),
    )
    for field, value in changed.items():
        if field == Field("state"):
            new.state = value
        elif field.part == "provenance":
            new.provenance = value
        elif field.part == "metadata":
            _put_item(new.metadata, field.name, value)
        elif type(new.state) is dict:
            _put_item(new.state, field.name, value)
        else:
            _put_attribute(new.state, field.name, value)
    return new


def _put_item(into: dict[Any, Any], key: Any, value: Any) -> None:
    if value is gone:
        into.pop(key, None)
    else:
        into[key] = value


def _put_attribute(state: Any, name: str, value: Any) -> None:
    """Set an attribute as it is, frozen or not and without checks: the value is from a state of the same class."""
    for inner in ("__pydantic_private__", "__pydantic_extra__"):
        held = getattr(state, inner, None)
        declared = name in getattr(type(state), "__pydantic_fields__", {})
        if held is not None and not declared and (name in held or inner == "__pydantic_extra__"):
            _put_item(held, name, value)
            return
    if value is gone:
        object.__delattr__(state, name)
        return
    object.__setattr__(state, name, value)
    fields_set: set[str] = getattr(state, "__pydantic_fields_set__", set())
    fields_set.add(name)


def annotated_reducers(kind: type) -> dict[str, Reducer]:
    """The reducers that a class of states gives in its annotations: `total: Annotated[int, operator.add]`."""
    extras: list[tuple[str, Any]] = []
    for base in reversed(kind.__mro__):
        for name, annotation in inspect.get_annotations(base).items():
            told = _evaluated(annotation, base)
            if get_origin(told) is Annotated:
                extras.extend((name, extra) for extra in get_args(told)[1:])
    for name, model_field in getattr(kind, "__pydantic_fields__", {}).items():
        extras.extend((name, extra) for extra in model_field.metadata)
    return {name: extra for name, extra in extras if _reduces(extra)}


def _evaluated(annotation: Any, base: type) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, vars(sys.modules[base.__module__]), dict(vars(base)))
    except Exception:  # a name that only type checkers know is no reducer
        return None


def _reduces(extra: Any) -> bool:
    """Whether something in an annotation is a function of two arguments."""
    if not callable(extra) or isinstance(extra, type):
        return False
    try:
        inspect.signature(extra).bind(None, None)
    except TypeError:
        return False
    except ValueError:  # some built-in functions, such as max, have no signature to be read
        return True
    return True
