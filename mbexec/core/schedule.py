"""In what order fragments start, and which may run together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mbexec.core.cost import costs
from mbexec.core.types import Plan

__all__ = ["submissions"]


def submissions(plan: Plan, schedule: str) -> list[NDArray[np.int64]]:
    """Places in the plan, in the order to start them, for each submission to the executor.

    Fragments of a plain expansion do not depend on each other. With "cost" they make one submission, the costliest
    first, so that no worker waits for a late, long one; of those that cost the same, those with most real fragments.
    With "nbody" each level is a submission, and the next begins when it has ended.
    """
    if schedule == "nbody":
        return [np.arange(level.start, level.stop) for level in plan.levels]
    order = np.lexsort((-plan.expansion.nbody, -costs(plan)))
    return [order.astype(np.int64)] if len(plan) else []
