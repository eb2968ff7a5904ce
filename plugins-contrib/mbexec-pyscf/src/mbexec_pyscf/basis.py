"""Basis sets by name, each file parsed once per process.

Reading PySCF's basis files is most of the cost of a small calculation: the minao guess alone reads
the ANO file again for every element of every molecule. What is parsed here is kept, and handed to
PySCF as the plain lists that it would have read itself.
"""

from __future__ import annotations

import functools
import os
import threading
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from pyscf import gto
from qcengine.exceptions import InputError

__all__ = ["ano_basis", "effective_core", "orbital_basis"]

P = ParamSpec("P")
T = TypeVar("T")

# Shared by all threads, so that no file is parsed twice.
_lock = threading.Lock()


def _parsed_once(parse: Callable[P, T]) -> Callable[P, T]:
    """Keep what ``parse`` returns; what it raises is not kept."""
    kept: dict[object, T] = {}

    @functools.wraps(parse)
    def _once(*args: P.args, **kwargs: P.kwargs) -> T:
        key = (args, *sorted(kwargs.items()))
        with _lock:
            if key not in kept:
                kept[key] = parse(*args, **kwargs)
            return kept[key]

    return _once


@_parsed_once
def orbital_basis(name: str, element: str) -> list[Any]:
    """Shells of an element.

    Parameters
    ----------
    name : str
        A basis that PySCF knows by name.
    element : str
        Chemical symbol.

    Returns
    -------
    list
        PySCF's format, ``[[l, [exponent, coefficient, ...], ...], ...]``. Shared: do not change it.

    Raises
    ------
    InputError
        PySCF has no such basis, or not for this element.
    """
    # A path or the text of a basis would be read afresh by PySCF; names alone can be kept.
    if not set("/\\\n").isdisjoint(name):
        raise InputError(f"The basis {name!r} is a path or a text; give a basis set that PySCF knows by name.")
    if os.path.isfile(name):  # and not only sets that PySCF has none of
        raise InputError(
            f"In the working directory there is a file {name!r}, which PySCF would take for the basis; "
            "move or rename it, and give a basis set that PySCF knows by name."
        )
    return _read(gto.format_basis, "basis", name, element)


@_parsed_once
def effective_core(name: str, element: str) -> list[Any] | None:
    """Effective core potential that belongs to a basis, or None for an all-electron basis.

    Parameters
    ----------
    name : str
        A basis that PySCF knows by name.
    element : str
        Chemical symbol.

    Returns
    -------
    list or None
        PySCF's format, ``[number of core electrons, [...]]``. Shared: do not change it.
    """
    known_as, _ = gto.mole.bse_predefined_ecp(name, element)
    if known_as is None:
        return None
    return _read(gto.format_ecp, "effective core potential", name, element)


@_parsed_once
def ano_basis(element: str) -> list[Any]:
    """Shells of the ANO basis, from which the minao guess is made, one shell to an angular momentum."""
    shells: list[Any] = gto.basis.load("ano", element)
    return shells


def _read(read: Callable[..., dict[str, list[Any]]], what: str, name: str, element: str) -> list[Any]:
    # PySCF warns of an optional package before it raises; the error says enough.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return read({element: name})[element]
        except Exception as err:  # PySCF raises nearly anything on a name it cannot read
            raise InputError(
                f"PySCF has no {what} {name!r} for element {element!r}: the name is unknown, or the set lacks "
                "the element. Use a basis that PySCF knows by name, such as 'sto-3g', '6-31g', 'cc-pvdz' or 'def2-svp'."
            ) from err
