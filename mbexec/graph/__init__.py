"""Nodes that run at once on asyncio, each on its own copy of a state, and what they leave, merged."""

from mbexec.graph.contract import BaseNode, End, NodeResult, RunContext
from mbexec.graph.errors import GraphError, MergeError, ParallelExecutionError
from mbexec.graph.executor import MergeStrategy, ParallelExecutor
from mbexec.graph.graph import Graph
from mbexec.graph.limits import Limit, Retry
from mbexec.graph.scheduling import GraphStep
from mbexec.graph.tracking import GraphRun
from mbexec.graph.voting import Vote

__all__ = [
    "BaseNode",
    "End",
    "Graph",
    "GraphError",
    "GraphRun",
    "GraphStep",
    "Limit",
    "MergeError",
    "MergeStrategy",
    "NodeResult",
    "ParallelExecutionError",
    "ParallelExecutor",
    "Retry",
    "RunContext",
    "Vote",
]
