"""QCSchema in: job files, QCSchema files, dicts and models to one valid ``ManyBodyInput`` of version 2."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import qcelemental as qcel
import yaml
from qcelemental.models.v2 import Molecule
from qcmanybody.models.v2 import ManyBodyInput

from mbexec.core.config import Layer, read_toml, unknown
from mbexec.core.errors import ConfigError, InputError
from mbexec.core.geometry import Fragment, fragments_of, parse_geometry, read_xyz

__all__ = ["many_body_input", "open_spec"]

_MOLECULE = ("units", "geometry", "file", "fragments", "charges", "multiplicities", "name")
_PROGRAM = ("program", "method", "basis", "keywords")
_MBE = (
    "bsse_type",
    "driver",
    "max_nbody",
    "levels",
    "return_total_data",
    "supersystem_ie_only",
    "cluster_results",
)
_AUTO = "(auto)"


def open_spec(spec: Any) -> tuple[Any, Layer]:
    """Tell QCSchema from a job file.

    Parameters
    ----------
    spec
        A ManyBodyInput, a dict (QCSchema or the tables of a job file), or the path of a JSON, YAML or TOML file.

    Returns
    -------
    qcschema
        A model or dict, or None if the input is a job file.
    job
        The tables of the job file; empty for QCSchema.

    Raises
    ------
    ConfigError, InputError
        If the file can't be read, or is neither.
    """
    name = "the input"
    if isinstance(spec, (str, Path)):
        name = str(spec)
        spec = _read(Path(spec))
    if not isinstance(spec, Mapping):
        if hasattr(spec, "convert_v"):
            return spec, Layer(name, {})
        raise InputError(
            f"The input is a {type(spec).__name__}; give a QCSchema ManyBodyInput, a dict, "
            "or the path of a .toml, .json or .yaml file."
        )
    if "specification" in spec:
        return dict(spec), Layer(name, {})
    return None, Layer(name, spec)


def _read(path: Path) -> Any:
    if path.suffix == ".toml":
        return read_toml(path)
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise InputError(f"{path}: unknown kind of file {path.suffix!r}; allowed are .toml, .json, .yaml and .yml.")
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}.") from error
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: not valid {path.suffix[1:].upper()}: {error}") from error


def many_body_input(qcschema: Any, layers: Sequence[Layer], folder: Path) -> ManyBodyInput:
    """The many-body input, valid and of version 2.

    Parameters
    ----------
    qcschema
        What :func:`open_spec` returned.
    layers
        Settings; [molecule], [mbe] and [program] are taken from them unless the input is QCSchema.
    folder
        Where relative file names start.
    """
    chemistry: dict[str, Any] = {"molecule": {}, "mbe": {}, "program": {}}
    for layer in layers:
        for name, table in layer.tables.items():
            if name in chemistry and qcschema is not None:
                raise ConfigError(
                    f"{layer.source}: [{name}] settings are for job files; "
                    "this input is QCSchema and says it itself, so change it there."
                )
            if name in chemistry:
                _merge(chemistry[name], table)
    if qcschema is not None:
        return _from_qcschema(qcschema)
    return _from_job(chemistry["molecule"], chemistry["mbe"], chemistry["program"], folder)


def _merge(into: dict[str, Any], table: Mapping[str, Any]) -> None:
    """Lay a table over another; tables within tables too, but for `levels`, which replaces what was there."""
    for key, value in table.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict) and key != "levels":
            _merge(into[key], value)
        else:
            into[key] = dict(value) if isinstance(value, Mapping) else value


def _from_qcschema(given: Any) -> ManyBodyInput:
    if isinstance(given, ManyBodyInput):
        return given
    if not isinstance(given, dict):
        return _as_v2(given)
    given = _with_multiplicities(given)
    try:
        return ManyBodyInput(**given)
    except (pydantic.ValidationError, qcel.ValidationError) as error:
        return _from_v1(given, error)


def _from_v1(given: dict[str, Any], error: Exception) -> ManyBodyInput:
    """Try the older layout; what is wrong with the newer one is what to tell if that fails too."""
    from qcmanybody.models import v1

    try:
        return _as_v2(v1.ManyBodyInput(**given))
    except Exception:
        raise InputError(f"The input is not a QCSchema ManyBodyInput: {_first_problem(error)}") from error


def _as_v2(model: Any) -> ManyBodyInput:
    converted = model.convert_v(2)
    if not isinstance(converted, ManyBodyInput):
        raise InputError(f"The input is a {type(model).__name__}; a QCSchema ManyBodyInput is needed.")
    return converted


def _first_problem(error: Exception) -> str:
    if not isinstance(error, pydantic.ValidationError):
        return str(error)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']} (given: {first['input']!r:.80})."


def _with_multiplicities(given: dict[str, Any]) -> dict[str, Any]:
    """Fill in neutral, low-spin fragments where a neutral molecule says nothing: guessing them is exponential."""
    molecule = given.get("molecule")
    if not isinstance(molecule, dict) or "fragment_multiplicities" in molecule or not molecule.get("fragments"):
        return given
    if molecule.get("molecular_charge", 0) or molecule.get("molecular_multiplicity", 1) != 1:
        return given
    charges = molecule.get("fragment_charges") or [0.0] * len(molecule["fragments"])
    symbols = [molecule["symbols"][i] for atoms in molecule["fragments"] for i in atoms]
    sizes = [len(atoms) for atoms in molecule["fragments"]]
    ends = np.cumsum(sizes)
    low = [
        1 + (sum(map(qcel.periodictable.to_Z, symbols[end - size : end])) - int(charge)) % 2
        for size, end, charge in zip(sizes, ends, charges, strict=True)
    ]
    filled = {**molecule, "fragment_charges": charges, "fragment_multiplicities": low}
    filled.setdefault("molecular_multiplicity", sum(m - 1 for m in low) + 1)
    return {**given, "molecule": filled}


def _from_job(
    molecule: Mapping[str, Any], mbe: Mapping[str, Any], program: Mapping[str, Any], folder: Path
) -> ManyBodyInput:
    for name, table in (("molecule", molecule), ("program", program)):
        if not table:
            raise InputError(f"The job has no [{name}] table; it needs [molecule] and [program], and perhaps [mbe].")
    _check_keys("mbe", mbe, _MBE)
    driver = mbe.get("driver", "energy")
    if driver not in ("energy", "gradient", "hessian"):
        raise InputError(f'mbe.driver = {driver!r} must be "energy", "gradient" or "hessian".')
    keywords = {key: mbe[key] for key in mbe if key not in ("driver", "cluster_results", "levels")}
    if "levels" in mbe:
        keywords["levels"] = {_level(key): label for key, label in mbe["levels"].items()}
    specification = {
        "driver": driver,
        "keywords": keywords,
        "specification": _specifications(program, driver, mbe.get("levels", {})),
        "protocols": {"cluster_results": mbe.get("cluster_results", "none")},
    }
    cluster = _molecule(molecule, folder)
    try:
        return ManyBodyInput(molecule=cluster, specification=specification)
    except pydantic.ValidationError as error:
        raise InputError(_job_words(error)) from error


def _job_words(error: pydantic.ValidationError) -> str:
    """The first problem, under the key that a job file has for it."""
    first = error.errors()[0]
    where = [str(part) for part in first["loc"]]
    key = next((name for name in where if name in (*_MBE, *_PROGRAM)), where[-1])
    table = "program" if key in _PROGRAM else "mbe"
    return f"{table}.{key} = {first['input']!r} is not allowed: {first['msg']}."


def _check_keys(section: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            raise ConfigError(unknown(f"{section}.{key}", [f"{section}.{k}" for k in known], "setting"))


def _level(key: str) -> int | str:
    if key == "supersystem":
        return key
    if not key.isdecimal():
        raise InputError(f'mbe.levels has the key {key!r}; keys are numbers of bodies (1, 2, ...) or "supersystem".')
    return int(key)


def _specifications(program: Mapping[str, Any], driver: str, levels: Mapping[str, str]) -> dict[str, Any]:
    """AtomicSpecifications by label: one without a label, or one for each [program.LABEL]."""
    labels = {key: table for key, table in program.items() if key not in _PROGRAM and isinstance(table, Mapping)}
    _check_keys("program", {key: value for key, value in program.items() if key not in labels}, _PROGRAM)
    if not labels:
        if levels:
            raise InputError(f"mbe.levels names {_listed(levels)}, but there is no [program.LABEL] table of that name.")
        return {_AUTO: _specification("program", program, driver)}
    if missing := [label for label in levels.values() if label not in labels]:
        raise InputError(f"mbe.levels names {missing[0]!r}, but the [program.LABEL] tables are {', '.join(labels)}.")
    if unused := [label for label in labels if label not in levels.values()]:
        raise InputError(
            f"[program.{unused[0]}] is used by no level; name it in mbe.levels, "
            f"or put its keys into [program] if there is one model chemistry."
        )
    return {label: _specification(f"program.{label}", table, driver) for label, table in labels.items()}


def _listed(levels: Mapping[str, str]) -> str:
    return ", ".join(repr(label) for label in dict.fromkeys(levels.values()))


def _specification(section: str, table: Mapping[str, Any], driver: str) -> dict[str, Any]:
    _check_keys(section, table, _PROGRAM)
    for key in ("program", "method"):
        if not isinstance(table.get(key), str):
            raise InputError(f"{section}.{key} is missing; give the name of the {key} as text.")
    if not isinstance(table.get("keywords", {}), Mapping):
        raise InputError(f"{section}.keywords = {table['keywords']!r} must be a table.")
    return {
        "program": table["program"],
        "driver": driver,
        "model": {"method": table["method"], "basis": table.get("basis")},
        "keywords": dict(table.get("keywords", {})),
    }


def _molecule(table: Mapping[str, Any], folder: Path) -> Molecule:
    _check_keys("molecule", table, _MOLECULE)
    units = table.get("units", "angstrom")
    if units not in ("angstrom", "bohr"):
        raise InputError(f'molecule.units = {units!r} must be "angstrom" or "bohr".')
    if ("geometry" in table) == ("file" in table):
        raise InputError("[molecule] needs either geometry or file.")
    unit = 1.0 if units == "bohr" else 1.0 / qcel.constants.bohr2angstroms
    if "geometry" in table:
        if extra := [key for key in ("fragments", "charges", "multiplicities") if key in table]:
            raise InputError(
                f"molecule.{extra[0]} goes with molecule.file; in molecule.geometry, lines of -- part the fragments "
                "and a line of charge and multiplicity may head each."
            )
        found = parse_geometry(str(table["geometry"]), unit)
    else:
        symbols, places = read_xyz(folder / str(table["file"]), unit)
        found = fragments_of(
            symbols, places, table.get("fragments", "auto"), table.get("charges"), table.get("multiplicities")
        )
    return _build(found, table.get("name"))


def _build(found: Sequence[Fragment], name: str | None) -> Molecule:
    ends = np.cumsum([len(fragment.symbols) for fragment in found])
    multiplicities = [fragment.checked_multiplicity(i) for i, fragment in enumerate(found, start=1)]
    try:
        return Molecule(
            symbols=[symbol for fragment in found for symbol in fragment.symbols],
            geometry=np.concatenate([fragment.places for fragment in found]),
            fragments=[np.arange(end - len(fragment.symbols), end) for fragment, end in zip(found, ends, strict=True)],
            fragment_charges=[fragment.charge for fragment in found],
            fragment_multiplicities=multiplicities,
            molecular_charge=sum(fragment.charge for fragment in found),
            molecular_multiplicity=sum(m - 1 for m in multiplicities) + 1,
            fix_com=True,
            fix_orientation=True,
            **({"name": name} if name else {}),
        )
    except (pydantic.ValidationError, qcel.ValidationError) as error:
        raise InputError(f"The molecule is not possible: {_first_problem(error)}") from error
