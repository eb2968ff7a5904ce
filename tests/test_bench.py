"""The bench: what it measures, what it finds wrong, what it advises, and what people see of it."""

import json
import math
import re
import signal
import subprocess
import threading
from pathlib import Path
from xml.etree import ElementTree

import attrs
import numpy as np
import psutil
import pytest

import mbexec
from mbexec import LevelReport, PluginNotFoundError, RunReport
from mbexec.bench import Bench, Case, Measured, Sample, advice, bench, comparison, page, plots
from mbexec.bench.advice import recommended
from mbexec.bench.sampling import Strata
from mbexec.core.resources import Grant
from mbexec.testing.waiting import until
from tests.commands import BAD_INPUT, COMMAND, DONE, FAILED, mbexec_
from tests.systems import WATER_TRIMER

ARGON = "\n--\n".join(f"Ar {3.7 * i} {0.4 * i * i} 0" for i in range(4))
OTHER_BITS = """
    import attrs, numpy as np
    from mbexec import hookimpl

    @attrs.define(eq=False)
    class Wrong:
        @hookimpl
        def submit_level(self, level, work):
            for task in level:
                found = work(task)
                if task.index == 5:
                    values = {**found.values, "energy": np.nextafter(found.values["energy"], 1.0)}
                    found = attrs.evolve(found, values=values)
                yield found
"""
PROGRAMS = """
    import os, signal
    from mbexec.core.potential import ModelPotential

    class Unsafe(ModelPotential):
        thread_safe = False

    class Deadly(ModelPotential):
        def compute(self, input_data, config):
            print("It was a mistake.", flush=True)
            os.write(2, b"One last word.")
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def job(tmp_path):
    """Write a job; of argon on the model potential unless it says something else."""

    def written(program="model-potential", max_nbody=3, geometry=ARGON, method="lj", **keywords):
        path = tmp_path / "job.toml"
        words = ", ".join(f"{key} = {json.dumps(value)}" for key, value in keywords.items())
        path.write_text(
            f'[molecule]\ngeometry = """\n{geometry}\n"""\n[mbe]\nbsse_type = "nocp"\nmax_nbody = {max_nbody}\n'
            f'driver = "gradient"\n[program]\nprogram = "{program}"\nmethod = "{method}"\nkeywords = {{{words}}}\n'
        )
        return path

    return written


# Runs


def test_a_job_on_executors(job, tmp_path):
    """Each in an interpreter of its own, with the same bits and no store; a page, its plots, and all figures."""
    path, data = tmp_path / "found.md", tmp_path / "found.json"
    words = ["--executors", "threads,loky", "-w", 2, "--repeat", 1, "--sample", "all"]
    done = mbexec_("bench", job(), *words, "-o", path, "--json", data, "--set", "run.store=kept.store")
    assert done.exit_code == DONE, done.stderr
    found = json.loads(data.read_text())
    cases = [("serial", 1), ("threads", 2), ("loky", 2)]
    assert [(case["executor"], case["workers"]) for case in found["cases"]] == cases
    for case in found["cases"]:
        assert (case["difference"], case["differing"], case["refused"], case["problem"]) == (0.0, 0, None, None)
        assert case["start"] > 0.1
        assert {run["executed"] for run in case["runs"]} == {14}
        assert case["wall_time"] == min(run["wall_time"] for run in case["runs"])
        assert case["speedup"] == pytest.approx(found["cases"][0]["wall_time"] / case["wall_time"])
        assert all(run["memory"] > 10 * 2**20 and run["worker_memory"] > 10 * 2**20 for run in case["runs"])
        assert (case["runs"][0]["bytes_moved"] is not None) == (case["executor"] == "loky")
    assert found["advice"].startswith("Take ")
    assert not list(tmp_path.glob("*.store"))
    assert found["advice"] in " ".join(done.stdout.split())
    assert "All 3 results are the same to the last bit." in done.stdout
    assert re.findall(r"^(\w+) +(\d) +[\d.]+ s, start", done.stderr, re.M) == [(name, str(n)) for name, n in cases]
    assert found["advice"] in path.read_text()
    for image in re.findall(r"!\[.+\]\((.+)\)", path.read_text()):
        assert ElementTree.parse(tmp_path / image).getroot().tag.endswith("svg")


def test_other_bits_are_found(job, install):
    """What differs, where, and by how much; exit code 1."""
    install("wrong", {"wrong": "Wrong"}, source=OTHER_BITS)
    done = mbexec_("bench", job(), "--executors", "wrong", "-w", 1, "--repeat", 1, "--sample", "all")
    assert done.exit_code == FAILED
    number = re.escape('the energy of ["(auto)", [1, 3], [1, 3]]')
    told = rf"Wrong: wrong with 1 worker: {number} is not serial's, nor are \d+ other numbers, by up to \d\.\de-\d\d; "
    assert re.search(rf"^{told}repeated serial runs give the same bits\.$", done.stderr, re.M)
    assert "1 thing is wrong." in done.stdout
    assert re.search("^wrong +differs ", done.stdout, re.M)


def test_other_bits_of_a_sample_are_found(job, install):
    """Number by number of the fragments, where there is no sum."""
    install("wrong", {"wrong": "Wrong"}, source=OTHER_BITS)
    found = bench(job(), ["wrong"], [1], repeat=1, sample=12)
    assert (len(found.sample.places), found.ntasks) == (11, 14)
    assert found.cases[1].differing == (1, 'the energy of ["(auto)", [1, 3], [1, 3]]')
    assert 0 < found.cases[1].difference < 1e-15
    assert found.serial.runs[0].report.executed == 11
    assert sum(number for number, _ in found.serial.runs[0].timing.values()) == 11
    assert len(found.problems) == 1


def test_what_does_not_run_is_a_row(job, install):
    """A program that is not safe in threads, an executor that is not installed: no mistake of anyone's."""
    install("programs", {"fragile": "Unsafe"}, source=PROGRAMS, group="mbexec.programs")
    words = ["--executors", "threads,quantum", "--workers", 2, "--repeat", 1, "--sample", "all"]
    done = mbexec_("bench", job("fragile"), *words)
    assert done.exit_code == DONE, done.stderr
    assert len(re.findall("^(?:threads|quantum) +does not run +2 +- ", done.stdout, re.M)) == 2
    assert "threads does not run this job: The program 'fragile' is not safe in threads" in done.stdout
    assert "quantum does not run this job: No executor named 'quantum' is installed." in done.stdout
    assert "Take serial: nothing ran with more workers." in done.stdout


def test_a_process_that_dies_is_told(job, install):
    """With its last words; nothing else runs without serial."""
    install("programs", {"deadly": "Deadly"}, source=PROGRAMS, group="mbexec.programs")
    found = bench(job("deadly"), ["threads"], [1], sample=0)
    told = "The process in which it ran ended without an answer (SIGKILL): One last word."
    assert found.problems == [f"serial with 1 worker: {told}"]
    assert not found.cases[1].runs
    assert advice(found) == "No recommendation: the job did not run on serial."


@pytest.mark.parametrize("sample", [0, 4])
def test_failed_fragments_are_told(job, sample):
    """How many, and what the first of them says."""
    found = bench(job("toy-potential", fail="unknown_error"), ["threads"], [1], sample=sample)
    ran = 14 if not sample else len(found.sample.places)
    failed = f"{ran} of {ran} fragment calculations failed, the first of them "
    assert found.problems[0].startswith(f"serial with 1 worker: {failed}")
    assert found.problems[0].endswith("The toy fails as it was asked to: unknown_error.")


def test_a_long_job_is_sampled(job, monkeypatch):
    """As many fragments as take so long on serial, by what one of each kind took."""
    monkeypatch.setattr(comparison, "_BUDGET", 0.15)
    found = bench(job("toy-potential", sleep=0.02), ["threads"], [2], repeat=1)
    assert 3 <= len(found.sample.places) < 8
    assert found.expected(found.serial) == pytest.approx(14 * 0.02, rel=0.5)
    assert found.problems == []
    assert any(
        note.startswith(f"The sample has {len(found.sample.places)} of 14 fragments") for note in page.notes(found)
    )


def test_a_bench_that_is_stopped(job, tmp_path):
    """What ran is killed, and what is known is given."""
    log, gate = tmp_path / "log", tmp_path / "gate"
    gate.touch()
    stop = threading.Event()

    def stop_once_it_runs():
        until(log.exists, 60)
        stop.set()

    threading.Thread(target=stop_once_it_runs).start()
    found = bench(job("toy-potential", log=str(log), wait=str(gate)), ["threads"], [1], sample=0, stop=stop)
    assert found.broken_off
    assert not any(case.runs for case in found.cases)
    pid = int(log.read_text().split()[1])
    assert until(lambda: not psutil.pid_exists(pid), 10)


def test_ctrl_c_shows_what_is_there(job):
    """The table so far, and exit code 130."""
    path = job("toy-potential", sleep=0.01)
    words = ["bench", path, "--executors", "threads", "-w", "2", "--repeat", "999", "--sample", "all"]
    with subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr.readline().startswith("serial ")
        assert process.stderr.readline().startswith("threads ")
        process.send_signal(signal.SIGINT)
        shown, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert told.endswith("Interrupted.\n")
    assert re.search("^serial +same bits +1 ", shown, re.M)
    assert "It was interrupted: some runs are missing." in shown


@pytest.mark.qc
def test_a_job_of_a_real_program(job):
    """The same bits from tblite on each executor."""
    path = job("tblite", 2, WATER_TRIMER, "GFN2-xTB")
    found = bench(path, ["threads", "loky"], [2], repeat=1, sample=0)
    assert found.problems == []
    assert [case.differing[0] for case in found.cases] == [0, 0, 0]
    assert found.program == "tblite GFN2-xTB"
    assert found.ntasks == 6


# Bad input


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--executors", "thread"], "No executor named 'thread' is installed. Did you mean threads?"),
        (["--executors", "nowhere"], "No executor named 'nowhere' is installed."),
        (["--executors", "sqlite"], "The plugin 'sqlite' is no executor. Installed executors: asyncio, "),
        (["--executors", "serial,,loky"], "'serial,,loky' is no list of executors, such as serial,threads."),
        (["--workers", "0"], "'0' is no list of numbers of workers, whole numbers from 1 up, such as 1,2."),
        (["--workers", "2,two"], "'2,two' is no list of numbers of workers"),
        (["--repeat", "0"], "0 is not in the range"),
        (["--sample", "some"], "'some' is no number of fragments from 1 up, nor 'all'."),
        (["--sample", "0"], "'0' is no number of fragments from 1 up, nor 'all'."),
        (["-o", "page.html"], "'page.html' is no name of a page in Markdown; end it with .md."),
        (["--json", "nowhere/data.json"], "the folder of 'nowhere/data.json' does not exist."),
        (["--set", "run.speed=11"], "unknown setting run.speed."),
    ],
)
def test_bad_input(job, words, told):
    """Nothing runs, and the message says what may be given."""
    done = mbexec_("bench", job(), *words)
    assert done.exit_code == BAD_INPUT
    assert told in done.stderr


def test_more_workers_than_cores(job, monkeypatch):
    """A warning, once."""
    monkeypatch.setattr(comparison, "granted_cores", lambda _: Grant(2, "the machine"))
    monkeypatch.setattr(comparison._Trial, "run", lambda self, repeat: None)
    with pytest.warns(UserWarning, match=r"3 workers are more than the 2 cores .* \(the machine\)"):
        found = bench(job(), ["threads"], [3], sample=0)
    assert [(case.executor, case.workers) for case in found.cases] == [("serial", 1), ("threads", 3)]
    found = bench(job(), ["threads"], sample=0)
    assert [(case.executor, case.workers) for case in found.cases] == [("serial", 1), ("threads", 1), ("threads", 2)]


def test_an_executor_among_others_may_be_missing(job):
    """But not all of them."""
    with pytest.raises(PluginNotFoundError, match="pip install mbexec-quantum"):
        bench(job(), ["quantum", "nebula"])


# Samples


def plan_of_sizes(*sizes):
    """The plan of a cluster whose fragments have so many argon atoms."""
    fragments = ["\n".join(f"Ar {4 * place} {4 * atom} 0" for atom in range(size)) for place, size in enumerate(sizes)]
    program = {"program": "model-potential", "method": "lj"}
    return mbexec.plan({"molecule": {"geometry": "\n--\n".join(fragments)}, "program": program})


def test_strata_are_fragments_of_one_cost():
    """Those of as many atoms, whatever their order."""
    plan = plan_of_sizes(1, 2, 1)
    strata = Strata.of_plan(plan)
    atoms = [sum((1, 2, 1)[i - 1] for i in task.frag) for task in plan]
    assert sorted(set(zip(atoms, strata.of.tolist(), strict=True))) == [(1, 0), (2, 1), (3, 2), (4, 3)]
    assert strata.counts.tolist() == [atoms.count(number) for number in (1, 2, 3, 4)]
    assert [atoms[place] for place in strata.first()] == [1, 2, 3, 4]
    assert [atoms[place] for place in strata.cheapest(5)] == [1, 1]


@pytest.mark.parametrize("number", [1, 5, 40, 91])
def test_a_sample_has_its_part_of_each_stratum(number):
    """As large as of all, but one at least; no fragment twice."""
    plan = plan_of_sizes(*[1] * 13)
    strata = Strata.of_plan(plan)
    places = strata.sample(number)
    assert len(set(places.tolist())) == len(places)
    found = np.bincount(strata.of[places], minlength=len(strata.mc))
    for had, of in zip(found, strata.counts, strict=True):
        assert had == min(of, max(1, round(number * of / len(plan))))


def test_strata_can_be_left_out():
    """Their time follows from those of the same program."""
    plan = plan_of_sizes(*[1] * 5)
    strata = Strata.of_plan(plan)
    assert set(strata.of[strata.sample(4, frozenset([1]))].tolist()) == {0, *range(2, len(strata.mc))}
    times = strata.times({0: (2, 4.0)})
    assert times == pytest.approx(2.0 * strata.cost / strata.cost[0])


def measured(executor, workers, wall, inside, *, alone=None, executed=10, path=0.1, **more):
    levels = (LevelReport(1, executed, executed, 0, 0, inside, inside, None, None, None),)
    given = {"memory": 200 * 2**20, "worker_memory": 100 * 2**20, "idle": 0.5, "critical_path": path, **more}
    return RunReport("r", executor, workers, 0.0, wall, levels, alone or inside, **given)


def case(executor, workers, wall, inside, start=1.0, difference=0.0, **more):
    return Case(executor, workers, (Measured(measured(executor, workers, wall, inside, **more)),), start, difference)


def made(*cases, **more):
    return Bench("job.toml", "pyscf hf/6-31g", 10, (case("serial", 1, 10.0, 9.0), *cases), **more)


def test_the_whole_job_is_predicted_from_a_sample():
    """Time in programs by stratum, what each fragment cost beyond, and no less than the longest of them."""
    strata = Strata(np.array([0] * 90 + [1] * 10), np.array([0, 0]), np.array([1.0, 8.0]))
    timing = {0: (9, 0.9), 1: (1, 1.0)}
    report = measured("threads", 2, 1.5, 1.9, executed=10)
    ran = Case("threads", 2, (Measured(report, timing, tail=0.6),), 1.0, 0.0)
    found = made(ran, sample=Sample(np.arange(0, 100, 10), strata))
    found = attrs.evolve(found, ntasks=100)
    beyond = (2 * 1.5 - 1.9 - 0.6) / 10
    assert found.expected(ran) == pytest.approx((90 * 0.1 + 10 * 1.0 + 100 * beyond) / 2)
    long = attrs.evolve(found.cases[1], runs=(Measured(report, {0: (9, 0.9), 1: (1, 30.0)}, 0.6),))
    few = attrs.evolve(found, sample=Sample(np.arange(2), attrs.evolve(strata, of=np.array([0, 1]))), ntasks=2)
    assert few.expected(long) == 30.0


# Advice


def test_numbers_of_a_case():
    """Speedup, efficiency, and workers' time beyond the program; of the fastest run."""
    one = case("loky", 2, 5.0, 8.0)
    slow = Measured(measured("loky", 2, 7.0, 8.0))
    found = made(attrs.evolve(one, runs=(slow, *one.runs)))
    threads = found.cases[1]
    assert (threads.wall, threads.slowest, found.speedup(threads), found.efficiency(threads)) == (5.0, 7.0, 2.0, 1.0)
    assert threads.beyond == pytest.approx((2 * 5.0 - 8.0) / 10)
    assert math.isnan(Case("dask", 2).beyond)


LOCKED = (
    "Take loky with 2 workers: 1.9 times as fast as serial. threads is 1.1 times as fast: fragments take 1.9 times as "
    "long there as on serial, since they wait for each other in one process, as programs do that hold Python's lock."
)
STARTS_SLOWLY = (
    "Take serial: loky with 2 workers is 1.7 times as fast once it runs, which saves 4 s of this job, but it takes 7 s "
    "longer to start."
)
NO_MATTER = (
    "Take serial: threads with 2 workers is 2.0 times as fast once it runs, and starts no later, but that saves 5 s "
    "of the 60 s that starting and running take: too little to tell from noise."
)
STARTS_LATER = (
    "Take serial: loky with 2 workers is 2.0 times as fast once it runs, but since it takes 4.5 s longer to start, it "
    "saves 0.5 s of the 11 s that starting and running take: too little to tell from noise."
)
SMALL = "Take serial: a fragment takes 0.9 s, and loky with 2 workers spends 1.5 s beyond its program on each."
SHARED = (
    "Take serial: nothing is more than 1.0 times as fast. Fragments take 2.1 times as long there as on serial: they "
    "share processors, memory or Python's lock."
)
ENOUGH = "Take threads with 2 workers: 2.0 times as fast as serial."


@pytest.mark.parametrize(
    ("cases", "told"),
    [
        ([case("threads", 2, 9.1, 17.0, alone=9.0), case("loky", 2, 5.2, 9.3, alone=9.2)], LOCKED),
        ([case("loky", 2, 6.0, 9.0, start=8.0)], STARTS_SLOWLY),
        ([case("loky", 2, 12.0, 9.0)], SMALL),
        ([case("loky", 2, 9.8, 19.0, alone=9.0)], SHARED),
        ([case("threads", 1, 5.0, 4.0)], "Take serial: nothing ran with more workers."),
        ([case("threads", 2, 5.1, 9.0), case("threads", 4, 5.0, 9.0)], ENOUGH),
    ],
)
def test_advice(cases, told):
    """What to take, and why; a gain that is none is not worth more workers."""
    assert advice(made(*cases)) == told


@pytest.mark.parametrize(
    ("at_start", "other", "told"),
    [
        (50.0, case("threads", 2, 5.0, 9.0, start=30.0), NO_MATTER),
        (1.0, case("loky", 2, 5.0, 9.0, start=5.5), STARTS_LATER),
    ],
)
def test_what_a_slow_start_leaves_of_a_gain(at_start, other, told):
    """Where starting takes most of the time, the advice does not say that no time at all outweighs the gain."""
    found = made(other)
    serial = attrs.evolve(found.serial, start=at_start)
    assert advice(attrs.evolve(found, cases=(serial, other))) == told


def test_advice_on_more_workers():
    """None can help where one fragment takes all the time."""
    found = made(case("threads", 2, 5.0, 9.0))
    serial = case("serial", 1, 10.0, 9.0, path=4.9)
    told = "More workers would gain nothing: the longest fragment alone takes 4.9 s."
    assert advice(attrs.evolve(found, cases=(serial, found.cases[1]))).endswith(told)


def test_what_is_wrong_is_not_recommended():
    """However fast it is."""
    found = made(attrs.evolve(case("loky", 2, 1.0, 1.0), problem="It differs."), case("threads", 2, 5.0, 9.0))
    assert recommended(found).executor == "threads"


@pytest.mark.parametrize(("spread", "wrong"), [(0.0, True), (1e-12, True), (1e-10, False)])
def test_differences_are_held_against_serial_s_own(spread, wrong):
    """A program that gives other bits each time is no fault of the executor's."""
    given = attrs.evolve(case("threads", 2, 5.0, 9.0, difference=5e-10), differing=(3, "the energy"))
    judged = comparison._judged(given, spread)
    assert bool(judged.problem) == wrong
    if wrong:
        told = "threads with 2 workers: the energy is not serial's, nor are 2 other numbers, by up to 5.0e-10; "
        said = f"repeated serial runs differ by {spread:.1e}." if spread else "repeated serial runs give the same bits."
        assert judged.problem == told + said
    else:
        found = made(judged, spread=spread)
        assert page.verdict(found) == "All 2 results agree as well as serial repeats."
        note = "threads with 2 workers differs from serial by 5.0e-10, repeated serial runs by 1.0e-10."
        assert note in page.notes(found)


# What people see


@pytest.mark.sources
def test_the_docs_explain_every_column():
    """In the table's order; and the table that is shown has them."""
    text = (Path(__file__).parents[1] / "docs/bench.md").read_text(encoding="utf-8")
    explained = [cells[0] for cells in re.findall(r"^\| ([a-z ]+) \| (.*) \|$", text, re.M)]
    tables = page.sheets(sampled())
    columns = {column.partition(" / ")[0] for table in tables for column in table.columns}
    assert sorted(explained[1:]) == sorted(columns - {"executor", "workers"})
    (shown,) = re.findall(r"^```console illustration\n(.*?)^```$", text, re.M | re.S)
    for table in page.sheets(made()):
        assert set(" ".join(table.columns).split()) <= set(shown.split())


def test_a_bench_of_which_nothing_ran_can_be_shown(tmp_path):
    """It was interrupted at once."""
    found = Bench("job.toml", "p", 10, (Case("serial", 1), Case("threads", 2)), broken_off=True)
    assert page.verdict(found) == "Nothing ran to its end."
    for table in page.sheets(found):
        assert {cell for group in table.groups for row in group for cell in row[3:]} == {"-"}
    assert len(page.files(found, tmp_path / "page.md")) == 3
    assert [one["wall_time"] for one in page.as_dict(found)["cases"]] == [None, None]


def test_the_tables():
    """A row for each case in both, a dash where nothing was measured."""
    ran = case("loky", 2, 5.0, 9.5, alone=5.0, start=2.5, bytes_moved=(2**20, 2**19))
    found = made(ran, Case("dask", 2, refused="It is far away."), Case("near", 1, problem="It broke."), Case("late", 2))
    times, costs = page.sheets(found)
    assert times.title == "job.toml: 10 fragment calculations, pyscf hf/6-31g"
    assert times.groups == (
        (("serial", "same bits", "1", "10.0", "1.00", "100 %", "1.00"),),
        (("loky", "same bits", "2", "5.00", "2.00", "100 %", "2.50"),),
        (("dask", "does not run", "2", *["-"] * 4),),
        (("near", "failed", "1", *["-"] * 4),),
        (("late", "-", "2", *["-"] * 4),),
    )
    assert costs.groups == (
        (("serial", "1", "1.00", "100", "0.500", "200", "100", "-"),),
        (("loky", "2", "1.90", "50.0", "0.500", "200", "100", "1.5"),),
        *(((name, number, *["-"] * 6),) for name, number in (("dask", "2"), ("near", "1"), ("late", "2"))),
    )
    assert page.line(found, found.cases[2]).split() == ["dask", "2", "does", "not", "run"]


def test_noise_is_told():
    """A busy machine, runs that differ, and a speedup that cannot be."""
    fast = case("threads", 2, 2.0, 3.0)
    found = made(attrs.evolve(fast, runs=(*fast.runs, Measured(measured("threads", 2, 4.0, 3.0)))), load=2.1, cores=4)
    assert advice(found).endswith(" But the machine was busy: measure again when it is not.")
    assert page.notes(found) == [
        "The load average was 2.1 on 4 cores before the first run: times mean little.",
        "Runs of threads with 2 workers took from 2.00 to 4.00 s: other work disturbed them.",
        "threads with 2 workers is 5.0 times as fast as serial: other work disturbed the times.",
    ]
    assert page.notes(made(load=1.9, cores=4)) == []


def sampled():
    """A bench of nine fragments that stand for a hundred, ten of which are too large."""
    strata = Strata(np.array([0] * 90 + [1] * 10), np.array([0, 0]), np.array([1.0, 8.0]))
    runs = (Measured(measured("serial", 1, 1.0, 0.9, executed=9), {0: (9, 0.9)}),)
    return Bench(
        "big.toml", "p", 100, (Case("serial", 1, runs, 1.0, 0.0),), Sample(np.arange(9), strata, frozenset([1]))
    )


def test_a_page_of_a_sample_says_so(tmp_path):
    """What stood for what, and what was left out."""
    found = sampled()
    text = next(iter(page.files(found, tmp_path / "page.md").values()))
    assert "10 of the largest fragments are not in it, since each takes too long" in text
    assert "| whole job / s |" in text
    assert found.expected(found.serial) == pytest.approx(90 * 0.1 + 10 * 0.8 + 100 * 0.1 / 9)
    assert page.as_dict(found)["sample"] == list(range(9))


def test_plots():
    """A point for each case that ran, the ideal, and the bound where it is below that."""
    found = made(
        case("threads", 1, 10.5, 9.0), case("threads", 2, 5.0, 9.0), case("loky", 2, 6.0, 9.0), Case("dask", 2)
    )
    wall, speed = plots.speed_figure(found).axes
    drawn = {line.get_label(): line.get_xydata().tolist() for line in speed.lines}
    assert drawn == {
        "serial": [[1.0, 1.0]],
        "threads": [[1.0, pytest.approx(10 / 10.5)], [2.0, 2.0]],
        "loky": [[2.0, pytest.approx(10 / 6)]],
        "ideal": [[0.0, 0.0], [2.0, 2.0]],
    }
    assert {line.get_label(): line.get_ydata().tolist() for line in wall.lines}["threads"] == [10.5, 5.0]
    bound = attrs.evolve(found, cases=(case("serial", 1, 10.0, 9.0, path=6.0), *found.cases[1:]))
    lines = {line.get_label(): line.get_ydata() for line in plots.speed_figure(bound).axes[1].lines}
    assert list(lines["bound by the\nlongest fragment"]) == [1.5, 1.5]


def test_the_plot_of_time_adds_up():
    """To the time of all workers; the parts are what they say."""
    found = made(case("threads", 2, 5.0, 9.0, alone=6.0))
    (axes,) = plots.time_figure(found).axes
    parts = [[bar.get_width() for bar in bars] for bars in axes.containers]
    assert [parts[part][1] for part in range(4)] == [6.0, 3.0, 0.5, pytest.approx(0.5)]
    assert [sum(widths) for widths in zip(*parts, strict=True)] == pytest.approx([10.0, 10.0])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["serial, 1", "threads, 2"]
