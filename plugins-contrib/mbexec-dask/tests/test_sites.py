"""Where Dask is: settings that can't be, schedulers that are not there, and jobs of a batch system."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from dask_cases import bits, certificates, job
from mbexec_dask import sites
from mbexec_dask.executor import Dask

import mbexec
from mbexec import ConfigError, ExecutorError

SLURM = {"class": "SLURM", "cores": 4, "processes": 1, "memory": "16GB", "walltime": "02:00:00", "queue": "normal"}
WAYS = "one of them says where Dask is."


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"address": 5}, "address = 5 must be text."),
        ({"address": "tcp://a:1", "scheduler_file": "b"}, f"address and scheduler_file are given; {WAYS}"),
        ({"client": 5}, "client = 5 must be Client."),
        ({"tls": {"ca": "a", "cert": "b", "key": "c"}}, "tls is for a scheduler elsewhere: give its"),
        ({"address": "tls://a:1", "tls": {"ca": "a"}}, "tls = {'ca': 'a'} must be a table with the files"),
        ({"resources": {"GPU": 1}}, "resources are those of workers elsewhere: give an address too, "),
        ({"resources": {"GPU": "all"}}, "resources = {'GPU': 'all'} must be a table of "),
        ({"jobqueue": {"class": "Slurm"}}, "jobqueue = {'class': 'Slurm'} must be a table whose class is one of "),
        ({"jobqueue": {**SLURM, "jobs": 0}}, "jobqueue.jobs = 0 must be a whole number from 1 up."),
        ({"chunk_time": 0}, "'chunk_time' must be > 0: 0"),
        ({"patience": "long"}, "patience = 'long' must be a number."),
        ({"connect_timeout": -1}, "'connect_timeout' must be > 0: -1"),
        ({"idle_timeout": None}, "idle_timeout = None must be a number."),
    ],
)  # fmt: skip
def test_settings_that_can_not_be_are_refused(settings, words):
    """The message names the table, the key and what is allowed."""
    with pytest.raises(ConfigError) as refused:
        mbexec.run({**job(), "plugin": {"dask": settings}})
    assert str(refused.value).startswith("[plugin.dask] {")
    assert words in str(refused.value)


def test_a_scheduler_that_is_not_there():
    """The message names the address; the run does not begin."""
    settings = {"address": "tcp://127.0.0.1:9", "connect_timeout": 0.5}
    with pytest.raises(ExecutorError) as refused:
        mbexec.run({**job(), "plugin": {"dask": settings}})
    assert str(refused.value).startswith("No Dask scheduler can be reached at 'tcp://127.0.0.1:9': ")
    assert str(refused.value).endswith("Is it running, and are plugin.dask.address and plugin.dask.tls its own?")


def test_a_scheduler_file_that_is_not_there():
    """Nobody waits for it."""
    words = r"^plugin\.dask\.scheduler_file = 'no-file' is not there; `dask scheduler --scheduler-file FILE` writes it"
    with pytest.raises(ExecutorError, match=words):
        mbexec.run({**job(), "plugin": {"dask": {"scheduler_file": "no-file"}}})


def test_certificates_that_are_not_there():
    """The message names the key and the file."""
    settings = {"address": "tls://127.0.0.1:9", "tls": {"ca": "a", "cert": "b", "key": "c"}, "connect_timeout": 0.5}
    with pytest.raises(ConfigError, match=r"^plugin\.dask\.tls\.ca = 'a' is not there; give a file in PEM\.$"):
        mbexec.run({**job(), "plugin": {"dask": settings}})


@pytest.mark.parametrize(
    ("address", "told"),
    [("tcp://10.0.0.1:1", True), ("tcp://login1:1", True), ("tcp://127.0.0.1:1", False), ("tcp://[::1]:1", False),
     ("tcp://localhost:1", False), ("tls://10.0.0.1:1", False), ("inproc://10.0.0.1/1", False)],
)  # fmt: skip
def test_a_scheduler_that_is_open_to_others_is_told_of(address, told, events):
    """It runs code for whoever can reach it."""
    sites._warn_if_open(address)
    assert [event["event"] for event in events] == ["scheduler_without_tls"] * told


def test_nothing_listens_for_a_local_cluster():
    """Not to other machines: the HTTP servers that Dask brings are for this one alone."""
    import psutil

    def listening():
        mine = [c for c in psutil.net_connections("tcp") if c.pid == os.getpid()]
        return {c.laddr for c in mine if c.status == psutil.CONN_LISTEN}

    executor, before = Dask(), listening()
    with executor:
        executor._site.connected(2)
        assert {address.ip for address in listening() - before} <= {"127.0.0.1"}


def test_nobody_comes(events):
    """A scheduler without workers is waited for no longer than `patience`."""
    from distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=0, processes=False, dashboard_address="127.0.0.1:0")
    with cluster, Client(cluster, set_as_default=False) as client:
        words = (
            r"^The Dask scheduler 'inproc://.*' has had no worker for 0\.5 s; start some, or raise plugin\.dask\.pati"
        )
        with pytest.raises(ExecutorError, match=words):
            mbexec.run(job(), **{"plugin.dask.client": client, "plugin.dask.patience": 0.5})
    assert [event["event"] for event in events] == ["waiting_for_workers"]


# Batch systems


def site(**jobqueue):
    """Where jobs are submitted."""
    return Dask(jobqueue={**SLURM, **jobqueue})._site


def test_jobs_are_what_the_table_says(monkeypatch):
    """The script that would be submitted, and how many times; TLS is passed on."""
    submitted = []
    import dask_jobqueue

    monkeypatch.setattr(dask_jobqueue.SLURMCluster, "scale", lambda cluster, jobs: submitted.append(jobs))
    table = tomllib.loads("""
        [plugin.dask.jobqueue]
        class = "SLURM"
        jobs = 3
        cores = 4
        processes = 2
        memory = "16GB"
        walltime = "02:00:00"
        queue = "normal"
        job_script_prologue = ["module load nwchem"]
    """)["plugin"]["dask"]
    made = Dask(**table)._site
    script = made.cluster().job_script()
    made.close()
    for line in ["#SBATCH -p normal", "#SBATCH --cpus-per-task=4", "#SBATCH -t 02:00:00", "module load nwchem"]:
        assert line in script.splitlines()
    assert "--nworkers 2" in script
    assert submitted[0] == 3


def test_jobs_have_certificates(monkeypatch, tmp_path):
    """Scheduler and workers show them; nothing goes unencrypted."""
    import dask_jobqueue

    monkeypatch.setattr(dask_jobqueue.SLURMCluster, "scale", lambda cluster, jobs: None)
    tls = certificates(tmp_path)
    made = Dask(jobqueue=SLURM, tls=tls)._site
    cluster = made.cluster()
    assert cluster.scheduler_address.startswith("tls://")
    assert f"--tls-ca-file {tls['ca']}" in cluster.job_script()
    made.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # what it leaves half made
def test_what_dask_jobqueue_refuses_is_told():
    """In its words."""
    made = site(cores=None)
    with pytest.raises(
        ConfigError, match=r"^\[plugin\.dask\.jobqueue\] is not accepted by dask-jobqueue's SLURMCluster: "
    ):
        made.cluster()
    made.close()


def test_without_dask_jobqueue_there_is_the_line_that_installs_it(monkeypatch):
    """It is optional."""
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    with pytest.raises(ConfigError, match=r"Install it with: pip install 'mbexec-dask\[jobqueue\]'$"):
        mbexec.run({**job(), "plugin": {"dask": {"jobqueue": SLURM}}})


SBATCH = """#!/bin/sh
cp "$1" script
bash script > said-by-job 2>&1 &
echo $! > "job-$!"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
echo "$@" > cancelled
kill $1
"""


@pytest.fixture
def batch(tmp_path, monkeypatch):
    """Commands in place of SLURM's run jobs here; the table for them."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return {**SLURM, "cores": 2, "memory": "2GB", "interface": "lo", "local_directory": str(tmp_path)}


def test_a_run_in_batch_jobs(tmp_path, batch, monkeypatch):
    """It computes, its job is cancelled at the end, and Ctrl-C is as before; importing dask-jobqueue would take it."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "dask_jobqueue"]:
        monkeypatch.delitem(sys.modules, name)
    before = signal.getsignal(signal.SIGINT)
    found = mbexec.run({**job(), "plugin": {"dask": {"jobqueue": batch}}})
    assert bits(found) == bits(mbexec.run(job(), executor="serial"))
    (number,) = [path.name.partition("-")[2] for path in tmp_path.glob("job-*")]
    assert (tmp_path / "cancelled").read_text().split() == [number]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_in_batch_jobs_from_the_command_line(tmp_path, batch):
    """Where runs have a thread of their own."""
    table = "\n".join(f"{key} = {json.dumps(value)}" for key, value in batch.items())
    geometry = json.dumps(job()["molecule"]["geometry"])
    Path("job.toml").write_text(
        f"molecule.geometry = {geometry}\nmbe = {{bsse_type = 'nocp', max_nbody = 2}}\ntask.memory = 1\n"
        f"program = {{program = 'model-potential', method = 'lj'}}\n[plugin.dask.jobqueue]\n{table}\n"
    )
    words = [Path(sys.executable).with_name("mbexec"), "run", "job.toml", "-q", "--no-store", "-e", "dask"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "no counterpoise correction (nocp)" in done.stdout
    assert "waiting_for_workers" in done.stderr
