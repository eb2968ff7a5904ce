"""Deep copies that cost what can change.

Like `copy.deepcopy`, and faithful to its protocol, but for two things: parts that can't change are shared (text, bytes,
read-only arrays that own their data, frozen objects of such), and models of pydantic are copied part by part, so that
this holds inside them too.
"""

from __future__ import annotations

import copy
import copyreg
import datetime
import decimal
import enum
import fractions
import operator
import pathlib
import re
import types
import uuid
import weakref
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np

__all__ = ["Memo", "attributes_of", "copy_of", "frozen_kind", "plain_kind", "reduced", "shared", "slots_of"]

Memo: TypeAlias = dict[int, Any]
_Copier: TypeAlias = Callable[[Any, Memo], Any]

_SHARED = frozenset(
    {type(None), bool, int, float, complex, str, bytes, range, type(Ellipsis), type(NotImplemented)}
    | {datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone}
    | {decimal.Decimal, fractions.Fraction, uuid.UUID, re.Pattern}
    | {pathlib.PurePosixPath, pathlib.PureWindowsPath, type(pathlib.Path())}
    | {types.FunctionType, types.BuiltinFunctionType, types.ModuleType, types.CodeType, property, weakref.ref}
)


def copy_of(thing: Any, memo: Memo) -> Any:
    """A copy of a thing.

    Parameters
    ----------
    thing
        Anything that `copy.deepcopy` can copy.
    memo
        What has been copied already, by id: `copy.deepcopy`'s. Things met twice, or in a circle, are copied once.
        `shared` makes of it what a further copy may begin with.
    """
    kind: type = type(thing)
    if kind in _SHARED:
        return thing
    known = memo.get(id(thing))
    if known is not None:
        return known
    return _copier(kind)(thing, memo)


def shared(memo: Memo) -> Memo:
    """What a copy shares with its original. It need not be looked through for a further copy."""
    return {key: thing for key, thing in memo.items() if id(thing) == key}


@lru_cache(maxsize=4096)
def _copier(kind: type) -> _Copier:
    """How to copy instances of a class."""
    if kind in _BUILT_IN:
        return _BUILT_IN[kind]
    if issubclass(kind, (type, enum.Enum, np.generic, np.dtype)) and not issubclass(kind, np.void):
        return _share
    own = getattr(kind, "__deepcopy__", None)
    pydantic = getattr(own, "__module__", None) == "pydantic.main"
    if own is not None and not pydantic:
        return copy.deepcopy
    if frozen_kind(kind):
        return _copy_frozen
    return _copy_model if pydantic else _copy_parts


def _share(thing: Any, memo: Memo) -> Any:
    return thing


def _copy_list(thing: list[Any], memo: Memo) -> list[Any]:
    new: list[Any] = []
    memo[id(thing)] = new
    for item in thing:
        new.append(item if type(item) in _SHARED else copy_of(item, memo))
    return new


def _copy_dict(thing: dict[Any, Any], memo: Memo) -> dict[Any, Any]:
    new: dict[Any, Any] = {}
    memo[id(thing)] = new
    for key, item in thing.items():
        new[key if type(key) in _SHARED else copy_of(key, memo)] = (
            item if type(item) in _SHARED else copy_of(item, memo)
        )
    return new


def _copy_set(thing: set[Any], memo: Memo) -> set[Any]:
    new: set[Any] = set()
    memo[id(thing)] = new
    new.update([copy_of(item, memo) for item in thing])
    return new


def _copy_tuple(thing: Any, memo: Memo) -> Any:
    """A tuple or a frozenset; itself, if nothing in it can change."""
    old = list(thing)
    new = [item if type(item) in _SHARED else copy_of(item, memo) for item in old]
    if id(thing) in memo:  # met again inside one of its items
        return memo[id(thing)]
    if all(map(operator.is_, old, new)):
        return _share_whole(thing, old, memo)
    memo[id(thing)] = type(thing)(new)
    return memo[id(thing)]


def _share_whole(thing: Any, parts: Iterable[Any], memo: Memo) -> Any:
    """Note that a thing is shared, and not each of its parts: the memo is kept for further copies."""
    for part in parts:
        memo.pop(id(part), None)
    memo[id(thing)] = thing
    return thing


def _copy_array(thing: np.ndarray[Any, Any], memo: Memo) -> Any:
    """An array; itself, if it is read-only and its data are its own. A read-only view can change through its base."""
    flags = thing.flags
    if thing.dtype.hasobject:
        new = copy.deepcopy(thing, memo)
    elif flags.owndata and not flags.writeable:
        new = thing
    else:
        new = thing.copy(order="K")
        new.flags.writeable = flags.writeable
    memo[id(thing)] = new
    return new


def _copy_frozen(thing: Any, memo: Memo) -> Any:
    """An object whose attributes can't be set; itself, if none of their values can change."""
    values = _values(thing)
    can_change = any(type(value) not in _SHARED and copy_of(value, memo) is not value for value in values)
    if id(thing) in memo:
        return memo[id(thing)]
    if not can_change:
        return _share_whole(thing, values, memo)
    return (_copy_model if hasattr(thing, "__pydantic_fields__") else _copy_parts)(thing, memo)


def _values(thing: Any) -> list[Any]:
    found = list(getattr(thing, "__dict__", ()) and vars(thing).values())
    kind: type = type(thing)
    for slot in slots_of(kind).values():
        with suppress(AttributeError):
            found.append(slot.__get__(thing))
    return found


def _copy_model(thing: Any, memo: Memo) -> Any:
    """A model of pydantic, as its own `__deepcopy__` makes it."""
    kind = type(thing)
    memo[id(thing)] = new = object.__new__(kind)
    put = object.__setattr__
    put(new, "__dict__", _copy_dict(thing.__dict__, memo))
    put(new, "__pydantic_fields_set__", set(thing.__pydantic_fields_set__))
    put(new, "__pydantic_extra__", copy_of(thing.__pydantic_extra__, memo))
    put(new, "__pydantic_private__", copy_of(getattr(thing, "__pydantic_private__", None), memo))
    return new


def reduced(thing: Any) -> Any:
    """What an object is rebuilt from, by the protocol that `copy` and `pickle` share."""
    reduce = copyreg.dispatch_table.get(type(thing))
    return reduce(thing) if reduce else thing.__reduce_ex__(4)


def _copy_parts(thing: Any, memo: Memo) -> Any:
    """An object, from what it is rebuilt from."""
    how = reduced(thing)
    if isinstance(how, str):
        return thing
    make, args, state, items, pairs, set_state = (*how, None, None, None, None)[:6]
    items, pairs = list(items or ()), list(pairs or ())
    _keep((how, items, pairs), memo)
    new = make(*copy_of(args, memo))
    memo[id(thing)] = new
    if state is not None:
        (set_state or _set_state)(new, copy_of(state, memo))
    for item in items:
        new.append(copy_of(item, memo))
    for key, value in pairs:
        new[copy_of(key, memo)] = copy_of(value, memo)
    return new


def _copy_proxy(thing: types.MappingProxyType[Any, Any], memo: Memo) -> types.MappingProxyType[Any, Any]:
    behind = dict(thing)
    _keep(behind, memo)
    memo[id(thing)] = new = types.MappingProxyType(copy_of(behind, memo))
    return new


def _copy_method(thing: types.MethodType, memo: Memo) -> types.MethodType:
    new = types.MethodType(thing.__func__, copy_of(thing.__self__, memo))
    memo[id(thing)] = new
    return new


def _keep(thing: Any, memo: Memo) -> None:
    """Keep what was made for the copy alive as long as the memo: its id must not be given to another object."""
    memo.setdefault(id(memo), []).append(thing)


def _set_state(new: Any, state: Any) -> None:
    if hasattr(new, "__setstate__"):
        new.__setstate__(state)
        return
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    if attributes:
        vars(new).update(attributes)
    for name, value in (slots or {}).items():
        object.__setattr__(new, name, value)


@lru_cache(maxsize=4096)
def plain_kind(kind: type) -> bool:
    """Whether instances are nothing but their attributes: no list, no exception, no lock, nothing written in C.

    Classes written in C are told by instances larger than their attributes take.
    """
    slots = sum(isinstance(value, types.MemberDescriptorType) for base in kind.__mro__ for value in vars(base).values())
    pointers = slots + (kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0)
    made_here = all(base is object or base.__flags__ & _HEAP_TYPE for base in kind.__mro__)
    return made_here and kind.__basicsize__ == object.__basicsize__ + pointers * object.__basicsize__ // 2


_HEAP_TYPE = 1 << 9  # set for classes that are made while a program runs


def frozen_kind(kind: type) -> bool:
    """Whether instances refuse to have attributes set: frozen attrs classes, dataclasses and pydantic models."""
    if not plain_kind(kind):
        return False
    if hasattr(kind, "__attrs_attrs__"):
        return kind.__setattr__.__name__ == "_frozen_setattrs"
    if hasattr(kind, "__dataclass_params__"):
        # Subclasses that are no dataclasses themselves let further attributes be set.
        return bool(kind.__dataclass_params__.frozen) and "__dataclass_params__" in vars(kind)
    config = getattr(kind, "model_config", None)
    return isinstance(config, dict) and bool(config.get("frozen")) and hasattr(kind, "__pydantic_fields__")


@lru_cache(maxsize=4096)
def slots_of(kind: type) -> dict[str, types.MemberDescriptorType]:
    """The slots of a class by name, those of its bases included."""
    return {
        name: slot
        for base in reversed(kind.__mro__)
        for name, slot in vars(base).items()
        # SimpleNamespace has its __dict__ in a slot.
        if isinstance(slot, types.MemberDescriptorType) and name not in ("__dict__", "__pydantic_fields_set__")
    }


def attributes_of(thing: Any) -> dict[str, Any]:
    """The attributes of an object by name, those in slots included."""
    found = dict(getattr(thing, "__dict__", {}))
    kind: type = type(thing)
    for name, slot in slots_of(kind).items():
        with suppress(AttributeError):
            found[name] = slot.__get__(thing)
    return found


_BUILT_IN: dict[type, _Copier] = {
    list: _copy_list,
    dict: _copy_dict,
    set: _copy_set,
    tuple: _copy_tuple,
    frozenset: _copy_tuple,
    np.ndarray: _copy_array,
    types.MappingProxyType: _copy_proxy,
    types.MethodType: _copy_method,
}
