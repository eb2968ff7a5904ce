"""What QCEngine is told of the host: complete whenever it asks, and never waited for by those who don't."""

import getpass
import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import attrs
import cpuinfo
import pytest
from qcengine import config

import mbexec
from mbexec.core import engine, host
from mbexec.core.engine import make_plan, read_job
from mbexec.core.host import ask_early, describe_host, host_description, node_settings, task_config
from mbexec.core.prepare import context_of
from mbexec.core.program import Programs
from mbexec.core.settings import TaskSettings
from tests.programs import Toy
from tests.systems import WATER_TRIMER, argon, job

TASK = TaskSettings(ncores=1, memory=1.0)


class Asked:
    """py-cpuinfo's stand-in, which counts how often it is asked and may have to be let through."""

    def __init__(self):
        self.times = 0
        self.entered = threading.Event()
        self.open = threading.Event()
        self.open.set()
        self.raises = []

    def __call__(self):
        self.times += 1
        self.entered.set()
        assert self.open.wait(60)
        if self.raises:
            raise self.raises.pop(0)
        return {"brand_raw": "Abacus 1", "flags": ["fast"]}


@pytest.fixture
def asked(monkeypatch):
    """Nothing is known of the host yet, and py-cpuinfo is not what answers."""
    stand_in = Asked()
    monkeypatch.setattr(cpuinfo, "get_cpu_info", stand_in)
    monkeypatch.setattr(config, "_global_values", None)
    monkeypatch.setattr(host, "_processor", host._Processor())
    return stand_in


def test_what_qcengine_finds_out_by_itself(monkeypatch):
    """The same names and values; but for the free memory, which is another a moment later, and clock rates."""
    monkeypatch.setattr(config, "_global_values", None)
    theirs = config.get_global()
    monkeypatch.setattr(config, "_global_values", None)
    describe_host()
    ours = config.get_global()
    assert ours.keys() == theirs.keys()
    fickle = {"memory", "cpuinfo"}
    assert {k: v for k, v in ours.items() if k not in fickle} == {k: v for k, v in theirs.items() if k not in fickle}
    assert ours["memory"] == pytest.approx(theirs["memory"], rel=0.5)
    assert ours["cpuinfo"].keys() == theirs["cpuinfo"].keys()
    assert ours["cpuinfo"]["brand_raw"] == ours["cpu_brand"]


@pytest.mark.parametrize("left", [None, {}, {"hostname": "half", "memory": 1.0}], ids=["none", "empty", "half"])
def test_what_is_left_half_filled_is_made_anew(left, asked, monkeypatch):
    """QCEngine's own first call may have been interrupted, or be under way in another thread."""
    monkeypatch.setattr(config, "_global_values", left)
    describe_host()
    assert config.get_global("hostname") == socket.gethostname()
    assert config.get_provenance_augments()["cpu"] == "Abacus 1"


def test_what_is_complete_stays(asked, monkeypatch):
    """QCEngine's own, made by an earlier call of somebody else."""
    complete = {"hostname": "elsewhere", "cpu_brand": "Difference Engine"}
    monkeypatch.setattr(config, "_global_values", complete)
    describe_host({"hostname": socket.gethostname(), "cpu_brand": "Abacus 2"})
    assert config._global_values is complete
    assert host_description(complete=True) == complete


def test_the_processor_is_not_waited_for_by_those_who_do_not_ask(asked):
    """QCEngine's configuration of a task, as NWChem's harness asks for it, needs memory and cores alone."""
    asked.open.clear()
    describe_host()
    assert config.get_config().ncores == config.get_global("ncores")
    assert config.get_global("username") == getpass.getuser()
    assert asked.times == 0
    assert "cpu_brand" not in host_description(complete=False)


def test_it_is_asked_once_however_many_threads_want_to_know(asked):
    """They wait for the one that came first."""
    describe_host()
    asked.open.clear()
    with ThreadPoolExecutor(16) as pool:
        brands = [pool.submit(config.get_global, "cpu_brand") for _ in range(16)]
        asked.entered.wait(60)
        asked.open.set()
        assert {brand.result() for brand in brands} == {"Abacus 1"}
    assert asked.times == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError("no such file")])
def test_an_interrupted_or_failed_question_leaves_nothing_behind(error, asked):
    """Who asked is told; who asks next asks anew."""
    describe_host()
    asked.raises.append(error)
    with pytest.raises((KeyboardInterrupt, OSError)):
        config.get_global()
    assert config.get_global()["cpuinfo"] == {"brand_raw": "Abacus 1", "flags": ["fast"]}


@pytest.mark.parametrize(
    ("answer", "brand"), [({"brand_raw": "new"}, "new"), ({"brand": "old"}, "old"), ({"bits": 64}, "(unknown)")]
)
def test_the_name_of_the_processor(answer, brand, asked, monkeypatch):
    """As older versions of py-cpuinfo call it, or not at all."""
    monkeypatch.setattr(cpuinfo, "get_cpu_info", lambda: answer)
    describe_host()
    assert config.get_global("cpu_brand") == brand


@pytest.mark.parametrize(
    ("granted", "physical", "ncores"), [(8, 4, 4), (8, None, 8), (3, 4, 3)], ids=["all", "unknown", "granted"]
)
def test_cores_as_qcengine_counts_them(granted, physical, ncores, asked, monkeypatch):
    """Hyperthreads don't count, unless the process has been given some cores of them all."""
    import psutil

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(granted)))
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda _: list(range(granted)))
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else physical)
    found = []
    for prepare in (describe_host, lambda: None):
        monkeypatch.setattr(config, "_global_values", None)
        prepare()
        found.append(config.get_global("ncores"))
    assert found == [ncores, ncores]


def test_cores_where_a_process_is_granted_none_in_particular(asked, monkeypatch):
    """As QCEngine does elsewhere than on Linux: those that there are."""
    import psutil

    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delattr(psutil.Process, "cpu_affinity")
    found = []
    for prepare in (describe_host, lambda: None):
        monkeypatch.setattr(config, "_global_values", None)
        prepare()
        found.append(config.get_global("ncores"))
    assert found[0] == found[1]


def test_what_another_process_of_this_host_has_found(asked):
    """It is not found out again."""
    describe_host({"hostname": socket.gethostname(), "cpu_brand": "Abacus 2"})
    assert config.get_provenance_augments()["cpu"] == "Abacus 2"
    assert asked.times == 0


def test_what_another_host_has_found(asked):
    """It says nothing of this one."""
    describe_host({"hostname": "elsewhere", "cpu_brand": "Abacus 2"})
    assert config.get_provenance_augments()["cpu"] == "Abacus 1"
    assert config.get_global("hostname") == socket.gethostname()


def test_without_a_description(monkeypatch):
    """There is nothing to hand over, and half of one is not handed over either."""
    monkeypatch.setattr(config, "_global_values", {"hostname": "half"})
    assert host_description(complete=True) is None


def test_asking_early(asked):
    """The question is on its way while others do something else, who then wait for its answer."""
    asked.open.clear()
    ask_early()
    assert asked.entered.wait(60)
    describe_host()
    asked.open.set()
    assert config.get_global("cpu_brand") == "Abacus 1"
    assert asked.times == 1


def test_asking_early_in_vain(asked):
    """Nobody hears of what went wrong but who needs the answer, and for him it is asked again."""
    asked.raises += [OSError("early"), OSError("late")]
    ask_early()
    for thread in threading.enumerate():
        if thread.name == "mbexec-host":
            thread.join()
    describe_host()
    with pytest.raises(OSError, match="late"):
        config.get_global("cpu_brand")


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_its_parents_thread():
    """Which is not in it, though it has taken the lock with it."""
    with host._processor._lock:
        child = os.fork()
        if not child:
            os._exit(0 if host._processor._lock.acquire(timeout=5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


WANTED = {"cluster_results": "all"}
SCHEMA = {"specification": {"protocols": WANTED}}


@pytest.mark.parametrize(
    ("spec", "settings", "early"),
    [
        (job(argon(2)), {}, False),
        (job(argon(2), **WANTED), {}, True),
        (job(argon(2), **WANTED), {"mbe.cluster_results": "none"}, False),
        (job(argon(2)), {"mbe.cluster_results": "all"}, True),
        (SCHEMA, {}, True),
        ({"specification": {}}, {}, False),
    ],
    ids=["none", "job", "taken back", "argument", "qcschema", "no protocols"],
)
def test_who_asks_early(spec, settings, early, monkeypatch):
    """Runs whose results will tell of the processor, before their input is read."""
    seen = []
    monkeypatch.setattr(engine, "ask_early", lambda: seen.append(True))
    try:
        read_job(spec, settings, to_run=True)
    except mbexec.InputError:
        assert spec is SCHEMA or not early  # it is not read to its end, and need not be
    assert seen == [True] * early


def context(**mbe):
    spec, read = read_job(job(argon(2), program={"program": "toy", "method": "lj"}, **mbe), {})
    return context_of(make_plan(spec, read), read)


@pytest.mark.parametrize(
    ("module", "mbe", "complete"),
    [("qcengine.programs.toy", {}, False), ("qcengine.programs.toy", WANTED, True), ("__main__", {}, True)],
    ids=["QCEngine's own", "whole results", "somebody's"],
)
def test_what_workers_are_told_of_the_host(module, mbe, complete, asked, monkeypatch):
    """Everything, where a result or a harness that we don't know may ask; else nobody waits for the processor."""
    from qcengine.programs.base import programs

    class Theirs(Toy):
        pass

    Theirs.__module__ = module
    monkeypatch.setitem(programs, "toy", Theirs())
    sent = Programs(context(**mbe)).portable()
    assert ("cpu_brand" in sent.host) == complete
    assert asked.times == complete


@pytest.mark.qc
def test_a_run_that_never_asks(tmp_path):
    """MOPAC through QCEngine's harness in worker processes of a fresh interpreter, where py-cpuinfo can only fail."""
    (tmp_path / "cpuinfo.py").write_text("def get_cpu_info():\n    raise AssertionError('somebody asked')\n")
    tables = job(WATER_TRIMER, max_nbody=1, program={"program": "mopac", "method": "pm7"})
    script = (
        f"import mbexec\nfound = mbexec.run({tables!r}, executor='loky', workers=2)\nassert found.result.success, found"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_the_configuration_of_a_task(asked):
    """Ours as it is, where `qcengine.yaml` says nothing."""
    found = task_config(attrs.evolve(TASK, retries=3, scratch_directory="/tmp"))
    assert (found.ncores, found.memory, found.retries, found.scratch_directory) == (1, 1.0, 3, "/tmp")
    assert found.mpiexec_command is None


@pytest.fixture
def node(monkeypatch):
    """What `qcengine.yaml` says of this host and of others."""
    there = {
        "other": config.NodeDescriptor(name="other", hostname_pattern="nowhere*", ncores=64),
        "here": config.NodeDescriptor(
            name="here",
            hostname_pattern=f"{socket.gethostname()[:3]}*",
            ncores=12,
            jobs_per_node=3,
            memory=60,
            memory_safety_factor=10,
            scratch_directory="/scratch",
            mpiexec_command="mpirun -n {total_ranks} -N {ranks_per_node}",
        ),
    }
    monkeypatch.setattr(config, "NODE_DESCRIPTORS", there)
    return there


def test_the_configuration_of_a_task_over_several_nodes(node, asked):
    """With the command that starts the program there."""
    found = task_config(attrs.evolve(TASK, nnodes=2))
    assert found.mpiexec_command.startswith("mpirun -n {total_ranks}")
    assert (found.nnodes, found.use_mpiexec, found.ncores) == (2, True, 1)


def test_settings_of_this_node(node):
    """Per job of a node, with QCEngine's margin of memory; what is not said is left out."""
    assert node_settings() == {"ncores": 4, "memory": 18.0, "scratch_directory": "/scratch"}
    del node["here"]
    assert node_settings() == {}


def test_settings_without_qcengine(monkeypatch):
    """There are none."""
    monkeypatch.setattr(host, "have_engine", lambda: False)
    assert node_settings() == {}
    monkeypatch.setattr(threading, "Thread", None)
    ask_early()  # starts nothing


def test_a_broken_file_of_qcengine(monkeypatch):
    """QCEngine reads it on import; the error says which file."""
    monkeypatch.setitem(sys.modules, "qcengine.config", None)
    with pytest.raises(mbexec.ConfigError, match=r"^qcengine\.yaml can't be read: import of qcengine\.config halted"):
        node_settings()
