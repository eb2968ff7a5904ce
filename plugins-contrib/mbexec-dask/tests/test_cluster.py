"""Schedulers and workers started from the command line: TLS, workers that die and come, environments that differ."""

from __future__ import annotations

import signal
import threading
from contextlib import suppress

import psutil
import pytest
from dask_cases import bits, job, messages_of, running, soon
from distributed import Client

import mbexec
from mbexec import ExecutorError


def through(cluster, **given):
    """Settings that lead to a scheduler."""
    tls = {"tls": cluster.tls} if cluster.tls else {}
    return {"dask": {"address": cluster.address, **tls, **given}}


@pytest.fixture
def later():
    """Run something in another thread once a condition is true, and wait for it at the end."""
    threads = []

    def when(condition, action):
        thread = threading.Thread(target=lambda: soon(condition) and action())
        thread.start()
        threads.append(thread)

    yield when
    for thread in threads:
        thread.join()


def test_a_worker_is_killed_and_another_added(secure, tmp_path, events, later):
    """Over TLS: the right result to the last bit; only what was on its way to the dead worker runs again."""
    log = tmp_path / "log"
    tables = job(24, {"log": str(log), "sleep": 0.002}, max_nbody=3)
    secure.scheduler()
    victim, _ = secure.worker(), secure.worker()

    def stopped_amid_a_fragment(process):
        process.suspend()
        said = [line.split() for line in log.read_text().splitlines()]
        if [what for what, pid in said if int(pid) == process.pid][-1:] == ["began"]:
            return True
        process.resume()
        return False

    def kill():
        own = psutil.Process(victim.pid).children(recursive=True)
        assert soon(lambda: any(map(stopped_amid_a_fragment, own)))
        victim.send_signal(signal.SIGKILL)
        assert soon(lambda: "worker_lost" in [event["event"] for event in events])
        for process in own:
            with suppress(psutil.Error):
                process.resume()
        secure.worker()

    later(lambda: log.exists() and log.read_text().count("began") > 500, kill)
    found = mbexec.run({**tables, "plugin": through(secure)})
    ran = log.read_text()
    assert secure.address.startswith("tls://")
    assert victim.poll() == -signal.SIGKILL
    assert len({result.split()[1] for result in ran.splitlines() if result.startswith("began")}) in (2, 3)
    again = ran.count("began") - len(found.plan)
    assert 0 < again <= 2 * 160
    assert [event["left"] for event in events if event["event"] == "worker_lost"] == [1]
    log.unlink()
    assert bits(found) == bits(mbexec.run(tables, executor="serial"))


def test_without_a_certificate_nobody_comes_in(secure, tmp_path):
    """Neither with another one."""
    from dask_cases import certificates

    secure.scheduler()
    other = tmp_path / "other"
    other.mkdir()
    settings = {"dask": {"address": secure.address, "tls": certificates(other)}}
    with pytest.raises(ExecutorError, match=r"^No Dask scheduler can be reached at 'tls://127\.0\.0\.1:\d+': "):
        mbexec.run({**job(), "plugin": settings}, **{"plugin.dask.connect_timeout": 2})


@pytest.mark.nightly
def test_a_fragment_that_kills_dask_workers_is_found_out(commands, toys, events):
    """All others run again and are right; the culprit fails, alone, after a number of deaths that is known."""
    commands.scheduler(DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0", PYTHONPATH=str(toys.site))
    for _ in range(2):
        commands.worker(nanny=True, PYTHONPATH=str(toys.site))
    found = mbexec.run({**toys.job({"[0, 3]": "kill the Dask worker"}), "plugin": through(commands)})
    ((label, message),) = messages_of(found).items()
    assert label == "[1, 4]"
    assert message.startswith("Dask workers died each time that they ran this fragment: ")
    assert 2 <= toys.starts()["[0, 3]"] <= 4
    assert [event["event"] for event in events].count("worker_died") >= toys.starts()["[0, 3]"]
    assert found.report.failed == 1


def test_the_scheduler_starts_again(commands, toys, events, later):
    """With other workers: what it had forgotten is sent again, and nothing is lost."""
    first = commands.scheduler(PYTHONPATH=str(toys.site))
    port = int(commands.address.rpartition(":")[2])
    commands.worker(PYTHONPATH=str(toys.site))
    tables = toys.job(nfr=8, pause=0.02)

    def restart():
        first.send_signal(signal.SIGKILL)
        first.wait()
        commands.scheduler(port, PYTHONPATH=str(toys.site))
        commands.worker(PYTHONPATH=str(toys.site))

    later(lambda: len(toys.processes()) == 1 and sum(toys.starts().values()) > 5, restart)
    found = mbexec.run({**tables, "plugin": through(commands)})
    assert "sent_again" in [event["event"] for event in events]
    assert bits(found) == bits(mbexec.run(tables, executor="serial"))


def test_a_scheduler_that_stays_away(commands, toys, later):
    """The run ends with a sentence, and does not wait for ever."""
    first = commands.scheduler(PYTHONPATH=str(toys.site))
    commands.worker(PYTHONPATH=str(toys.site))
    later(lambda: toys.log.exists(), lambda: first.send_signal(signal.SIGKILL))
    tables = {**toys.job(nfr=8, pause=0.2), "plugin": through(commands, connect_timeout=2)}
    with pytest.raises(ExecutorError, match=r"^The connection to the Dask scheduler was lost and could not be made ag"):
        mbexec.run(tables)
    assert soon(lambda: not any(map(running, toys.processes())))


def test_workers_with_another_version_are_refused(commands, tmp_path):
    """The message names the worker, the distribution and both versions."""
    info = tmp_path / "other" / "mbexec_dask-9.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mbexec-dask\nVersion: 9.9\n")
    commands.scheduler()
    commands.worker(PYTHONPATH=str(info.parent))
    words = (
        r"^The Dask worker 'tcp://127\.0\.0\.1:\d+' has other versions than this process: mbexec-dask 9\.9 \(here 0\.1"
    )
    with pytest.raises(ExecutorError, match=words):
        mbexec.run({**job(), "plugin": {"dask": {"scheduler_file": str(commands.file)}}})


WITHOUT = """
import importlib.metadata
plain = importlib.metadata.version
def version(name):
    if name == "mbexec-dask":
        raise importlib.metadata.PackageNotFoundError(name)
    return plain(name)
importlib.metadata.version = version
"""


def test_workers_without_mbexec_dask_are_refused_and_live(commands, tmp_path):
    """The message says what to install, and where; a worker would die of a message that it can't read."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "sitecustomize.py").write_text(WITHOUT)
    (tmp_path / "other" / "mbexec_dask.py").write_text("raise ModuleNotFoundError('none here')\n")
    commands.scheduler()
    worker = commands.worker(PYTHONPATH=str(tmp_path / "other"))
    with pytest.raises(ExecutorError, match=r"^Dask can't run the tasks of mbexec: .* need mbexec and mbexec-dask in"):
        mbexec.run({**job(), "plugin": through(commands)})
    assert worker.poll() is None


def test_fragments_take_resources(commands, toys, events):
    """Of workers that offer them; where none does, that is said at once."""
    commands.scheduler(PYTHONPATH=str(toys.site))
    commands.worker("--resources", "CPU=2 GPU=1", PYTHONPATH=str(toys.site))
    commands.worker("--nthreads", "3", PYTHONPATH=str(toys.site))
    with Client(commands.address, set_as_default=False) as client:
        client.wait_for_workers(2)
    tables = toys.job(ncores=2)
    tables["task"]["2"] = {"ncores": 1}
    settings = through(commands, resources={"CPU": "ncores", "GPU": 1})
    found = mbexec.run({**tables, "plugin": settings})
    assert found.result.success
    assert len(toys.processes(1)) == 1
    settings = through(commands, resources={"GPU": 2})
    words = r"^No Dask worker offers the resources {'GPU': 2} that \[plugin\.dask\.resources\] asks for a fragment; "
    with pytest.raises(ExecutorError, match=words):
        mbexec.run({**tables, "plugin": settings})
    assert [e["why"] for e in events if e["event"] == "workers_unused"] != []


@pytest.mark.nightly
def test_a_client_of_ones_own(commands):
    """It is used, and left open."""
    commands.scheduler()
    commands.worker()
    with Client(commands.address, set_as_default=False) as client:
        found = mbexec.run(job(), **{"plugin.dask.client": client})
        assert client.status == "running"
    assert bits(found) == bits(mbexec.run(job(), executor="serial"))
