"""Where workers are: SLURM as the table describes it, Parsl's own files and objects, and what is wrong with them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from textwrap import dedent

import psutil
import pytest
from mbexec_parsl import Parsl, pool
from mbexec_parsl.sites import _give_up, of_config, of_table

import mbexec
from mbexec.testing.trial import Trial, plugged

GEOMETRY = "Ar 0 0 0\n--\nAr 3.9 0.7 0.4\n--\nAr 7.8 1.4 0"
TABLES = {
    "molecule": {"geometry": GEOMETRY},
    "mbe": {"bsse_type": "nocp", "max_nbody": 2},
    "program": {"program": "model-potential", "method": "lj"},
    "task": {"ncores": 1, "memory": 1},
    "run": {"executor": "parsl", "workers": 2},
}
CONFIG = f"""
from parsl import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

config = Config([HighThroughputExecutor(
    label="mine",
    address="127.0.0.1",
    max_workers_per_node=2,
    cores_per_worker=0.01,
    interchange_launch_cmd=[{sys.executable!r}, "-m", "parsl.executors.high_throughput.interchange"],
    provider=LocalProvider(max_blocks=1, worker_init="PATH={Path(sys.executable).parent}:$PATH"),
)])
"""
SLURM = {
    "sacct": "exit 1",
    "squeue": "for job in $(cd {0}; ls *.job); do echo ${{job%.job}} R; done",
    "scancel": 'for job in "$@"; do kill -- -$(cat {0}/$job.job); rm {0}/$job.job; done',
    "sbatch": """
        cp "$1" {0}/script
        name=$(date +%s%N)
        setsid bash "$1" >"$1.stdout" 2>"$1.stderr" </dev/null &
        echo $! >{0}/$name.job
        echo Submitted batch job $name
    """,
}


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A SLURM of shell scripts, whose only node is this machine."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, script in SLURM.items():
        path = folder / name
        path.write_text("#!/bin/bash\n" + dedent(script).format(folder))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def energies(**settings):
    found = mbexec.run(TABLES, **settings)
    assert found.result.success
    return found.energies.tobytes()


@pytest.mark.usefixtures("no_pool")
def test_blocks_of_slurm(slurm, tmp_path):
    """What the table says is what SLURM is asked for; workers come, the job is cancelled, and files go."""
    table = {"provider": "slurm", "workers_per_node": 2, "partition": "short", "account": "chem"}
    table |= {"walltime": "00:30:00", "worker_init": "export GREETING=hello", "scheduler_options": "#SBATCH --mem=4G"}
    table |= {"exclusive": False, "address": "127.0.0.1"}
    got = energies(**{f"plugin.parsl.{key}": value for key, value in table.items()})
    assert got == energies(executor="serial")
    script = (slurm / "script").read_text()
    for line in ("--partition=short", "--account=chem", "--time=30", "--nodes=1", "--mem=4G"):
        assert f"#SBATCH {line}\n" in script
    assert "export GREETING=hello\n" in script
    assert "--exclusive" not in script
    (folder,) = (tmp_path / "home" / ".cache" / "mbexec").iterdir()  # every node sees one's home, and not /tmp
    assert (folder / "mbexec" / "certificates").stat().st_mode & 0o777 == 0o700
    pool._end()
    assert not folder.exists()
    assert list(slurm.glob("*.job")) == []


def test_a_site_of_several_nodes(slurm):
    """Cores are shared out by task.ncores where no number of workers is given; srun starts workers on all nodes."""
    site = of_table(Parsl(provider="slurm", nodes=3, blocks=2, address="127.0.0.1"), 64, 4)
    assert site.where == "2 blocks of SLURM"
    assert site.most is None
    assert site.htex.cores_per_worker == 4.0
    assert type(site.htex.provider.launcher).__name__ == "SrunLauncher"
    assert (site.htex.provider.init_blocks, site.htex.provider.max_blocks) == (2, 2)
    assert site.htex.encrypted
    table = Parsl(provider="slurm", nodes=3, blocks=2, workers_per_node=8, address="127.0.0.1")
    assert of_table(table, 64, 1).most == 48


def test_a_site_on_this_machine():
    """Nobody from elsewhere can connect, what is sent is encrypted, and there are as many workers as the run uses."""
    site = of_table(Parsl(blocks=2), 5, 1)
    assert (site.htex.address, site.htex.loopback_address, site.htex.encrypted) == ("127.0.0.1", "127.0.0.1", True)
    assert site.most == 6
    assert not of_table(Parsl(encrypted=False), 1, 1).htex.encrypted


@pytest.mark.usefixtures("no_pool")
def test_blocks_that_never_come_end_the_run(monkeypatch):
    """Not at the first one: with what the shell said."""
    monkeypatch.setattr("parsl.providers.LocalProvider.status_polling_interval", 0.2)
    table = {"plugin.parsl.worker_init": "echo no such module >&2; exit 7", "plugin.parsl.heartbeat_threshold": 5}
    with pytest.raises(mbexec.ExecutorError) as error:
        mbexec.run(TABLES, **table)
    assert str(error.value).startswith("Parsl gave up on its blocks: ")
    assert "no such module" in str(error.value)
    assert str(error.value).count("Its logs are in '") == 1


def test_parsl_gives_up_when_nobody_has_ever_come():
    """Blocks that fail after workers of theirs were there are replaced, however many they are."""
    from parsl.jobs.states import JobState, JobStatus

    class Htex:
        bad_state_is_set, came, problem = False, ["0"], None

        def connected_blocks(self):
            return self.came

        def set_bad_state_and_fail_all(self, problem):
            self.problem = str(problem)

    htex = Htex()
    status = {str(n): JobStatus(JobState.MISSING, f"block {n}") for n in range(3)}
    _give_up(htex, status)
    assert htex.problem is None
    htex.came = []
    _give_up(htex, dict(list(status.items())[:2]))
    assert htex.problem is None
    _give_up(htex, status)
    assert htex.problem == "block 2"


@pytest.mark.usefixtures("no_pool")
def test_a_config_file(tmp_path):
    """A Python file that defines config, as Parsl's users have it; nothing of Parsl's stays in the folder."""
    (tmp_path / "site.py").write_text(CONFIG)
    before = sorted(path.name for path in tmp_path.iterdir())
    got = energies(**{"plugin.parsl.config": "site.py", "plugin.parsl.label": "mine"})
    assert got == energies(executor="serial")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*before, "home"])


@pytest.mark.nightly
@pytest.mark.usefixtures("no_pool")
def test_a_config_from_python(tmp_path):
    """It can be used as long as its workers wait, and in no second pool: Parsl starts an executor once."""
    config = config_of(CONFIG, tmp_path)
    first = energies(**{"plugin.parsl.config": config, "plugin.parsl.run_dir": "kept"})
    assert energies(**{"plugin.parsl.config": config, "plugin.parsl.run_dir": "kept"}) == first
    pool._end()
    assert len(list(Path("kept").iterdir())) == 1  # the place was asked for, perhaps to read what is there
    with pytest.raises(mbexec.ConfigError, match=r"^The executor 'mine' of a Config has been started before, which"):
        energies(**{"plugin.parsl.config": config})


@pytest.mark.usefixtures("no_pool")
def test_a_kernel_that_is_loaded(tmp_path, events):
    """Its executor is used and stays; cancelling leaves what runs alone, which is said."""
    from parsl import DataFlowKernel

    config = config_of(CONFIG, tmp_path)
    config.run_dir, config.initialize_logging = str(tmp_path / "runs"), False
    kernel = DataFlowKernel(config)
    try:
        with plugged(lambda: Parsl(config=kernel)) as executor:
            trial = Trial(["plain"] * 12)
            assert len(trial.run(executor)) == 12
            sent = executor.plugin.bytes_moved[0]
            assert len(trial.run(executor)) == 12
            assert executor.plugin.bytes_moved[0] - sent < 2 * sent  # workers have the context, or get it once
            results = trial.submit(executor)
            next(results)
            results.close()
        assert kernel.executors["mine"].interchange_proc.poll() is None
        (said,) = [event for event in events if event["event"] == "parsl_shared"]
        assert said["note"] == "fragments that run when the run is cancelled go on there to their end"
    finally:
        kernel.cleanup()
    with pytest.raises(
        mbexec.ConfigError, match=r"^plugin\.parsl\.config is a DataFlowKernel that has been cleaned up"
    ):
        of_config(kernel, None)


def config_of(text, tmp_path):
    path = tmp_path / "given.py"
    path.write_text(text)
    found = {}
    exec(compile(text, path, "exec"), found)
    return found["config"]


MANY = "from parsl import Config, HighThroughputExecutor as H\nconfig = Config([H(n, address='::1') for n in 'ab'])"


@pytest.mark.parametrize(
    ("text", "label", "words"),
    [
        (None, None, r"plugin\.parsl\.config = 'site\.py' is no file; give the path of one that defines config\."),
        ("1 / 0", None, r"The Parsl config 'site\.py' can't be read: ZeroDivisionError: division by zero"),
        ("x = 1", None, r"The Parsl config 'site\.py' defines no config; it must have config = Config\(\.\.\.\)\."),
        (
            "config = 3",
            None,
            r"plugin\.parsl\.config = 3 must be the path of a Python file that defines config, or a Con",
        ),
        (
            MANY,
            None,
            r"plugin\.parsl\.label is not given, and the HighThroughputExecutors of the Parsl config 'site\.py'",
        ),
        (
            MANY,
            "c",
            r"plugin\.parsl\.label = 'c', and the HighThroughputExecutors of .* are: 'a', 'b'\. Name one of th",
        ),
        (
            "import parsl\nconfig = parsl.Config()",
            None,
            r"plugin\.parsl\.label is not .* are: none\. Name one of them\.",
        ),
    ],
)
def test_a_config_that_can_not_be(text, label, words, tmp_path):
    """The message names the file or the setting, and says what is wanted."""
    if text is not None:
        (tmp_path / "site.py").write_text(text)
    given = {} if label is None else {"plugin.parsl.label": label}
    with pytest.raises(mbexec.ConfigError, match=words):
        mbexec.run(TABLES, **{"plugin.parsl.config": "site.py"}, **given)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"provider": "pbs"}, 'provider = \'pbs\' must be "local" or "slurm".'),
        ({"blocks": 0}, "blocks = 0 must be a whole number from 1 up."),
        ({"blocks": "2"}, "blocks = '2' must be a whole number."),
        ({"nodes": 2}, "nodes = 2 must be 1 where provider is 'local', which has no other."),
        ({"workers_per_node": -1}, "workers_per_node = -1 must be a whole number from 1 up."),
        ({"walltime": "1h"}, "walltime = '1h' must be hours, minutes and seconds, as \"01:00:00\"."),
        ({"chunk_time": 0}, "chunk_time = 0 must be a number of seconds above 0."),
        ({"heartbeat_threshold": 2}, "heartbeat_threshold = 2 must be above heartbeat_period = 2."),
        ({"partition": 3}, "partition = 3 must be text."),
        ({"encrypted": "yes"}, "encrypted = 'yes' must be true or false."),
    ],
)
def test_settings_that_can_not_be(table, words):
    """The table and the setting are named."""
    with pytest.raises(mbexec.ConfigError) as error:
        mbexec.run(TABLES, **{f"plugin.parsl.{key}": value for key, value in table.items()})
    assert str(error.value) == f"[plugin.parsl] {table!r} is not accepted: {words}"


def test_a_folder_that_can_not_be_made(tmp_path):
    """The setting that helps is named."""
    (tmp_path / "file").touch()
    with pytest.raises(
        mbexec.ConfigError, match=r"^Parsl's folder can't be made in 'file/runs': Not a directory\. Set "
    ):
        energies(**{"plugin.parsl.run_dir": "file/runs"})


@pytest.mark.nightly
@pytest.mark.usefixtures("no_pool")
def test_more_workers_than_the_run_may_use(events):
    """Somebody who pays for them is told; no more than `run.workers` fragments run at once."""
    trial = Trial(["slow"] * 40, {"slow": {"sleep": 0.02}})
    with plugged(lambda: Parsl(workers_per_node=4)) as executor:
        results = trial.run(executor)
    (said,) = [event for event in events if event["event"] == "parsl_workers_idle"]
    assert said["workers"] == 4
    marks = sorted([(r.started, 1) for r in results] + [(r.ended, -1) for r in results])
    at_once = [sum(step for _, step in marks[: n + 1]) for n in range(len(marks))]
    assert max(at_once) <= 2


SCRIPT = """
import json, logging, os, sys, threading
import mbexec
tables = json.loads(sys.argv[1])
mbexec.run(tables)
import parsl
assert not logging.getLogger("parsl").handlers[1:] and not logging.getLogger().handlers
try:
    parsl.dfk()
except parsl.errors.NoDataFlowKernelError:
    print("none loaded", flush=True)
if sys.argv[2:]:
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("killed", [pytest.param(False, marks=pytest.mark.nightly), True])
def test_nothing_is_left_of_a_run(killed, tmp_path):
    """No process, no file, no kernel loaded, no log handlers; when the run is killed, no process is left either."""
    temporary = Path(tempfile.mkdtemp(dir="/tmp"))  # short, as names of sockets must be
    env = {**os.environ, "TMPDIR": str(temporary)}
    tables = {**TABLES, "plugin": {"parsl": {"heartbeat_period": 1, "heartbeat_threshold": 4}}}
    words = [sys.executable, "-c", SCRIPT, json.dumps(tables), *(["killed"] if killed else [])]
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=280)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (-9 if killed else 0, "none loaded")

    def left():
        found = []
        for process in psutil.process_iter():
            try:
                if str(temporary) in process.environ().get("TMPDIR", "") and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                pass
        return found

    end = time.monotonic() + (60 if killed else 5)
    while left() and time.monotonic() < end:
        time.sleep(0.1)
    assert left() == []
    if not killed:
        assert list(temporary.iterdir()) == []
    shutil.rmtree(temporary)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tmp"]


def test_a_worker_of_other_versions_is_refused(parsl, monkeypatch):
    """Before anything runs there; both versions are told."""
    real = mbexec.core.versions.version
    monkeypatch.setattr("mbexec.core.versions.version", lambda name: "9.9" if name == "parsl" else real(name))
    with pytest.raises(
        mbexec.ExecutorError, match=r"^The Parsl worker .* other versions than .*: parsl .* \(here 9\.9\)"
    ):
        Trial(["plain"] * 3, driver="gradient").run(parsl)
