"""Dask in this process, the default: what becomes of fragments in child processes of a Dask worker."""

from __future__ import annotations

import os
import threading
import time

import psutil
import pytest
from dask_cases import bits, job, messages_of, running, soon
from mbexec_dask import children

import mbexec
from mbexec import ExecutorError


def test_the_same_bits_as_serial():
    """2,324 fragments of argon, gradients; the report has what was moved."""
    tables = job(24, max_nbody=3)
    found = mbexec.run(tables)
    assert bits(found) == bits(mbexec.run(tables, executor="serial"))
    assert len(found.plan) == 2324
    sent, received = found.report.bytes_moved
    assert 10_000 < sent < received


@pytest.mark.qc
@pytest.mark.parametrize("driver", ["energy", "gradient"])
def test_the_same_bits_on_the_water_trimer(driver):
    """HF/6-31G of PySCF, 19 fragments, all treatments."""
    water = """
    O  -1.1713  -1.1571  -0.0947
    H  -0.2329  -1.3694  -0.0338
    H  -1.5661  -1.6586   0.6252
    --
    O   1.5869  -0.4360  -0.1022
    H   1.1938   0.4401  -0.0292
    H   2.1832  -0.5215   0.6501
    --
    O  -0.4156   1.5923   0.1970
    H  -0.9054   0.7714   0.0863
    H  -0.5921   2.0985  -0.6027
    """
    tables = {
        "molecule": {"geometry": water},
        "mbe": {"bsse_type": ["cp", "nocp", "vmfc"], "max_nbody": 3, "driver": driver},
        "program": {"program": "pyscf", "method": "hf", "basis": "6-31g"},
        "run": {"workers": 2},
    }
    assert bits(mbexec.run(tables, executor="dask")) == bits(mbexec.run(tables, executor="serial"))


SAID = "The last that it printed:\nabout to die"


def test_a_fragment_that_kills_its_process_fails_alone(toys, events):
    """It runs twice, the second time without neighbours, with what it printed last; all others run once."""
    found = mbexec.run(toys.job({"[2, 4]": "die talking", "[0, 1]": "exit"}))
    first, second = messages_of(found)["[3, 5]"], messages_of(found)["[1, 2]"]
    assert first == "The worker process that ran this fragment was killed by signal 11 (SIGSEGV). " + SAID
    assert second == "The worker process that ran this fragment exited with code 3."
    assert toys.starts()["[2, 4]"] == toys.starts()["[0, 1]"] == 2
    assert sum(toys.starts().values()) == len(found.plan) + 2


def test_a_fragment_that_dies_once_is_no_failure(toys):
    """The same bits as without the death."""
    expected = bits(mbexec.run(toys.job(), executor="serial"))
    toys.log.unlink()
    found = mbexec.run(toys.job({"[1]": "die once", "[0, 5]": "die once"}))
    assert bits(found) == expected
    assert sum(toys.starts().values()) == len(found.plan) + 2


def test_a_fragment_is_killed_at_its_timeout(toys):
    """With what it had started; it is not tried again, and the limit holds for each attempt that `retries` allows."""
    deeds = {"[2, 3]": "hang with a child", "[0]": "try twice"}
    found = mbexec.run(toys.job(deeds, timeout=1.6, retries=1))
    assert messages_of(found) == {
        "[3, 4]": "This fragment took longer than task.timeout = 1.6 s and was killed.",
    }
    assert toys.starts()["[2, 3]"] == 1
    assert toys.starts()["[0]"] == 2
    assert not running(int(toys.left.read_text()))


def test_fragments_of_n_bodies_have_their_own_timeout(toys):
    """That of [task.2], here, and not that of all others."""
    tables = toys.job({"[2, 3]": "hang with a child"})
    tables["task"]["2"] = {"timeout": 1.0}
    (message,) = messages_of(mbexec.run(tables)).values()
    assert message == "This fragment took longer than task.timeout = 1 s and was killed."


def test_what_is_printed_comes_with_its_fragment(toys, events):
    """In Python and in child processes; of very much, the end."""
    mbexec.run(toys.job({"[1, 2]": "talk", "[0]": "talk much"}))
    said = {event["label"]: event["output"] for event in events if event["event"] == "fragment_output"}
    assert said['["(auto)", [2, 3], [2, 3]]'] == "in Python\nfrom a child\n"
    assert len(said['["(auto)", [1], [1]]']) == 65_536 + 3


def test_a_child_has_directories_of_its_own(toys, events, tmp_path):
    """For temporary files, and below `scratch_directory`; they go with the child."""
    base = tmp_path / "scratch"
    base.mkdir()
    found = mbexec.run(toys.job({"[0]": "tell of scratch", "[1]": "die once"}, scratch_directory=str(base)))
    assert found.result.success
    (said,) = [event["output"].split() for event in events if event["event"] == "fragment_output"]
    assert os.path.basename(said[0]).startswith("mbexec-")
    assert os.path.dirname(said[1]) == str(base)
    lived = len(list(base.iterdir()))
    assert 1 <= lived <= 2
    end_idle_children()
    assert soon(lambda: list(base.iterdir()) == [])


def end_idle_children():
    """As after a minute."""
    for child in list(children._Children.idle):
        child.idle_timeout = 0.0


def test_children_stay_warm_from_run_to_run_and_end_when_idle(toys):
    """The second run has the processes of the first; `idle_timeout` after that they are gone."""
    end_idle_children()
    assert soon(lambda: not children._Children.idle)
    tables = {**toys.job(pause=0.01), "plugin": {"dask": {"idle_timeout": 30.0}}}
    mbexec.run(tables)
    first = toys.processes()
    mbexec.run(tables)
    assert toys.processes() == first
    assert len(first) == 2
    end_idle_children()
    assert soon(lambda: not any(map(running, first)))
    assert soon(lambda: children._Children.watch is None)


def test_a_child_that_died_while_it_waited_is_replaced(toys):
    """Nobody notices but the process table."""
    mbexec.run(toys.job(pause=0.01))
    first = toys.processes()
    for pid in first:
        psutil.Process(pid).kill()
        assert soon(lambda pid=pid: not running(pid))
    assert mbexec.run(toys.job()).result.success
    assert toys.processes() > first


def test_children_follow_this_process(toys, tmp_path, monkeypatch):
    """Into another directory, and to another environment."""
    mbexec.run(toys.job(pause=0.01))
    there = tmp_path / "elsewhere"
    there.mkdir()
    monkeypatch.chdir(there)
    toys.log.unlink()
    assert mbexec.run(toys.job()).result.success
    assert {line.split()[-1] for line in toys.log.read_text().splitlines()} == {str(there)}


OTHER = (
    r"^The Dask worker 'inproc://.*' has other versions than this process: the program dask-toy 2\.0, "
    r"dask-toys 1\.0 \(here 1\.0, dask-toys 1\.0\)\. The numbers might differ; "
)
MISSING = r"^The Dask worker 'inproc://.*' can't get ready for the run: ProgramError: The program 'dask-toy' is not "
DEADLY = (
    r"^Worker processes die before they have run anything, 4 of them now; the last one exited with code 5\. "
    r"The last that it printed:\ncan't be loaded$"
)


@pytest.mark.parametrize(("name", "words"), [("TOY_VERSION", OTHER), ("NO_TOYS", MISSING), ("DEADLY_TOYS", DEADLY)])
def test_a_child_that_is_not_like_this_process_is_refused(name, words, toys, monkeypatch):
    """Before it has run anything that counts."""
    values = {"TOY_VERSION": "2.0"}
    original = children.Surroundings.here

    def changed():
        here = original()
        return children.Surroundings(here.directory, {**here.environment, name: values.get(name, "0")}, here.path)

    monkeypatch.setattr(children.Surroundings, "here", staticmethod(changed))
    with pytest.raises(ExecutorError, match=words):
        mbexec.run(toys.job())


def test_a_run_that_is_stopped_finishes_what_it_has_begun(toys):
    """Nothing new begins; what was sent gives its results."""
    from mbexec.core.engine import execute, read_job

    stop = threading.Event()
    spec, config = read_job(toys.job(nfr=12, pause=0.05), {})
    threading.Thread(target=lambda: soon(lambda: toys.processes()) and stop.set()).start()
    found = execute(spec, config, stop)
    assert not found.result.success
    assert found.report.failed == 0
    assert 0 < sum(toys.starts().values()) < len(found.plan)


def test_an_interrupt_kills_what_runs(toys, monkeypatch):
    """Nothing that a fragment started outlives it."""
    from mbexec.core.loop import Run

    def interrupted(self, task, result, queued):
        assert soon(lambda: toys.left.exists() and toys.left.read_text())
        raise KeyboardInterrupt

    monkeypatch.setattr(Run, "_taken", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mbexec.run(toys.job({"[0, 1]": "hang with a child"}))
    assert soon(lambda: not running(int(toys.left.read_text())))


def test_two_runs_at_once(toys):
    """In two threads, each with its own answer."""
    jobs = [job(6), job(7)]
    expected = [bits(mbexec.run(each, executor="serial")) for each in jobs]
    found = [None, None]

    def run(place):
        found[place] = bits(mbexec.run(jobs[place]))

    threads = [threading.Thread(target=run, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def test_messages_grow_with_short_tasks_and_not_with_long_ones(toys, monkeypatch):
    """Many tiny fragments share a message; those of a tenth of a second have one each."""
    from mbexec_dask.flow import Flow

    sizes = []
    submit = Flow._submit
    monkeypatch.setattr(
        Flow, "_submit", lambda flow, chunk, needs: sizes.append(len(chunk.tasks)) or submit(flow, chunk, needs)
    )
    mbexec.run(job(24, max_nbody=3))
    assert sizes[0] == 1
    assert max(sizes) > 50
    sizes.clear()
    mbexec.run(toys.job(pause=0.15, nfr=4))
    assert set(sizes) == {1}


def test_chunk_time_bounds_a_message(monkeypatch):
    """Seconds of work."""
    from mbexec_dask.flow import Flow

    sizes = []
    submit = Flow._submit
    monkeypatch.setattr(
        Flow, "_submit", lambda flow, chunk, needs: sizes.append(len(chunk.tasks)) or submit(flow, chunk, needs)
    )
    tables = job(24, {"sleep": 0.002})
    mbexec.run({**tables, "plugin": {"dask": {"chunk_time": 0.01}}})
    assert 1 < max(sizes) <= 5


def test_a_child_ends_with_its_worker(toys):
    """When the process of the run is killed, so is what runs, within seconds."""
    import subprocess
    import sys

    tables = toys.job({"[0, 1]": "hang with a child"})
    script = f"import sys; sys.path.insert(0, {str(toys.site)!r}); import mbexec; mbexec.run({tables!r})"
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    assert soon(lambda: toys.left.exists() and toys.left.read_text())
    process.kill()
    process.wait()
    assert soon(lambda: not running(int(toys.left.read_text())))
    assert soon(lambda: not any(map(running, toys.processes())))


def test_a_script_needs_no_main_guard(tmp_path):
    """Nothing of the script is imported again."""
    import subprocess
    import sys

    script = tmp_path / "script.py"
    script.write_text(f"import mbexec\nprint(mbexec.run({job()!r}).result.success)\n")
    start = time.monotonic()
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True\n", "")
    assert time.monotonic() - start < 60
