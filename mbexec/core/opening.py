"""Opening an input: what kind it is, and the settings in it. Imports nothing that takes long."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mbexec.core.config import Layer, read_text, read_toml
from mbexec.core.errors import ConfigError, InputError

__all__ = ["open_spec"]


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
            f"{name}: a {type(spec).__name__} is no input; give a QCSchema ManyBodyInput, a dict of the same or of a "
            "job's tables, or the path of a .toml, .json or .yaml file of either."
        )
    if {"symbols", "geometry"} <= spec.keys():
        raise InputError(
            f"{name}: a QCSchema Molecule is no input, for it does not say what to compute; "
            "give a ManyBodyInput that has it as its molecule, or a job file with its atoms."
        )
    if "specification" in spec or "schema_name" in spec:
        return dict(spec), Layer(name, {})
    return None, Layer(name, spec)


def _read(path: Path) -> Any:
    if path.suffix == ".toml":
        return read_toml(path)
    if path.suffix not in (".json", ".yaml", ".yml"):
        raise InputError(f"{path}: unknown kind of file {path.suffix!r}; allowed are .toml, .json, .yaml and .yml.")
    text = read_text(path)
    if path.suffix != ".json":
        return _parsed_yaml(path, text)
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: not valid JSON: {error}.") from error


def _parsed_yaml(path: Path, text: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        words = " ".join(str(error).split())
        if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
            words = f"{error.problem}: line {error.problem_mark.line + 1} column {error.problem_mark.column + 1}"
        raise ConfigError(f"{path}: not valid YAML: {words}.") from error
