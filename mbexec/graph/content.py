"""What things contain, told apart to the last bit and the same in every process.

`hash()` differs between processes and `==` is not to be had of arrays, so content is fed to a digest in one fixed form:
the order of dicts and sets does not matter, nor do values that an object caches.
"""

from __future__ import annotations

import enum
import functools
import struct
import types
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np

from mbexec.graph.copies import attributes_of, plain_kind

__all__ = ["attributes", "digest", "same"]

_Put: TypeAlias = Callable[[bytes], None]
_EXACT = frozenset({type(None), bool, int, str, bytes})
_NAMED = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)


def same(one: Any, other: Any) -> bool:
    """Whether two things have the same content, of the same types."""
    try:
        return _same(one, other)
    except RecursionError:  # things that contain themselves
        return digest(one) == digest(other)


def _same(one: Any, other: Any) -> bool:
    """The quick way for what is mostly compared, the sure way for the rest."""
    kind = type(one)
    if one is other or kind is not type(other):
        return one is other
    if kind in _EXACT:
        return bool(one == other)
    if kind is list or kind is tuple:
        return len(one) == len(other) and all(map(_same, one, other))
    if kind is dict and all(type(key) is str for key in one):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    return digest(one) == digest(other)


def digest(thing: Any) -> bytes:
    """32 bytes that stand for the content of a thing.

    Raises
    ------
    TypeError
        If something in it has no content to look at, such as a lock or an open file.
    """
    found = blake2b(digest_size=32)
    _feed(thing, found.update, {})
    return found.digest()


def _feed(thing: Any, put: _Put, above: dict[int, int]) -> None:
    """Put a thing's content; `above` is what contains it, by id, so that circles end."""
    kind = type(thing)
    if kind in _EXACT or kind is complex:
        _text(put, f"{kind.__name__}:{thing!r}")
    elif kind is float:
        put(b"nan" if thing != thing else b"float" + struct.pack("<d", thing))
    elif isinstance(thing, enum.Enum):
        _text(put, f"{_name(kind)}.{thing.name}")
    elif isinstance(thing, _NAMED):
        _text(put, f"named:{_name(thing)}")
    elif isinstance(thing, np.generic) or kind is np.ndarray:
        _feed_array(np.asarray(thing), put, above)
    elif id(thing) in above:
        _text(put, f"above:{len(above) - above[id(thing)]}")
    else:
        _feed_parts(thing, put, {**above, id(thing): len(above)})


def _feed_parts(thing: Any, put: _Put, above: dict[int, int]) -> None:
    kind: type = type(thing)
    _text(put, _name(kind))
    if kind is list or kind is tuple:
        _feed_each(thing, put, above)
    elif kind is dict:
        _feed_unordered(thing.items(), put, above)
    elif kind is set or kind is frozenset:
        _feed_unordered(((item,) for item in thing), put, above)
    elif plain_kind(kind):
        _feed_unordered(attributes(thing).items(), put, above)
    else:
        _feed_reduced(thing, put, above)


def _feed_each(things: Iterable[Any], put: _Put, above: dict[int, int]) -> None:
    things = list(things)
    _text(put, f"{len(things)} things")
    for item in things:
        _feed(item, put, above)


def _feed_unordered(groups: Iterable[tuple[Any, ...]], put: _Put, above: dict[int, int]) -> None:
    digests = []
    for group in groups:
        part = blake2b(digest_size=32)
        _feed_each(group, part.update, above)
        digests.append(part.digest())
    put(b"".join([b"%d groups:" % len(digests), *sorted(digests)]))


def _feed_array(array: np.ndarray[Any, Any], put: _Put, above: dict[int, int]) -> None:
    _text(put, f"array:{array.dtype.descr if array.dtype.names else array.dtype.str}{array.shape}")
    if array.dtype.hasobject:
        _feed_each(array.ravel().tolist(), put, above)
        return
    if array.dtype.kind in "fc" and np.isnan(array).any():
        array = np.where(np.isnan(array), np.nan, array)
    put(array.tobytes())


def _feed_reduced(thing: Any, put: _Put, above: dict[int, int]) -> None:
    """What can be rebuilt is told by what it is rebuilt from."""
    try:
        how = thing.__reduce_ex__(4)
    except TypeError as error:
        raise TypeError(f"{thing!r} has no content that could be compared: {error}.") from error
    if isinstance(how, str):
        _text(put, how)
        return
    make, args, state, items, pairs = (*how, None, None, None)[:5]
    _feed_each([make, args, state, list(items or ()), list(pairs or ())], put, above)


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
