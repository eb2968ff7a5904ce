"""A majority of nodes that left the same content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import evolve, frozen

from mbexec.graph.content import digest
from mbexec.graph.contract import NodeResult, RunContext, name_of
from mbexec.graph.errors import MergeError, ParallelExecutionError

__all__ = ["Vote", "merge_majority"]


@frozen
class Vote:
    """How nodes voted with what they left. Nodes are told by their places in the results.

    Attributes
    ----------
    groups
        The places of nodes that left the same, the largest group first.
    failed
        The places of nodes that failed and have no vote.
    """

    groups: tuple[tuple[int, ...], ...]
    failed: tuple[int, ...]

    @property
    def winners(self) -> tuple[int, ...]:
        """The nodes of the largest group."""
        return self.groups[0]

    @property
    def dissenters(self) -> tuple[int, ...]:
        """The nodes that left something else than the largest group."""
        return tuple(sorted(place for group in self.groups[1:] for place in group))

    @property
    def is_unanimous(self) -> bool:
        """Whether all nodes left the same and none failed."""
        return len(self.groups) == 1 and not self.failed


def _count(results: Sequence[NodeResult[Any]], key: Callable[[Any], Any] | None) -> Vote:
    """Put nodes into groups by the content of their states, or of what a key makes of a state."""
    groups: dict[bytes, list[int]] = {}
    for place, result in enumerate(results):
        if result.is_success:
            state = result.context.state
            groups.setdefault(digest(state if key is None else key(state)), []).append(place)
    ordered = sorted(groups.values(), key=lambda places: (-len(places), places[0]))
    return Vote(tuple(map(tuple, ordered)), tuple(place for place, r in enumerate(results) if not r.is_success))


def merge_majority(
    results: Sequence[NodeResult[Any]], key: Callable[[Any], Any] | None, strict: bool
) -> RunContext[Any]:
    """The context of the first node of the majority; its metadata have the `Vote` under "vote"."""
    failed = [(result.node, result.error) for result in results if not result.is_success]
    try:
        vote = _count(results, key)
    except TypeError as error:
        raise MergeError(f"The states can't be compared: {error}", failed, results) from error
    if not vote.groups:
        raise ParallelExecutionError("All parallel nodes failed", failed, results)
    voters = len(results) - len(vote.failed)
    if strict and not vote.is_unanimous:
        raise MergeError(
            f"{len(vote.winners)} of {len(results)} nodes left the same (strict MAJORITY requires all); "
            f"the others are {_told(vote, results)}.",
            failed,
            results,
        )
    if 2 * len(vote.winners) <= voters:
        raise MergeError(
            f"No majority: at most {len(vote.winners)} of {voters} nodes left the same; "
            "run more of them, or give a key that leaves out what may differ.",
            failed,
            results,
        )
    context = results[vote.winners[0]].context
    return evolve(context, metadata={**context.metadata, "vote": vote})


def _told(vote: Vote, results: Sequence[NodeResult[Any]]) -> str:
    dissent = [f"{name_of(results[place].node)} (node {place})" for place in vote.dissenters]
    failed = [f"{name_of(results[place].node)} (node {place}, failed)" for place in vote.failed]
    return ", ".join([*dissent, *failed])
