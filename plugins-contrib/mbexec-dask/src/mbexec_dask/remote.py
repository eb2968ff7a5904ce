"""What Dask workers run: a message of tasks goes to a child process, which is watched over until all are done.

A Dask worker must answer its scheduler while fragments run, may have several threads, and would be lost with all that
it holds if a program crashed in it. So fragments run in children of it, as many at once as it has threads.
"""

from __future__ import annotations

import pickle
import socket
import time
from collections import deque
from collections.abc import Mapping
from math import inf
from typing import Any

from distributed import get_worker

from mbexec import ExecutorError, TaskError, TaskResult
from mbexec.processes import ending, packed
from mbexec_dask.children import LateError, LostError, forget, give_back, is_stopped, lease, stop
from mbexec_dask.messages import Answer, Common

__all__ = ["run", "stop"]

_MOST_FALSE_STARTS = 3
_LATE = "This fragment took longer than task.timeout = {:g} s and was killed."
_DIED = "The worker process that ran this fragment {}."


def run(held: Mapping[str, Any], pickled: bytes) -> Answer:
    """Run a message of tasks; what Dask calls. A task that kills its child, or takes too long, has failed.

    Parameters
    ----------
    held
        What the tasks have in common: a :class:`Common`, as Dask holds it.
    pickled
        A list of (index, mc, frag, bas) of each task; none to find out whether this worker can run any.
    """
    common = Common(**held)
    tasks: deque[tuple[Any, ...]] = deque(pickle.loads(pickled))
    done: list[bytes] = []
    told: list[Mapping[str, str]] = []
    false_starts = 0
    while not is_stopped(common.run):
        child = lease(common.run)
        try:
            child.begin(common)
            if child.ready:
                child.results(common, tasks, done)
        except (LostError, LateError) as loss:
            forget(child)
            late = isinstance(loss, LateError)
            code, said = child.end()
            if is_stopped(common.run):
                break
            if child.ready:
                done.append(_blamed(common, tasks.popleft(), child.process.pid, code, said, late=late))
            elif (false_starts := false_starts + 1) > _MOST_FALSE_STARTS:
                raise ExecutorError(
                    f"Worker processes die before they have run anything, {false_starts} of them now; the last one "
                    f"{ending(code)}." + (f" The last that it printed:\n{said}" if said else "")
                ) from None
        else:
            told += child.told
            give_back(child)
            break
        told += child.told
        if not tasks and child.ready:
            break
    own = get_worker().state
    return Answer(own.address, own.nthreads, dict(own.total_resources), tuple(told), tuple(done))


def _blamed(common: Common, task: tuple[Any, ...], pid: int, code: int, said: str, *, late: bool) -> bytes:
    """What comes of the task that a child ended over: a failure, random unless it took too long."""
    what = _LATE.format(common.limit(task) or inf) if late else _DIED.format(ending(code))
    if said:
        what += f" The last that it printed:\n{said}"
    error = TaskError("resource_error" if late else "random_error", what)
    now = time.time()
    worker = f"{socket.gethostname()}:{pid}:{pid}"
    return packed(TaskResult(task[0], error=error, started=now, ended=now, worker=worker))
