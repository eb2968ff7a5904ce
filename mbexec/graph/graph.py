"""Graphs: nodes, and what each of them needs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Iterable, Mapping, Sequence
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from heapq import heapify, heappop, heappush
from typing import Any, Generic, TypeVar

from mbexec.graph.contract import BaseNode, RunContext, name_of
from mbexec.graph.errors import GraphError
from mbexec.graph.fields import Reducer, fields_of
from mbexec.graph.limits import Limit, Retry
from mbexec.graph.running import checked_timeout
from mbexec.graph.scheduling import GraphStep, Scheduler
from mbexec.graph.tracking import GraphRun, Member

__all__ = ["Graph"]

StateT = TypeVar("StateT")


class Graph(Generic[StateT]):
    """Nodes with dependencies. Each starts as soon as all that it needs have ended and the limits allow.

    A node sees what the nodes that it depends on changed, directly or through others, and nothing of the rest; so the
    result does not depend on which node is the faster.

    Parameters
    ----------
    limits
        By name; nodes say which of them hold for them.
    reducers
        A function of two arguments for each field that nodes change independently of each other, besides those of the
        state's annotations.
    max_steps
        How many nodes a path may have, from a node of the graph over `next_node` to `End`.
    """

    def __init__(
        self,
        *,
        limits: Mapping[str, Limit] | None = None,
        reducers: Mapping[str, Reducer] | None = None,
        max_steps: int = 1000,
    ) -> None:
        if not isinstance(max_steps, int) or max_steps < 1:
            raise ValueError(f"max_steps = {max_steps!r} must be a whole number of at least 1.")
        self.limits: dict[str, Limit] = dict(limits or {})
        self.reducers: dict[str, Reducer] = dict(reducers or {})
        self.max_steps = max_steps
        self._members: dict[str, Member] = {}

    def add(
        self,
        node: BaseNode[StateT],
        *,
        name: str | None = None,
        after: str | Iterable[str] = (),
        reads: Iterable[str] = (),
        writes: Iterable[str] | None = None,
        priority: float = 0,
        limits: str | Iterable[str] = (),
        retry: Retry | None = None,
        timeout: float | None = None,
    ) -> str:
        """Add a node.

        Parameters
        ----------
        node
            What runs.
        name
            Its name in the graph; the node's own `name`, or that of its class, if left out.
        after
            Names of nodes that it depends on; they may be added later.
        reads, writes
            Fields of the state, or "state" if it has none. A node depends on all others that write what it reads. If
            `writes` is given, changing any other field is an error of the node.
        priority
            Of nodes that could start, those with the highest do.
        limits
            Names of the limits that hold for it.
        retry
            When to run it again after a failure; never, if left out.
        timeout
            Seconds that it may take, each attempt and each node of its path by itself.

        Returns
        -------
        str
            Its name.
        """
        name = name_of(node) if name is None else name
        if name in self._members:
            raise GraphError(f"The graph has a node named {name!r} already; give this one another name.")
        after, reads, limits = _names(after), _names(reads), _names(limits)
        for limit in limits:
            if limit not in self.limits:
                known = ", ".join(self.limits) or "none"
                raise GraphError(f"{name} names a limit {limit!r} that the graph does not have; it has {known}.")
        said = None if writes is None else frozenset(_names(writes))
        self._members[name] = Member(
            name, node, after, reads, said, priority, limits, retry or Retry(attempts=1), checked_timeout(timeout)
        )
        return name

    def order(self) -> list[str]:
        """The names of all nodes, each after those that it depends on, otherwise as they were added.

        Raises
        ------
        GraphError
            A dependency is not in the graph, or there is a cycle.
        """
        return list(_ordered(self._needs()))

    def run(self, ctx: RunContext[StateT], *, max_concurrent: int = 4) -> Coroutine[Any, Any, GraphRun[StateT]]:
        """Run all nodes.

        Parameters
        ----------
        ctx
            What the first nodes start from, as it is at the time of the call; it is not changed.
        max_concurrent
            How many nodes run at once.

        Returns
        -------
        GraphRun
            The results by name, and what they merge to.
        """
        return _run_graph(self._scheduler(ctx, max_concurrent))

    def stream(self, ctx: RunContext[StateT], *, max_concurrent: int = 4) -> AsyncGenerator[GraphStep[StateT], None]:
        """Run all nodes and tell of each as soon as it has ended.

        Leaving the loop ends the nodes that run; with `contextlib.aclosing` it does so at once.

        Parameters
        ----------
        ctx, max_concurrent
            As in `run`.
        """
        return self._scheduler(ctx, max_concurrent).steps()

    def _scheduler(self, ctx: RunContext[StateT], max_concurrent: int) -> Scheduler[StateT]:
        if not isinstance(max_concurrent, int) or max_concurrent < 1:
            raise ValueError(f"max_concurrent must be ≥1 and a whole number, not {max_concurrent!r}.")
        needs = self._needs()
        order = _ordered(needs)
        places = {name: place for place, name in enumerate(order)}
        members = [self._members[name] for name in order]
        indices = [sorted(places[needed] for needed in needs[name]) for name in order]
        self._check_names(ctx)
        run = GraphRun(members, indices, ctx, self.reducers)
        return Scheduler(run, self.limits, max_concurrent, self.max_steps)

    def _check_names(self, ctx: RunContext[StateT]) -> None:
        """What is misspelt would make no dependency and reduce nothing, without a word."""
        known = {str(field) for field in fields_of(ctx)}.union(*(m.writes or () for m in self._members.values()))
        for member in self._members.values():
            for name in member.reads:
                if name not in known and not hasattr(type(ctx.state), name):  # properties may be read too
                    raise GraphError(
                        f"{member.name} reads {name!r}, which the state does not have and no node says that it writes."
                        f"{_hint(name, known)}"
                    )
        for name in () if type(ctx.state) is dict else self.reducers:  # keys of a dict may yet come
            if name not in known and not name.startswith("metadata["):
                raise GraphError(f"reducers has {name!r}, which is no field of the state.{_hint(name, known)}")

    def _needs(self) -> dict[str, set[str]]:
        """What each node depends on: what it names, and who writes what it reads."""
        writers: dict[str, list[str]] = {}
        for name, member in self._members.items():
            for field in member.writes or ():
                writers.setdefault(field, []).append(name)
        needs = {}
        for name, member in self._members.items():
            for other in member.after:
                if other not in self._members:
                    raise GraphError(
                        f"{name} comes after {other!r}, which is not in the graph.{_hint(other, self._members)}"
                    )
            wrote = {writer for field in member.reads for writer in writers.get(field, ()) if writer != name}
            needs[name] = wrote.union(member.after)
        return needs


async def _run_graph(scheduler: Scheduler[StateT]) -> GraphRun[StateT]:
    async for _ in scheduler.steps():
        pass
    return scheduler.run


def _names(given: str | Iterable[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def _hint(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, known, 1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _ordered(needs: Mapping[str, set[str]]) -> Sequence[str]:
    """The names, each after what it needs; otherwise as given."""
    place = {name: at for at, name in enumerate(needs)}
    names = list(needs)
    missing = {name: len(needed) for name, needed in needs.items()}
    wanted_by: dict[str, list[str]] = {name: [] for name in needs}
    for name, needed in needs.items():
        for other in needed:
            wanted_by[other].append(name)
    ready = [place[name] for name, count in missing.items() if not count]
    heapify(ready)
    found = []
    while ready:
        found.append(names[heappop(ready)])
        for name in wanted_by[found[-1]]:
            missing[name] -= 1
            if not missing[name]:
                heappush(ready, place[name])
    if len(found) < len(names):
        raise GraphError(f"The graph has a cycle: {_cycle(needs)}; each would have to wait for the next before it.")
    return found


def _cycle(needs: Mapping[str, set[str]]) -> str:
    sorter: TopologicalSorter[Any] = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError as error:
        return " -> ".join(error.args[1])
    raise AssertionError("unreachable")  # pragma: no cover
