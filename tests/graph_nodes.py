"""States and nodes that the tests of graph execution share."""

import asyncio
import dataclasses

import attrs
from pydantic import BaseModel

from mbexec.graph import BaseNode, End, RunContext


class Model(BaseModel):
    value: int = 0
    other: int = 0
    items: list[str] = []


@attrs.define
class Attrs:
    value: int = 0
    other: int = 0
    items: list = attrs.field(factory=list)


@attrs.frozen
class Frozen:
    value: int = 0
    other: int = 0
    items: list = attrs.field(factory=list)


@dataclasses.dataclass
class Data:
    value: int = 0
    other: int = 0
    items: list = dataclasses.field(default_factory=list)


class Plain:
    def __init__(self):
        self.value = 0
        self.other = 0
        self.items = []


STATES = [Model, Attrs, Data, Plain]


class Node(BaseNode):
    """Does to its context what a function says, sync or async."""

    signature = "do"

    def __init__(self, do=lambda ctx: None, name="node"):
        self.do = do
        self.name = name

    async def run(self, ctx):
        found = self.do(ctx)
        if asyncio.iscoroutine(found):
            found = await found
        return End() if found is None else found


def setting(**values):
    """A node that sets fields of the state."""

    def do(ctx):
        for name, value in values.items():
            setattr(ctx.state, name, value)

    return Node(do, "setting")


def appending(*items):
    """A node that appends to the state's list and says so."""

    def do(ctx):
        ctx.state.items.extend(items)
        for item in items:
            ctx.add_provenance("appending", "append", item=item)

    return Node(do, "appending")


def failing(error):
    """A node that raises an error."""

    def do(ctx):
        raise error

    return Node(do, "failing")


def context(state=None, **kw):
    return RunContext(Model() if state is None else state, "run-1", **kw)
