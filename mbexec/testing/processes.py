"""Rules for executors about processes: what they say of themselves, workers that die, tasks that hang, what is left."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import unittest
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import cloudpickle
import psutil

from mbexec.testing.imports import undeclared
from mbexec.testing.rules import Make, broken, rule
from mbexec.testing.trial import Trial, plugged
from mbexec.testing.waiting import until

__all__ = [
    "a_dead_worker_costs_its_task_alone",
    "a_dead_worker_is_not_waited_for",
    "a_hanging_task_is_killed",
    "closing_kills",
    "declarations_hold",
    "imports_are_declared",
    "no_process_is_left",
]

CAPABILITIES = ("isolates_processes", "can_kill", "survives_worker_death", "elsewhere")
_BEGIN = 10.0
_GRACE = 10.0
_TIMEOUT = 5.0


def _needs(make: Make, capability: str) -> None:
    if not getattr(make(), capability, False):
        raise unittest.SkipTest(f"it does not declare {capability}")


@rule(
    "executor",
    "Say what the executor is by attributes of its class",
    "Set them on the class as docs/hooks.md tells; each is False unless it is there.",
)
def declarations_hold(make: Make, gate: Path) -> None:
    """What the class says of itself is of the right type and does not contradict itself or where tasks run."""
    with plugged(make) as executor:
        said = {name: getattr(executor.plugin, name, False) for name in CAPABILITIES}
        processes = {int(result.worker.split(":")[1]) for result in Trial(["plain"] * 4).run(executor)}
    if wrong := [name for name, value in said.items() if not isinstance(value, bool)]:
        raise broken(f"declares {wrong[0]} = {said[wrong[0]]!r}, which is neither True nor False")
    if not said["isolates_processes"] and (able := [name for name in CAPABILITIES if said[name]]):
        raise broken(f"declares {able[0]} but not isolates_processes, without which it can't be")
    if said["isolates_processes"] and os.getpid() in processes:
        raise broken("declares isolates_processes, and runs tasks in the process of the run")
    if not said["isolates_processes"] and processes - {os.getpid()}:
        raise broken("runs tasks in processes of their own, and does not declare isolates_processes")


@rule(
    "executor",
    "A worker that dies is never waited for",
    "Use a pool that notices, such as concurrent.futures' or loky's; multiprocessing.Pool waits for ever.",
)
def a_dead_worker_is_not_waited_for(make: Make, gate: Path) -> None:
    """When a worker is killed the level comes to an end, by an exception or by a result with an error."""
    _needs(make, "isolates_processes")
    trial = Trial(["plain"] * 3 + ["deadly"] + ["plain"] * 4, {"deadly": {"kill": os.getpid()}})
    results = []
    with plugged(make) as executor:
        try:
            results = trial.run(executor)
        except Exception:
            return
    dead = [result for result in results if trial.label(result.index) == "deadly"]
    if not dead or dead[0].error is None:
        raise broken("ended the level as if nothing had happened, though a worker was killed over a task")


@rule(
    "executor",
    "only the task that a dead worker ran gets an error",
    "Send the tasks that the dead worker had not done to another; the one that it ran gets an error.",
)
def a_dead_worker_costs_its_task_alone(make: Make, gate: Path) -> None:
    """When a worker is killed its task gives a result with an error, and all others are as they should be."""
    _needs(make, "survives_worker_death")
    trial = Trial(["plain"] * 3 + ["deadly"] + ["plain"] * 8, {"deadly": {"kill": os.getpid()}})
    with plugged(make) as executor:
        results = {result.index: result for result in trial.run(executor)}
    _check_only("deadly", trial, results)


@rule(
    "executor",
    "A task that takes longer than ``work.settings(task).timeout`` seconds is killed",
    "Watch the clock of each task, kill its worker with all that the worker started, and give the task an error.",
)
def a_hanging_task_is_killed(make: Make, gate: Path) -> None:
    """A task that hangs is killed at its timeout with what it started, and gives a result with an error."""
    _needs(make, "can_kill")
    toys = {"hanging": {"child": str(gate)}}
    for timeout in (_TIMEOUT, 5 * _TIMEOUT):  # on a busy machine, quick tasks may take longer than the shorter one
        trial = Trial(["plain"] * 3 + ["hanging"] + ["plain"] * 8, toys, timeout=timeout)
        with plugged(make) as executor:
            results = {result.index: result for result in trial.run(executor)}
        if not any(result.error for result in results.values() if trial.label(result.index) == "plain"):
            break
    _check_only("hanging", trial, results)
    _check_gone(_children(gate), "a process that a killed task had started")


@rule(
    "executor",
    "closing the iterator kills what runs",
    "Keep workers busy while a result is looked at; kill them, and all that they started, in the `finally` around the "
    "loop that yields.",
)
def closing_kills(make: Make, gate: Path) -> None:
    """When the iterator is closed, tasks that run are killed with what they started."""
    _needs(make, "can_kill")
    trial = Trial(["plain", *["hanging"] * 6], {"hanging": {"child": str(gate)}})
    with plugged(make) as executor:
        with closing(trial.submit(executor)) as results:
            next(results)
            until(lambda: _children(gate), _BEGIN)
            _check_began(gate, trial)
        _check_gone(_children(gate), "a process that a task had started")


def _check_began(gate: Path, trial: Trial) -> None:
    """Whether there is anything to kill; who runs one task at a time need not begin the next before it is asked for."""
    if _children(gate):
        return
    if trial.work.workers < 2:
        raise unittest.SkipTest("it runs one task at a time, and none while a result is looked at")
    raise broken(
        f"began none of 6 other tasks in {_BEGIN:g} idle seconds after its first result, so there was nothing to kill"
    )


def _check_only(culprit: str, trial: Trial, results: dict[int, Any]) -> None:
    """Whether the culprits, and nobody else, have an error."""
    for task in trial.plan:
        if task.index not in results:
            raise broken(f"gave no result for {task.label}, one of {len(trial.plan)} tasks of which one is {culprit}")
        error = results[task.index].error
        if task.mc == culprit and error is None:
            raise broken(f"gave the {culprit} task {task.label} a result without an error")
        if task.mc != culprit and error is not None:
            raise broken(f"gave {task.label} an error, though only another task is {culprit}: {error!r:.200}")


def _children(gate: Path) -> list[int]:
    """Child processes that toys have started, who write that on the gate."""
    return [int(line.split()[1]) for line in gate.read_text().splitlines()]


def _check_gone(pids: list[int], what: str) -> None:
    until(lambda: not any(map(_lives, pids)), _GRACE)
    if left := [pid for pid in pids if _lives(pid)]:
        raise broken(f"left {what} behind, with the process id {left[0]}")


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@rule(
    "executor",
    "no process outlives the run's",
    "Shut pools down when the executor is left, or see to it that workers end when their parent does.",
)
def no_process_is_left(make: Make, gate: Path) -> None:
    """When the process of the run has ended, so have all processes that the executor started."""
    _check_gone(_in_fresh_process(_started, make, gate), "a worker")


def _started(pickled: bytes) -> list[int]:
    with plugged(pickle.loads(pickled)) as executor:
        Trial(["plain"] * 8).run(executor)
        return [child.pid for child in psutil.Process().children(recursive=True)]


@rule(
    "executor",
    "import nothing that its distribution does not require",
    "Name it among the dependencies in pyproject.toml, or don't import it.",
)
def imports_are_declared(make: Make, gate: Path) -> None:
    """In a fresh process, the executor and a level of it import only what its distribution requires."""
    strange = _in_fresh_process(undeclared, make, gate)
    if strange is None:
        raise unittest.SkipTest("no installed distribution lists its class in the entry-point group mbexec")
    if strange:
        raise broken(f"imported {', '.join(strange)}")


_FRESH = """
import pickle, sys
from pathlib import Path
folder = Path(sys.argv[1])
scenario, make = pickle.loads((folder / "call").read_bytes())
(folder / "answer").write_bytes(pickle.dumps(scenario(make)))
"""


def _in_fresh_process(scenario: Callable[[bytes], Any], make: Make, gate: Path) -> Any:
    """What a function says of the executor in an interpreter that has done nothing else."""
    folder = gate.with_name("fresh")
    folder.mkdir()
    (folder / "call").write_bytes(pickle.dumps((scenario, cloudpickle.dumps(make))))
    path = os.pathsep.join(entry for entry in sys.path if entry)
    with (folder / "said").open("w") as said:  # a pipe would stay open as long as anyone who is left behind
        command = [sys.executable, "-c", _FRESH, str(folder)]
        done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, stdout=said, stderr=said)
    if done.returncode:
        last = (folder / "said").read_text().strip().splitlines()[-1:]
        raise broken(f"failed in a fresh process: {''.join(last)}")
    return pickle.loads((folder / "answer").read_bytes())
