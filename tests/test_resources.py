"""What the process may use: affinity, control groups of both versions, SLURM's variables."""

import os

import psutil
import pytest

from mbexec.core.engine import read_job
from mbexec.core.resources import granted_cores, granted_memory
from tests.systems import argon, job

GIB = 2**30
TOTAL = psutil.virtual_memory().total / GIB


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


@pytest.fixture
def groups(tmp_path):
    """Lay out files of control groups, and give the folder they are in."""

    def lay(membership, files):
        proc = tmp_path / "proc/self"
        proc.mkdir(parents=True)
        (proc / "cgroup").write_text(membership)
        for name, content in files.items():
            path = tmp_path / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        return tmp_path

    return lay


def test_the_machine_alone(tmp_path):
    """Without control groups and SLURM: cores by affinity, and all the memory."""
    assert (granted_cores({}, tmp_path).amount, granted_cores({}, tmp_path).source) == (8, "the machine")
    assert (granted_memory({}, tmp_path).amount, granted_memory({}, tmp_path).source) == (TOTAL, "the machine")


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("350000 100000", 3), ("50000 100000", 1), ("max 100000", 8)]
)
def test_a_quota_of_cores(groups, quota, cores):
    """A container with so much of a CPU's time gets the whole cores that are in it, one at least."""
    root = groups("0::/", {"cpu.max": quota})
    assert granted_cores({}, root).amount == cores


def test_the_tightest_of_nested_groups(groups):
    """A limit further up holds too."""
    root = groups(
        "0::/job/step",
        {"cpu.max": "max 100000", "job/cpu.max": "200000 100000", "job/step/cpu.max": "400000 100000"}
        | {"memory.max": "max", "job/memory.max": GIB, "job/step/memory.max": 2 * GIB},
    )
    assert (granted_cores({}, root).amount, granted_cores({}, root).source) == (2, "2 cores of the control group")
    assert (granted_memory({}, root).amount, granted_memory({}, root).source) == (1, "1 GiB of the control group")


def test_groups_of_version_1(groups):
    """Each controller has folders of its own; a limit of -1, or of all that a number can hold, is none."""
    root = groups(
        "4:cpu,cpuacct:/slurm/job\n2:memory:/slurm/job\n",
        {
            "cpu,cpuacct/slurm/job/cpu.cfs_quota_us": 300000,
            "cpu,cpuacct/slurm/job/cpu.cfs_period_us": 100000,
            "cpu,cpuacct/cpu.cfs_quota_us": -1,
            "cpu,cpuacct/cpu.cfs_period_us": 100000,
            "memory/slurm/job/memory.limit_in_bytes": GIB // 2,
            "memory/memory.limit_in_bytes": 9223372036854771712,
        },
    )
    assert granted_cores({}, root).amount == 3
    assert granted_memory({}, root).amount == 0.5


def test_a_container_that_sees_its_own_group_as_the_root(groups):
    """The path that the host knows it by is not there; the limits are at the root."""
    root = groups("2:memory:/docker/0123abc\n1:cpu:/docker/0123abc\n", {"memory/memory.limit_in_bytes": GIB})
    assert granted_memory({}, root).amount == 1


@pytest.mark.parametrize(
    ("environment", "cores"),
    [
        ({"SLURM_CPUS_ON_NODE": "4"}, 4),
        ({"SLURM_CPUS_ON_NODE": "64"}, 8),
        ({"SLURM_CPUS_ON_NODE": "6", "SLURM_CPUS_PER_TASK": "2"}, 6),
        ({"SLURM_CPUS_ON_NODE": "6", "SLURM_CPUS_PER_TASK": "2", "SLURM_STEP_NUM_TASKS": "3"}, 2),
        ({"SLURM_CPUS_ON_NODE": "4(x2)"}, 8),
    ],
    ids=str,
)
def test_cores_of_a_slurm_job(tmp_path, environment, cores):
    """A batch script has the cores of its node, a task among others its own."""
    assert granted_cores(environment, tmp_path).amount == cores
    assert granted_memory(environment, tmp_path).amount == TOTAL


@pytest.mark.parametrize(
    ("environment", "memory"),
    [
        ({"SLURM_MEM_PER_NODE": "512"}, 0.5),
        ({"SLURM_MEM_PER_CPU": "256", "SLURM_CPUS_ON_NODE": "2"}, 0.5),
        ({"SLURM_MEM_PER_NODE": "0"}, TOTAL),
    ],
    ids=str,
)
def test_memory_of_a_slurm_job(tmp_path, environment, memory):
    """In MiB, of the node or of each core; 0 is all there is."""
    assert granted_memory(environment, tmp_path).amount == memory


def test_settings_follow_what_is_granted(monkeypatch):
    """Workers and their memory, with the grant that decided named as the source."""
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "4")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1024")
    config = read_job(job(argon(2)), {})[1]
    assert (config.run.workers, config.task.ncores, config.task.memory) == (4, 1, 0.225)
    assert config.sources["run.workers"] == "split of SLURM_CPUS_ON_NODE = 4"
    assert config.sources["task.memory"] == "split of SLURM_MEM_PER_NODE = 1024"
