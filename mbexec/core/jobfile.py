"""Job files: the tables that people write, checked and made into a QCSchema ``ManyBodyInput``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qcelemental as qcel
from qcelemental.models.v2 import Molecule
from qcmanybody.models.v2 import BsseEnum, ManyBodyInput

from mbexec.core import ladder
from mbexec.core.config import Layer, unknown
from mbexec.core.coordinates import parse_geometry, read_xyz
from mbexec.core.errors import ConfigError, InputError
from mbexec.core.geometry import Fragment, check_apart, fragments_of
from mbexec.core.settings import is_not_negative, is_order, is_positive, is_text, is_whole

__all__ = ["CHEMISTRY", "check", "from_job"]

CHEMISTRY = ("molecule", "mbe", "program")
_AUTO = "(auto)"
_Rule = tuple[str, Callable[[Any], bool]]


def _is_list(value: Any, test: Callable[[Any], bool]) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(test, value))


def _is_treatments(value: Any) -> bool:
    treatments = [value] if isinstance(value, str) else value
    return _is_list(treatments, lambda v: isinstance(v, str) and v.lower() in BsseEnum.__members__)


def _is_fragments(value: Any) -> bool:
    return value == "auto" or _is_list(value, lambda group: _is_list(group, is_whole(0)))


def _is_levels(value: Any) -> bool:
    return isinstance(value, Mapping) and all(_is_level(k) and is_text(v) for k, v in value.items()) and bool(value)


def _is_cutoffs(value: Any) -> bool:
    return _is_by_order(value, is_positive) and all(int(key) > 1 for key in value)


def _is_thresholds(value: Any) -> bool:
    return _is_by_order(value, is_not_negative)


def _is_by_order(value: Any, test: Callable[[Any], bool]) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(is_order(k) and test(v) for k, v in value.items())


def _is_level(key: Any) -> bool:
    return key == "supersystem" or is_order(key)


def _one_of(*words: str) -> _Rule:
    return " or ".join(f'"{word}"' for word in words), lambda value: isinstance(value, str) and value in words


_BOOLEAN: _Rule = ("true or false", lambda value: isinstance(value, bool))
_TEXT: _Rule = ("text", is_text)
_RULES: dict[str, dict[str, _Rule]] = {
    "molecule": {
        "units": _one_of("angstrom", "bohr"),
        "geometry": ("text: an atom a line, and lines of -- between fragments", lambda value: isinstance(value, str)),
        "file": ("the path of an .xyz file", is_text),
        "fragments": ('"auto" or lists of atom numbers from 0, such as [[0, 1, 2], [3]]', _is_fragments),
        "charges": ("a list of whole numbers, one a fragment", lambda value: _is_list(value, is_whole())),
        "multiplicities": (
            "a list of whole numbers from 1 up, one a fragment",
            lambda value: _is_list(value, is_whole(1)),
        ),
        "name": _TEXT,
    },
    "mbe": {
        "bsse_type": ('"nocp", "cp" or "vmfc", or a list of them', _is_treatments),
        "driver": _one_of("energy", "gradient", "hessian"),
        "max_nbody": ("a whole number from 1 up", is_whole(1)),
        "levels": (
            'a table of [program.LABEL] labels by number of bodies, such as {1 = "high", supersystem = "low"}',
            _is_levels,
        ),
        "cutoff": (
            "a table of lengths above 0 by number of bodies from 2 up, such as {2 = 12.0, 3 = 6.0}",
            _is_cutoffs,
        ),
        "cutoff_measure": _one_of("closest_atoms", "centers_of_mass"),
        "return_total_data": _BOOLEAN,
        "supersystem_ie_only": _BOOLEAN,
        "cluster_results": _one_of("all", "none"),
        "cluster_properties": _one_of("auto", "all", "none"),
        "properties": (
            'a list of names of QCSchema\'s atomic properties, such as ["scf_dipole_moment"]',
            lambda value: _is_list(value, is_text),
        ),
        "symmetry_tolerance": (
            "a number above 0 and at most 0.001 (a0)",
            lambda value: is_positive(value) and value <= 1e-3,
        ),
        "screen": ("a table of program, thresholds and perhaps dropped", lambda value: isinstance(value, Mapping)),
    },
    "mbe.screen": {
        "program": ("the label of a [program.LABEL] table", is_text),
        "thresholds": (
            "a table of energies in E_h from 0 up, by number of fragments, such as {3 = 1e-5}",
            _is_thresholds,
        ),
        "dropped": _one_of("cheap", "ignore"),
    },
    "program": {
        "program": ("the name of a program", is_text),
        "method": ("the name of a method", is_text),
        "basis": ("the name of a basis set", lambda value: value is None or isinstance(value, str)),
        "keywords": ("a table", lambda value: isinstance(value, Mapping)),
        "ladder": (ladder.ALLOWED, ladder.is_ladder),
    },
}


def check(layer: Layer) -> None:
    """Look at the chemical tables of a layer.

    Raises
    ------
    ConfigError
        If a key is unknown.
    InputError
        If a value is not allowed; both name the source, the key, and what is allowed.
    """
    for section in CHEMISTRY:
        table = dict(layer.tables.get(section, {}))
        for label in _labels(table) if section == "program" else ():
            _check_table(layer.source, f"program.{label}", table.pop(label), _RULES["program"])
        _check_table(layer.source, section, table, _RULES[section])
        if "screen" in table:
            _check_table(layer.source, "mbe.screen", table["screen"], _RULES["mbe.screen"])


def _check_table(source: str, section: str, table: Mapping[str, Any], rules: Mapping[str, _Rule]) -> None:
    for key, value in table.items():
        if key not in rules:
            known = [f"{section}.{k}" for k in rules]
            raise ConfigError(f"{source}: {unknown(f'{section}.{key}', known, 'setting')}")
        allowed, test = rules[key]
        if not test(value):
            raise InputError(f"{source}: {section}.{key} = {value!r:.80} must be {allowed}.")


def _labels(program: Mapping[str, Any]) -> list[str]:
    """The labels of [program.LABEL] tables."""
    return [key for key, value in program.items() if key not in _RULES["program"] and isinstance(value, Mapping)]


def from_job(
    molecule: Mapping[str, Any], mbe: Mapping[str, Any], program: Mapping[str, Any], folder: Path
) -> ManyBodyInput:
    """The many-body input that the chemical tables of a job describe.

    Parameters
    ----------
    molecule, mbe, program
        Tables whose keys and values :func:`check` has looked at.
    folder
        Where relative file names start.

    Raises
    ------
    InputError
        If they are incomplete or contradict each other.
    """
    for name, table in (("molecule", molecule), ("program", program)):
        if not table:
            raise InputError(f"The job has no [{name}] table; it needs [molecule] and [program], and perhaps [mbe].")
    driver = mbe.get("driver", "energy")
    levels = {key if key == "supersystem" else int(key): label for key, label in mbe.get("levels", {}).items()}
    screen = _screen(mbe, _labels(program))
    built = _molecule(molecule, folder)
    dear = [label for label in _labels(program) if label != screen.get("program")]
    if screen and not levels and len(dear) == 1:
        levels = {mbe.get("max_nbody", len(built.fragments)): dear[0]}
    # QCSchema has no word for these.
    own = ("cluster_properties", "properties", "cutoff", "cutoff_measure", "symmetry_tolerance")
    elsewhere = ("driver", "cluster_results", "levels", "screen", *own)
    keywords = {key: list(v) if isinstance(v, tuple) else v for key, v in mbe.items() if key not in elsewhere}
    specification = {
        "driver": driver,
        "keywords": {**keywords, **({"levels": levels} if levels else {})},
        "specification": _specifications(program, driver, [*levels.values(), *filter(None, [screen.get("program")])]),
        "protocols": {"cluster_results": mbe.get("cluster_results", "none")},
    }
    if extras := {key: mbe[key] for key in own if key in mbe} | ({"screen": screen} if screen else {}):
        if "cutoff" in extras:
            extras["cutoff"] = {str(key): _unit(molecule) * length for key, length in mbe["cutoff"].items()}
        specification["extras"] = {"mbexec": extras}
    return ManyBodyInput(molecule=built, specification=specification)


def _screen(mbe: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """What [mbe] says of screening by energy, as JSON has it."""
    if (given := mbe.get("screen")) is None:
        return {}
    if missing := [key for key in ("program", "thresholds") if key not in given]:
        raise InputError(f"mbe.screen.{missing[0]} is missing; give {_RULES['mbe.screen'][missing[0]][0]}.")
    if given["program"] not in labels:
        known = f"the [program.LABEL] tables are {', '.join(labels)}" if labels else "there is no [program.LABEL] table"
        raise InputError(f"mbe.screen.program = {given['program']!r}, but {known}.")
    return {**given, "thresholds": {str(key): value for key, value in given["thresholds"].items()}}


def _specifications(program: Mapping[str, Any], driver: str, named: Sequence[str]) -> dict[str, Any]:
    """AtomicSpecifications by label: one without a label, or one for each [program.LABEL]."""
    labels = _labels(program)
    if labels and (own := [key for key in program if key not in labels]):
        raise InputError(
            f"program.{own[0]} stands beside [program.{labels[0]}] and would not be used; "
            "with labels, give each model chemistry all of its keys."
        )
    used = list(dict.fromkeys(named))
    if not labels:
        if used:
            raise InputError(f"mbe.levels names {', '.join(map(repr, used))}, but there is no [program.LABEL] table.")
        return {_AUTO: _specification("program", program, driver)}
    if missing := [label for label in used if label not in labels]:
        raise InputError(f"mbe.levels names {missing[0]!r}, but the [program.LABEL] tables are {', '.join(labels)}.")
    if unused := [label for label in labels if label not in used]:
        raise InputError(
            f"[program.{unused[0]}] is used by no level; name it in mbe.levels, "
            "put its keys into [program] if there is one model chemistry, or take it out."
        )
    return {label: _specification(f"program.{label}", program[label], driver) for label in labels}


def _specification(section: str, table: Mapping[str, Any], driver: str) -> dict[str, Any]:
    for key in ("program", "method"):
        if key not in table:
            raise InputError(f"{section}.{key} is missing; give the name of the {key}.")
    extras = {"extras": ladder.with_ladder(table["ladder"])} if table.get("ladder") else {}
    return {
        "program": table["program"],
        "driver": driver,
        "model": {"method": table["method"], "basis": table.get("basis")},
        "keywords": dict(table.get("keywords", {})),
        **extras,
    }


def _molecule(table: Mapping[str, Any], folder: Path) -> Molecule:
    if ("geometry" in table) == ("file" in table):
        given = "both geometry and file" if "file" in table else "neither geometry nor file"
        raise InputError(f"[molecule] has {given}; give one of them.")
    unit = _unit(table)
    if "geometry" in table:
        if extra := [key for key in ("fragments", "charges", "multiplicities") if key in table]:
            raise InputError(
                f"molecule.{extra[0]} goes with molecule.file; in molecule.geometry, lines of -- part the fragments "
                "and a line of charge and multiplicity may head each."
            )
        found = parse_geometry(table["geometry"], unit)
    else:
        symbols, places = read_xyz(folder / table["file"], unit)
        found = fragments_of(
            symbols, places, table.get("fragments", "auto"), table.get("charges"), table.get("multiplicities")
        )
    return _build(found, table.get("name"))


def _unit(table: Mapping[str, Any]) -> float:
    """The unit of lengths, a0."""
    return 1.0 if table.get("units") == "bohr" else 1.0 / float(qcel.constants.bohr2angstroms)


def _build(found: Sequence[Fragment], name: str | None) -> Molecule:
    ends = np.cumsum([len(fragment.symbols) for fragment in found])
    multiplicities = [fragment.checked_multiplicity(i) for i, fragment in enumerate(found, start=1)]
    symbols = [symbol for fragment in found for symbol in fragment.symbols]
    geometry = np.concatenate([fragment.places for fragment in found])
    check_apart(symbols, geometry)
    return Molecule(
        validate=False,  # nothing is left to find out, and QCElemental's time for it grows with the square of the size
        validated=True,
        _geometry_prep=True,
        symbols=np.array(symbols),
        geometry=geometry,
        fragments=[
            np.arange(end - len(fragment.symbols), end, dtype=np.int32)
            for fragment, end in zip(found, ends.tolist(), strict=True)
        ],
        fragment_charges=[fragment.charge for fragment in found],
        fragment_multiplicities=multiplicities,
        molecular_charge=sum(fragment.charge for fragment in found),
        molecular_multiplicity=sum(m - 1 for m in multiplicities) + 1,
        fix_com=True,
        fix_orientation=True,
        fix_symmetry="c1",  # programs that look for symmetry treat a fragment with ghosts and one without unlike
        name=name or qcel.molutil.molecular_formula_from_symbols(symbols),
    )
