"""What the nodes of a graph left, and what each of them starts from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from attrs import evolve, frozen

from mbexec.graph.contract import End, NodeResult, RunContext
from mbexec.graph.copies import copy_of
from mbexec.graph.errors import GraphError, MergeError
from mbexec.graph.fields import Field, Reducer, fields_of, gone, has_fields, with_fields
from mbexec.graph.limits import Retry
from mbexec.graph.merging import Change, changes, merge_field, reducers_for

__all__ = ["GraphRun", "Member"]

StateT = TypeVar("StateT")
_Log: TypeAlias = dict[Field, tuple[Change, ...]]


@frozen(eq=False)
class Member:
    """A node of a graph, as it was added."""

    name: str
    node: Any
    after: tuple[str, ...]
    reads: tuple[str, ...]
    writes: frozenset[str] | None
    priority: float
    limits: tuple[str, ...]
    retry: Retry
    timeout: float | None


class GraphRun(Generic[StateT]):
    """What came of a run of a graph, or has come of it so far.

    Attributes
    ----------
    results
        By name, in the order in which nodes ended. Nodes that were not run, because one that they depend on failed,
        have a `GraphError` there.
    """

    def __init__(
        self,
        members: Sequence[Member],
        needs: Sequence[Sequence[int]],
        ctx: RunContext[StateT],
        reducers: Mapping[str, Reducer],
    ) -> None:
        self.results: dict[str, NodeResult[StateT]] = {}
        self.members = members
        self.needs = needs
        self.start, self.known = ctx.snapshot()
        self._fields = fields_of(self.start)
        self._places = {id(member.node): place for place, member in enumerate(members)}
        self._reducers = reducers_for(ctx.state, reducers)
        self._names = [member.name for member in members]
        self._logs: dict[int, _Log] = {}

    @property
    def is_success(self) -> bool:
        """Whether no node that ended failed."""
        return all(result.is_success for result in self.results.values())

    def merged(self) -> RunContext[StateT]:
        """What all nodes that succeeded, so far, leave together.

        Raises
        ------
        MergeError
            Two of them, neither of which depends on the other, changed a field to different values.
        """
        return self._with(self._joined(self._logs)).copy()

    def place_of(self, node: Any) -> int | None:
        """The place of a node that is in the graph."""
        return self._places.get(id(node))

    def start_of(self, place: int) -> RunContext[StateT]:
        """What a node starts from: what all that it depends on, directly or not, leave together."""
        return self._with(self._joined(self.needs[place]))

    def keep(self, place: int, result: NodeResult[StateT]) -> NodeResult[StateT]:
        """Keep a node's result and what it changed; the result says so if that is not allowed."""
        member = self.members[place]
        if result.error is None:
            try:
                self._note(place, self._allowed(member, place, result))
            except (GraphError, MergeError) as error:
                result = evolve(result, error=error, next_node=End)
            except Exception as error:
                broken = GraphError(f"What {member.name} left can't be taken over: {error}.")
                broken.__cause__ = error
                result = evolve(result, error=broken, next_node=End)
        self.results[member.name] = result
        return result

    def _allowed(self, member: Member, place: int, result: NodeResult[StateT]) -> dict[Field, Change]:
        """What a node changed; an error if it may not."""
        whole, before, after = not has_fields(self.start.state), self.start.state, result.context.state
        if not whole and type(after) is not type(before):
            raise GraphError(
                f"{member.name} left a state of type {type(after).__name__}, but in a graph it stays of one type; "
                f"here that is {type(before).__name__}."
            )
        started = fields_of(result.start or self.start, whole=whole)
        found = changes(place, started, fields_of(result.context, whole=whole), self._reducers)
        strays = [str(field) for field in found if field.part == "state" and str(field) not in (member.writes or ())]
        if member.writes is not None and strays:
            said = ", ".join(sorted(member.writes)) or "nothing"
            raise GraphError(
                f"{member.name} changed {', '.join(strays)}, but said that it writes {said}; add it to writes."
            )
        return found

    def forget(self, place: int) -> None:
        """Forget what a node changed: all that depend on it have ended, and one of them knows."""
        self._logs.pop(place, None)

    def _note(self, place: int, found: Mapping[Field, Change]) -> None:
        log = self._joined(self.needs[place])
        for name, change in found.items():
            # The context stays with whoever takes the result, so the value is copied.
            own = change if change.value is gone else change._replace(value=copy_of(change.value, {}))
            # What a node set takes the place of all that it knew of.
            log[name] = (own,) if own.kind == "set" else (*log.get(name, ()), own)
        self._logs[place] = log

    def _joined(self, places: Iterable[int]) -> _Log:
        """The changes that nodes know of, by field, each once and in the order of the nodes."""
        logs = [self._logs[place] for place in places]
        if len(logs) == 1:
            return dict(logs[0])
        found: dict[Field, dict[int, Change]] = {}
        for log in logs:
            for name, entries in log.items():
                found.setdefault(name, {}).update((entry.writer, entry) for entry in entries)
        return {name: tuple(entries[writer] for writer in sorted(entries)) for name, entries in found.items()}

    def _with(self, log: Mapping[Field, Sequence[Change]]) -> RunContext[StateT]:
        merged = {
            name: merge_field(
                name,
                self._fields.get(name, gone),
                entries,
                self._reducers,
                self.is_before,
                self._names,
                self.results.values(),
            )
            for name, entries in log.items()
        }
        return with_fields(self.start, merged) if merged else self.start

    def is_before(self, one: int, other: int) -> bool:
        """Whether the second of two nodes depends on the first, directly or not."""
        seen, look = set(), [other]
        while look:
            for needed in self.needs[look.pop()]:
                if needed == one:
                    return True
                if needed > one and needed not in seen:
                    seen.add(needed)
                    look.append(needed)
        return False
