"""In what order fragments start, and which may run together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mbexec.core.cost import costs
from mbexec.core.types import Plan

__all__ = ["submissions"]


def submissions(plan: Plan, schedule: str, seed: int | None = None) -> list[NDArray[np.int64]]:
    """Places in the plan, in the order to start them, for each submission to the executor.

    Fragments of a plain expansion do not depend on each other. With "cost" they make one submission, the costliest
    first, so that no worker waits for a late, long one; of those that cost the same, those with most real fragments.
    With "nbody" each level is a submission, and the next begins when it has ended. What the plan calls undecided comes
    after all the rest, in submissions of its own.

    Those that could as well start in any order do so in the plan's, or with a `seed` in one that it decides: runs that
    share a store then seldom compute the same fragment at the same time. Duplicates are left out.
    """
    runs = plan.runs
    among = np.arange(len(plan)) if seed is None else np.random.default_rng(seed).permutation(len(plan))
    if schedule == "nbody":
        orders = [level.start + among[level.start : level.stop].argsort() for level in plan.levels]
    else:
        orders = [np.lexsort((among, -plan.expansion.nbody, -costs(plan))).astype(np.int64)]
    orders = [order[runs[order]] for order in orders]
    parts = [order[plan.undecided[order] == late] for late in (False, True) for order in orders]
    return [part for part in parts if len(part)]
