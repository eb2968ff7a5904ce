"""Whether an installation is right, and how fast each executor is on this machine: what `mbexec validate` does.

:mod:`~mbexec.validation.systems` has the standard systems and what is known of them,
:mod:`~mbexec.validation.comparison` runs them on every executor, :mod:`~mbexec.validation.page` and
:mod:`~mbexec.validation.plots` make of it what people see.
"""

from mbexec.validation.comparison import validate
from mbexec.validation.findings import Executor, Outcome, Tried, Validation
from mbexec.validation.systems import Check, System, argon_cluster, standard_systems

__all__ = [
    "Check",
    "Executor",
    "Outcome",
    "System",
    "Tried",
    "Validation",
    "argon_cluster",
    "standard_systems",
    "validate",
]
