"""Ladders: keywords to try, one set after another, when a fragment does not converge.

QCSchema has no word for them: they stand in a model chemistry's ``extras["mbexec"]["ladder"]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mbexec.core.errors import InputError

if TYPE_CHECKING:
    from qcelemental.models.v2 import AtomicSpecification

__all__ = ["ALLOWED", "check_ladder", "is_ladder", "with_ladder", "without_ladder"]

ALLOWED = "a list of tables of keywords, such as [{max_cycle = 200}]"


def is_ladder(value: Any) -> bool:
    """Whether it is a list of tables that are not empty."""
    return isinstance(value, (list, tuple)) and all(isinstance(rung, Mapping) and rung for rung in value)


def check_ladder(extras: Any, where: str) -> None:
    """Refuse what is written in a model chemistry's extras and is no ladder.

    Raises
    ------
    InputError
        Names the place, what is given and what is allowed.
    """
    if extras is not None and not isinstance(extras, Mapping):
        raise InputError(f"{where} = {extras!r:.80} must be a table.")
    own = (extras or {}).get("mbexec", {})
    if not isinstance(own, Mapping) or own.keys() - {"ladder"}:
        raise InputError(f"{where}['mbexec'] = {own!r:.80} must be a table; the only key that is known is ladder.")
    if not is_ladder(own.get("ladder", [])):
        raise InputError(f"{where}['mbexec']['ladder'] = {own['ladder']!r:.80} must be {ALLOWED}.")


def with_ladder(ladder: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What to write into the extras of a model chemistry."""
    return {"mbexec": {"ladder": [dict(rung) for rung in ladder]}}


def without_ladder(specification: AtomicSpecification) -> tuple[AtomicSpecification, Sequence[Mapping[str, Any]]]:
    """A model chemistry as its program is to see it, and its ladder, which is empty where there is none."""
    extras = dict(specification.extras or {})
    ladder: Sequence[Mapping[str, Any]] = extras.pop("mbexec", {}).get("ladder", [])
    return specification.model_copy(update={"extras": extras}), ladder
