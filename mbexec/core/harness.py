"""Finding a program: its harness, in QCEngine or in a distribution, and how to install what is missing."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mbexec.core.errors import ProgramError

__all__ = ["find_harness", "have_engine", "is_engine", "surroundings"]

# How to get programs that QCEngine runs, where its own words leave pip or Debian out.
_INSTALL = {
    "dftd3": "pip install dftd3",
    "dftd4": "pip install dftd4",
    "mopac": "apt-get install mopac (PyPI's mopac is something else)",
    "nwchem": "apt-get install nwchem, and pip install networkx",
    "psi4": "apt-get install psi4, and pip install mbexec-psi4; or conda install psi4 -c conda-forge",
    "rdkit": "pip install rdkit",
    "s-dftd3": "pip install dftd3",
    "xtb": "pip install xtb",
}
_OURS = ("model-potential", "pyscf", "tblite")  # programs that are not QCEngine's; the last two in distributions
_FIRST_PSI4 = "1.4a2.dev160"
# What programs read besides their input: files, and variables that name files or folders, with what counts in these.
_READ = {
    "nwchem": (["~/.nwchemrc"], {"NWCHEM_BASIS_LIBRARY": "*"}),
    "psi4": (["~/.psi4rc"], {"PSIPATH": "*.gbs"}),
    "pyscf": (["~/.pyscf_conf.py"], {"PYSCF_CONFIG_FILE": "*"}),
    "xtb": ([], {"XTBPATH": "*"}),
}


def find_harness(name: str, target: Any) -> Any:
    """The program's harness: a distribution's own, one that came from another process, or QCEngine's.

    Parameters
    ----------
    name
        Of the program, in lower case.
    target
        "module:Class" of a distribution's harness, a harness from another process, or None for QCEngine's.

    Raises
    ------
    ProgramError
        If there is none, or the program itself is not installed; says how to get it.
    """
    if target is None:
        harness = _engine_harness(name)
    elif not isinstance(target, str):
        harness = target
    else:
        module, _, attribute = target.partition(":")
        try:
            harness = getattr(importlib.import_module(module), attribute)()
        except ImportError as missing:
            raise ProgramError(
                f"The program {name!r} can't be imported ({missing}). {_advice(name, target)}"
            ) from missing
    try:
        harness.found(raise_error=True)
    except ModuleNotFoundError as missing:
        how = _INSTALL.get(name) if target is None else None
        advice = f"Install it with: {how}. QCEngine says: {missing}" if how else str(missing)
        raise ProgramError(f"The program {name!r} is not installed here. {advice}") from missing
    if name == "psi4" and target is None:
        _check_psi4(harness)
    if target is not None and is_engine(harness):
        _register(harness)
    return harness


def _advice(name: str, target: str) -> str:
    if not have_engine():
        return "It runs through QCEngine; install that with: pip install 'mbexec[qcengine]'"
    return f"Its harness is {target}; install what it needs."


def _engine_harness(name: str) -> Any:
    if not have_engine():
        raise ProgramError(
            f"The program {name!r} runs through QCEngine, which is not installed.{_near(name, _OURS)} "
            "Install it with: pip install 'mbexec[qcengine]'"
        )
    from qcengine.programs.base import programs

    if name.lower() not in programs:
        raise ProgramError(
            f"No program named {name!r} is known.{_near(name, [*_OURS, *programs])} "
            f"QCEngine knows: {', '.join(sorted(programs))}. "
            f"If mbexec has a distribution for it, install that with: pip install mbexec-{name}"
        )
    return programs[name.lower()]


def _near(name: str, known: Iterable[str]) -> str:
    """A question that offers the known name most like `name`, with a space before it; nothing if none is."""
    found = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {found[0]}?" if found else ""


def _check_psi4(harness: Any) -> None:
    """Refuse a psi4 that is too old for QCEngine, which notices only when each fragment fails."""
    from qcelemental.util import parse_version

    version = harness.get_version()
    if parse_version(version) < parse_version(_FIRST_PSI4):
        raise ProgramError(
            f"psi4 {version} is too old for QCEngine, which runs 1.4 and newer. "
            "To run this one, install its harness with: pip install mbexec-psi4"
        )


def have_engine() -> bool:
    """Whether QCEngine is installed."""
    return importlib.util.find_spec("qcengine") is not None


def is_engine(harness: Any) -> bool:
    """Whether a harness is of QCEngine's kind, asked without importing QCEngine."""
    return any(base.__module__.startswith("qcengine.") for base in type(harness).__mro__)


def surroundings(name: str) -> str:
    """A digest of what a program reads besides its input, as far as that is known; empty if nothing of it is there.

    Parameters
    ----------
    name
        Of the program, in lower case.
    """
    plain, variables = _READ.get(name, ([], {}))
    paths = [Path(path).expanduser() for path in plain]
    for variable, pattern in variables.items():
        places = [Path(place) for place in os.environ.get(variable, "").split(os.pathsep) if place]
        paths += [path for place in places for path in (sorted(place.glob(pattern)) if place.is_dir() else [place])]
    found = [path.read_bytes() for path in paths if path.is_file()]
    return hashlib.blake2b(repr(found).encode(), digest_size=8).hexdigest() if found else ""


def _register(harness: Any) -> None:
    """Make `qcengine.compute` know a distribution's harness too."""
    import qcengine
    from qcengine.programs.base import programs

    if harness.name.lower() not in programs:
        qcengine.register_program(harness)
