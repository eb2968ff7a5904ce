"""What of this machine the process may use: cores and memory, as affinity, control groups and SLURM grant them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
from attrs import frozen

__all__ = ["Grant", "granted_cores", "granted_memory", "memory_kills"]

_GIB = 2**30


@frozen(order=True)
class Grant:
    """How much is granted, and by whom.

    Attributes
    ----------
    amount
        Cores, or memory in GiB.
    source
        In words.
    """

    amount: float
    source: str


def granted_cores(environment: Mapping[str, str], root: Path = Path("/")) -> Grant:
    """The smallest number of cores that anything grants, at least 1.

    Parameters
    ----------
    environment
        Holds SLURM's variables inside a SLURM job.
    root
        Where ``proc`` and ``sys`` are.
    """
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [(f"{quota:.3g} cores of the control group", quota) for quota in _cpu_quotas(root)]
    given = [*quotas, *_of_slurm(environment, "SLURM_CPUS_ON_NODE")]
    if any(ntasks > 1 for _, ntasks in _of_slurm(environment, "SLURM_STEP_NUM_TASKS")):  # one of srun's tasks
        given += _of_slurm(environment, "SLURM_CPUS_PER_TASK")
    found = min([Grant(here, "the machine"), *(Grant(amount, source) for source, amount in given)])
    return Grant(max(1, int(found.amount)), found.source)


def granted_memory(environment: Mapping[str, str], root: Path = Path("/")) -> Grant:
    """The least memory that anything grants, GiB; parameters as for :func:`granted_cores`."""
    found = [Grant(psutil.virtual_memory().total / _GIB, "the machine")]
    found += [Grant(limit / _GIB, f"{limit / _GIB:.3g} GiB of the control group") for limit in _memory_limits(root)]
    found += [Grant(mib / 1024, source) for source, mib in _of_slurm(environment, "SLURM_MEM_PER_NODE")]
    for _, cores in _of_slurm(environment, "SLURM_CPUS_ON_NODE"):
        found += [Grant(mib * cores / 1024, source) for source, mib in _of_slurm(environment, "SLURM_MEM_PER_CPU")]
    return min(found)


def memory_kills(root: Path = Path("/")) -> int:
    """How many processes this system has killed for lack of memory since it was started; 0 where it doesn't say."""
    words = _read(root / "proc/vmstat")
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0


def _of_slurm(environment: Mapping[str, str], name: str) -> list[tuple[str, float]]:
    """A variable of SLURM's as words and number, if it is one above 0: 0 says that there is no limit."""
    value = environment.get(name, "")
    return [(f"{name} = {value}", float(value))] if value.isdecimal() and int(value) > 0 else []


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups that this process is in, from its own up; of both versions."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            base = root / "sys/fs/cgroup" / controllers
        else:
            continue
        own = base / path.lstrip("/")
        yield own
        yield from (folder for folder in own.parents if folder == base or base in folder.parents)


def _read(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _cpu_quotas(root: Path) -> Iterator[float]:
    """Cores worth of time that the control groups allow."""
    for group in _groups(root, "cpu"):
        match _read(group / "cpu.max"):
            case [quota, period] if quota != "max":
                yield int(quota) / int(period)
        match _read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"):
            case [quota], [period] if int(quota) > 0:
                yield int(quota) / int(period)


def _memory_limits(root: Path) -> Iterator[float]:
    """Bytes that the control groups allow."""
    for group in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            match _read(group / name):
                case [limit] if limit != "max":
                    yield min(float(limit), math.inf)
