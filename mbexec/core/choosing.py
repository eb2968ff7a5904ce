"""Asking the planner which of a plan's undecided tasks need not run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mbexec.core.blame import blamed
from mbexec.core.errors import PluginError
from mbexec.core.types import Plan

if TYPE_CHECKING:
    import pluggy

__all__ = ["left_out"]


def left_out(
    manager: pluggy.PluginManager, planner: str, plan: Plan, energies: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """What the planner leaves out of a plan, (ntask,), now that it has the energies of all that is decided.

    Raises
    ------
    PluginError
        If the planner's answer is none.
    """
    given = np.where(plan.undecided, np.nan, energies)
    given.flags.writeable = False
    with blamed("planner", planner):
        found = manager.hook.choose_tasks(plan=plan, energies=given)
    if found is None:
        return np.zeros(len(plan), dtype=bool)
    if not isinstance(found, np.ndarray) or found.dtype != bool or found.shape != (len(plan),):
        raise PluginError(
            f"The planner {planner!r} gave {found!r:.80} as what it leaves out; "
            "choose_tasks must return an array of true or false, one for each task of the plan."
        )
    if (found & ~plan.undecided).any():
        raise PluginError(
            f"The planner {planner!r} left out {plan[int(np.argmax(found & ~plan.undecided))].label}, which its plan "
            "does not call undecided; choose_tasks may leave out only tasks that are."
        )
    return found
