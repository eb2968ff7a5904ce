"""Many-body expansions of molecular clusters, run in parallel."""

from mbexec.core.engine import RunResult, arun, plan, run
from mbexec.core.errors import (
    ConfigError,
    ExecutorError,
    HookError,
    InputError,
    MbexecError,
    PluginError,
    PluginNotFoundError,
    ProgramError,
)
from mbexec.core.events import (
    FragmentDone,
    FragmentHeld,
    FragmentStarted,
    LevelDone,
    LevelStarted,
    MetricsEvent,
    RunDone,
    RunStarted,
    TasksLeftOut,
)
from mbexec.core.expansion import Contribution, Expansion
from mbexec.core.fragments import FragmentSets
from mbexec.core.metrics import LevelReport, RunReport
from mbexec.core.settings import RunConfig, RunSettings, TaskSettings
from mbexec.core.summation import ArraySum, exact_dot
from mbexec.core.symmetry import Symmetry
from mbexec.core.terms import expand
from mbexec.core.types import Level, Plan, PlannedLevel, Task, TaskError, TaskResult
from mbexec.core.versions import check_versions, worker_versions
from mbexec.core.work import NeedContext, Work, run_chunk
from mbexec.hookspecs import hookimpl

__all__ = [
    "ArraySum",
    "ConfigError",
    "Contribution",
    "ExecutorError",
    "Expansion",
    "FragmentDone",
    "FragmentHeld",
    "FragmentSets",
    "FragmentStarted",
    "HookError",
    "InputError",
    "Level",
    "LevelDone",
    "LevelReport",
    "LevelStarted",
    "MbexecError",
    "MetricsEvent",
    "NeedContext",
    "Plan",
    "PlannedLevel",
    "PluginError",
    "PluginNotFoundError",
    "ProgramError",
    "RunConfig",
    "RunDone",
    "RunReport",
    "RunResult",
    "RunSettings",
    "RunStarted",
    "Symmetry",
    "Task",
    "TaskError",
    "TaskResult",
    "TaskSettings",
    "TasksLeftOut",
    "Work",
    "arun",
    "check_versions",
    "exact_dot",
    "expand",
    "hookimpl",
    "plan",
    "run",
    "run_chunk",
    "worker_versions",
]
