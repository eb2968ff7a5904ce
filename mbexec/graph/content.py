"""What things contain, told apart to the last bit and the same in every process.

`hash()` differs between processes and `==` is not to be had of arrays, so content is fed to a digest in one fixed form:
the order of dicts and sets does not matter, nor do values that an object caches.
"""

from __future__ import annotations

import enum
import functools
import struct
import types
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np

from mbexec.graph.copies import attributes_of, plain_kind, reduced

__all__ = ["attributes", "digest", "same"]

_Put: TypeAlias = Callable[[bytes], None]
_EXACT = frozenset({type(None), bool, int, str, bytes})
_NAMED = (type, types.BuiltinFunctionType, types.ModuleType)


def same(one: Any, other: Any) -> bool:
    """Whether two things have the same content, of the same types.

    Raises
    ------
    TypeError
        If something that is not the very same in both has no content to look at.
    """
    return _same(one, other, set())


def _same(one: Any, other: Any, met: set[tuple[int, int]]) -> bool:
    """Part by part, so that parts that both share need no content; `met` are pairs that are the same or will be told.

    These are ids of parts of the two things, which live as long as they do.
    """
    kind = type(one)
    if one is other or kind is not type(other):
        return one is other
    if kind in _EXACT:
        return bool(one == other)
    if kind is float:
        return _float(one) == _float(other)
    pair = id(one), id(other)
    if pair in met:
        return True
    parts = _parts(one, other)
    if parts is None:
        return digest(one) == digest(other)
    met.add(pair)
    return len(parts[0]) == len(parts[1]) and all(map(_same, *parts, repeat(met)))


def _parts(one: Any, other: Any) -> tuple[Sequence[Any], Sequence[Any]] | None:
    """What two things of a type consist of, one part beside the other; None if that can't be told so simply."""
    kind: type = type(one)
    if kind is list or kind is tuple:
        return one, other
    if kind is types.MappingProxyType:
        one, other = dict(one), dict(other)
    elif kind is types.SimpleNamespace or (kind is not dict and plain_kind(kind) and not isinstance(one, enum.Enum)):
        one, other = attributes(one), attributes(other)
    elif kind is not dict:
        return None
    if one.keys() != other.keys():
        return (), (None,)
    # Keys such as 1 and True are equal and yet not the same.
    return ([*one.values()], [other[key] for key in one]) if {*map(type, one)} <= {str} else None


def digest(thing: Any) -> bytes:
    """32 bytes that stand for the content of a thing.

    Raises
    ------
    TypeError
        If something in it has no content to look at, such as a lock or an open file.
    """
    found = blake2b(digest_size=32)
    _feed(thing, found.update, _Walk())
    return found.digest()


def _float(number: float) -> bytes:
    return b"nan" if number != number else b"float" + struct.pack("<d", number)


class _Walk:
    """Where a digest is on its way through a thing.

    Attributes
    ----------
    above
        What contains the part it is at, by id, so that circles end: how deep each stands.
    circles
        How often it came back to what stands above.
    known
        Parts without circles that it has been through, by id, with their digests: what is met again and again is not
        gone through again. What a circle comes to depends on where one enters it.
    """

    def __init__(self) -> None:
        self.above: dict[int, int] = {}
        self.circles = 0
        self.known: dict[int, tuple[Any, bytes]] = {}


def _feed(thing: Any, put: _Put, walk: _Walk) -> None:
    """Put a thing's content."""
    kind = type(thing)
    if kind is int:
        _text(put, f"int:{thing:x}")  # decimal digits are limited
    elif kind in _EXACT or kind is complex:
        _text(put, f"{kind.__name__}:{thing!r}")
    elif kind is float:
        put(_float(thing))
    elif isinstance(thing, enum.Enum):
        _text(put, f"{_name(kind)}.{thing.name}")
    elif isinstance(thing, _NAMED):
        _text(put, f"named:{_name(thing)}")
    elif isinstance(thing, np.generic) or (kind is np.ndarray and not thing.dtype.hasobject):
        _feed_array(np.asarray(thing), put)
    elif id(thing) in walk.above:
        walk.circles += 1
        _text(put, f"above:{len(walk.above) - walk.above[id(thing)]}")
    elif id(thing) in walk.known:
        put(walk.known[id(thing)][1])
    else:
        put(_digest_parts(thing, walk))


def _digest_parts(thing: Any, walk: _Walk) -> bytes:
    circles = walk.circles
    walk.above[id(thing)] = len(walk.above)
    part = blake2b(digest_size=32)
    _feed_parts(thing, part.update, walk)
    del walk.above[id(thing)]
    if walk.circles == circles:
        walk.known[id(thing)] = thing, part.digest()
    return part.digest()


def _feed_parts(thing: Any, put: _Put, walk: _Walk) -> None:
    kind: type = type(thing)
    _text(put, _name(kind))
    if kind is list or kind is tuple:
        _feed_each(thing, put, walk)
    elif kind is dict:
        _feed_unordered(thing.items(), put, walk)
    elif kind is set or kind is frozenset:
        _feed_unordered(((item,) for item in thing), put, walk)
    elif kind is types.MappingProxyType:
        _feed_unordered(dict(thing).items(), put, walk)
    elif kind is types.FunctionType:
        _feed_function(thing, put, walk)
    elif kind is types.CodeType:
        _feed_each([thing.co_code, thing.co_names, thing.co_freevars, thing.co_consts], put, walk)
    elif kind is np.ndarray:
        _text(put, f"{thing.dtype}{thing.shape}")
        _feed_each(thing.ravel().tolist(), put, walk)
    elif plain_kind(kind):
        _feed_unordered(attributes(thing).items(), put, walk)
    else:
        _feed_reduced(thing, put, walk)


def _feed_each(things: Iterable[Any], put: _Put, walk: _Walk) -> None:
    things = list(things)
    _text(put, f"{len(things)} things")
    for item in things:
        _feed(item, put, walk)


def _feed_unordered(groups: Iterable[tuple[Any, ...]], put: _Put, walk: _Walk) -> None:
    digests = []
    for group in groups:
        part = blake2b(digest_size=32)
        _feed_each(group, part.update, walk)
        digests.append(part.digest())
    put(b"".join([b"%d groups:" % len(digests), *sorted(digests)]))


def _feed_function(function: types.FunctionType, put: _Put, walk: _Walk) -> None:
    """A function is told by its name, and by what it does if that name leads to others as well."""
    _text(put, _name(function))
    if "<" in function.__qualname__:  # a lambda, or made in another function
        cells = [_held(cell) for cell in function.__closure__ or ()]
        _feed_each([function.__code__, function.__defaults__, function.__kwdefaults__, cells], put, walk)


def _held(cell: types.CellType) -> list[Any]:
    try:
        return [cell.cell_contents]
    except ValueError:  # a variable that has no value yet
        return []


def _feed_array(array: np.ndarray[Any, Any], put: _Put) -> None:
    _text(put, f"array:{array.dtype.descr if array.dtype.names else array.dtype.str}{array.shape}")
    if array.dtype.kind in "fc" and np.isnan(array).any():
        array = np.where(np.isnan(array), np.nan, array)
    put(array.tobytes())


def _feed_reduced(thing: Any, put: _Put, walk: _Walk) -> None:
    """What can be rebuilt is told by what it is rebuilt from."""
    try:
        how = reduced(thing)
    except TypeError as error:
        raise TypeError(f"{thing!r} has no content that could be compared ({error}).") from error
    if isinstance(how, str):
        _text(put, how)
        return
    make, args, state, items, pairs = (*how, None, None, None)[:5]
    _feed_each([make, args, state, list(items or ()), list(pairs or ())], put, walk)


def _text(put: _Put, text: str) -> None:
    data = text.encode("utf-8", "surrogatepass")
    put(b"%d:" % len(data) + data)


def _name(thing: Any) -> str:
    module, name = getattr(thing, "__module__", ""), getattr(thing, "__qualname__", getattr(thing, "__name__", ""))
    return f"{module}.{name}"


def attributes(thing: Any) -> dict[str, Any]:
    """The attributes of an object by name, those of a pydantic model's private and extra ones included.

    Values of `functools.cached_property` are left out: they follow from the others.
    """
    found = attributes_of(thing)
    for inner in ("__pydantic_extra__", "__pydantic_private__"):
        found.update(found.pop(inner, None) or {})
    kind = type(thing)
    return {
        name: value
        for name, value in found.items()
        if not isinstance(getattr(kind, name, None), functools.cached_property)
    }
