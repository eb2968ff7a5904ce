"""What graph execution raises: of the same tree as the rest of mbexec, and picklable with what it carries."""

from __future__ import annotations

import pickle
from typing import Any

from mbexec.core.errors import MbexecError

__all__ = ["GraphError", "MergeError", "ParallelExecutionError"]


class GraphError(MbexecError, ValueError):
    """A graph can't be run as it was put together, or one of its nodes broke a rule of it."""


class ParallelExecutionError(MbexecError):
    """Nodes that ran at once gave nothing to go on with.

    Parameters
    ----------
    message
        What happened. It may be left out: `ParallelExecutionError(failed_nodes, partial_results)`.
    failed_nodes
        The nodes that failed, each with its error, as pairs.
    partial_results
        The results of all nodes, failed ones included, in the order of the nodes.

    Attributes
    ----------
    message, failed_nodes, partial_results
        As given. What of them can't be pickled arrives in another process as its `repr`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names: tuple[str, ...] = ("message", "failed_nodes", "partial_results")
        if "message" in kwargs or not (args and isinstance(args[0], str)):
            names = names[1:]
        given = dict(zip(names, args, strict=False)) | kwargs
        if len(args) > len(names) or given.keys() - {"message", "failed_nodes", "partial_results"}:
            raise TypeError(
                f"{type(self).__name__} takes message, failed_nodes and partial_results; leave out the rest."
            )
        self.failed_nodes: list[Any] = list(given.get("failed_nodes") or [])
        self.partial_results: list[Any] = list(given.get("partial_results") or [])
        self.message: str = given.get("message") or f"{len(self.failed_nodes)} parallel nodes failed"
        super().__init__(self.message)

    def __reduce__(self) -> tuple[Any, ...]:
        kind, args, state = super().__reduce__()
        lists = {name: [_portable(item) for item in state[name]] for name in ("failed_nodes", "partial_results")}
        return kind, args, {**state, **lists}


def _portable(item: Any) -> Any:
    try:
        pickle.loads(pickle.dumps(item))
    except Exception:
        return repr(item)
    return item


class MergeError(ParallelExecutionError):
    """Nodes succeeded, but what they left can't be merged: the message names the field and the nodes."""
