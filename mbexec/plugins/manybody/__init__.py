"""The manybody planner: the many-body expansion of QCSchema's ``ManyBodyInput``, planned and merged."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from attrs import define

from mbexec import Plan, RunConfig, TaskResult, hookimpl
from mbexec.plugins.manybody.merging import merge
from mbexec.plugins.manybody.planning import make_plan
from mbexec.plugins.manybody.screening import choose, screened

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from qcelemental.models.v2 import FailedOperation
    from qcmanybody.models.v2 import ManyBodyInput, ManyBodyResult

__all__ = ["ManyBody"]


@define(eq=False)
class ManyBody:
    """Plans and merges as QCManyBody does: the same fragments, the same results."""

    @hookimpl
    def build_tasks(self, spec: ManyBodyInput, config: RunConfig) -> Plan:
        """The expansion up to max_nbody, within the cutoffs if there are some, and what screening by energy takes."""
        return screened(make_plan(spec))

    @hookimpl
    def choose_tasks(self, plan: Plan, energies: NDArray[np.float64]) -> NDArray[np.bool_] | None:
        """Those that screening by energy has dropped."""
        choice = choose(plan, energies)
        return None if choice is None else choice.needless

    @hookimpl
    def merge_results(self, plan: Plan, results: Iterable[TaskResult]) -> ManyBodyResult | FailedOperation:
        """Exact sums, as the results arrive."""
        return merge(plan, results)
