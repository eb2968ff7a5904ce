"""QCEngine as an oracle: the same fragment through `qcengine.compute`, and everything that must be equal."""

from __future__ import annotations

import re

import numpy as np
from qcelemental.models.v2 import AtomicInput

# Lines of outputs in which programs write times, dates, their process, or how much memory they found.
# What Open MPI adds to a message, if it comes to that before it is killed.
_MPI = r"MPI|ORTE|orte/|^-+$|^NOTE|errorcode|exactly when|You may or may not|^\s*$"
_FICKLE = re.compile(
    _MPI
    + r"|bytes|Max\. records|time|date|wall|cpu|elapsed|\b\d\d:\d\d|heap|stack|global|total +=|tstart|tstop|speedup"
    + r"|process|pid|scratch|/tmp|\[\w+:\d+\]|sec\b|seconds|hostname|ratio|%",
    re.IGNORECASE,
)
_SECONDS = re.compile(r"\d+\.\d(?=s?$)")


def request_of(plan, task, ghosts=True):
    """The same fragment as QCElemental and QCManyBody build it; with `ghosts` false, without them."""
    molecule = plan.spec.molecule.get_fragment(
        [i - 1 for i in task.frag],
        [i - 1 for i in task.bas if i not in task.frag] if ghosts else [],
        orient=False,
        group_fragments=False,
    ).model_copy(update={"fix_com": True, "fix_orientation": True, "fix_symmetry": plan.spec.molecule.fix_symmetry})
    specification = plan.spec.specification.specification[task.mc]
    specification = specification.model_copy(update={"driver": plan.spec.specification.driver}, deep=True)
    return AtomicInput(molecule=molecule, specification=specification)


def comparable(result):
    """Every field of an AtomicResult or a FailedOperation but timings, dates and who wrote the molecule.

    As QCSchema's JSON gives it back, which is how a body travels: it has no shapes for arrays in extras.
    """
    again = type(result).model_validate_json(result.serialize("json"))
    if not again.success:
        again = again.model_copy(update={"input_data": AtomicInput.model_validate(again.input_data)})
    return _comparable(again.model_dump())


def _comparable(value):
    if isinstance(value, dict):
        if value.get("creator") == "QCElemental":
            return {}
        fields = {k: _comparable(v) for k, v in value.items() if k not in ("wall_time", "walltime")}
        if "symbols" in fields and "geometry" in fields:
            fields["name"] = ""
        return fields
    if isinstance(value, (list, tuple)):
        return [_comparable(v) for v in value]
    return _steady(value) if isinstance(value, str) else value


def _steady(text):
    """An output without the lines that differ from run to run; of a traceback, what was raised."""
    if "\n" not in text:
        return text
    head, _, trace = text.partition("Traceback (most recent call last):")
    lines = [_SECONDS.sub("#", line) for line in head.splitlines() if not _FICKLE.search(line)]
    return [*lines, *trace.strip().splitlines()[-1:]]


def assert_same(ours, theirs, path="result"):
    """Equal to the bit, key by key."""
    if isinstance(theirs, dict):
        assert sorted(ours) == sorted(theirs), path
        for key, value in theirs.items():
            assert_same(ours[key], value, f"{path}.{key}")
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), path
        for place, value in enumerate(theirs):
            assert_same(ours[place], value, f"{path}[{place}]")
    else:
        np.testing.assert_array_equal(ours, theirs, err_msg=path)
