"""What nodes, their context and their results are."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from attrs import define, field

from mbexec.graph.copies import Memo, copy_of, shared

__all__ = ["BaseNode", "End", "NodeResult", "RunContext", "name_of"]

StateT = TypeVar("StateT")


@define(eq=False)
class RunContext(Generic[StateT]):
    """What a node works on.

    Attributes
    ----------
    state
        Any object: a pydantic model, an attrs class or a dataclass, a plain object, a dict, None.
    execution_id
        Of the run.
    user_id
        Whose run it is.
    metadata
        What else there is to say, by name.
    provenance
        What was done, in order, an entry each.
    """

    state: StateT
    execution_id: str
    user_id: str | None = None
    metadata: dict[str, Any] = field(factory=dict)
    provenance: list[dict[str, Any]] = field(factory=list)

    def add_provenance(self, node_name: str, signature_name: str, **kw: Any) -> None:
        """Append an entry.

        Parameters
        ----------
        node_name, signature_name
            Of the node that did something.
        **kw
            What else there is to say.
        """
        self.provenance.append({"node_name": node_name, "signature_name": signature_name, **kw})

    def copy(self, known: Memo | None = None) -> RunContext[StateT]:
        """A copy that shares nothing that can change; what can't change is shared, however large.

        Parameters
        ----------
        known
            What `snapshot` found that can be shared.
        """
        return self._copy(dict(known or {}))

    def snapshot(self) -> tuple[RunContext[StateT], Memo]:
        """A copy, and what it shares, for quick copies of the copy."""
        memo: Memo = {}
        return self._copy(memo), shared(memo)

    def _copy(self, memo: Memo) -> RunContext[StateT]:
        try:
            return RunContext(
                copy_of(self.state, memo),
                self.execution_id,
                self.user_id,
                copy_of(self.metadata, memo),
                copy_of(self.provenance, memo),
            )
        except TypeError as error:  # locks, open files, connections
            raise TypeError(
                f"The context can't be copied: {error}. Keep that out of it, or give the class that holds it a "
                "__deepcopy__ that returns self, if copies may share it."
            ) from error


class _ClassIsInstance(type):
    """Lets a class count as one of its own instances."""

    def __instancecheck__(cls, instance: object) -> bool:
        return instance is cls or super().__instancecheck__(instance)


class End(metaclass=_ClassIsInstance):
    """Ends a path. The class itself may be returned, or an instance with a value.

    Parameters
    ----------
    value
        What the path came to, if that is not in the state.
    """

    value: Any = None

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, End) and bool(self.value == other.value)

    def __hash__(self) -> int:
        return hash(End)

    def __repr__(self) -> str:
        return "End()" if self.value is None else f"End({self.value!r})"


@runtime_checkable
class BaseNode(Protocol[StateT]):
    """A node: whatever has these four names, whether it inherits from this class or not.

    Attributes
    ----------
    signature
        What the node computes: a name, a function, or what else describes it.
    """

    signature: Any

    def extract_inputs(self, state: StateT) -> dict[str, Any]:
        """What the node takes from the state, by name; nothing, if it does not say."""
        return {}

    def update_state(self, state: StateT, result: Any) -> None:
        """Put what the node computed into the state."""
        return None  # noqa: RET501 - type checkers take a method without any code for abstract

    @abstractmethod
    async def run(self, ctx: RunContext[StateT]) -> BaseNode[StateT] | End | type[End]:
        """Work on a context that is this node's own; the node that comes next, or an `End`."""
        raise NotImplementedError


@define(eq=False)
class NodeResult(Generic[StateT]):
    """What came of a node.

    Attributes
    ----------
    node
        The node that ran; of a path, the last.
    next_node
        What it returned; `End` if it failed.
    context
        The copy that it worked on, as it left it.
    execution_time_ms
        How long it ran, in milliseconds: neither the wait for a slot nor the copy is in it.
    error
        What it raised.
    start
        What it started from. Results share it: look, but don't change it.
    """

    node: Any
    next_node: Any
    context: RunContext[StateT] = field(repr=False)
    execution_time_ms: float
    error: Exception | None = None
    start: RunContext[StateT] | None = field(default=None, repr=False)

    @property
    def is_success(self) -> bool:
        """Whether the node raised nothing."""
        return self.error is None

    @property
    def is_end(self) -> bool:
        """Whether the path ends here."""
        return isinstance(self.next_node, End)


def name_of(node: Any) -> str:
    """What messages call a node: its `name` if that is text, else its class."""
    name = getattr(node, "name", None)
    return name if isinstance(name, str) else type(node).__name__
