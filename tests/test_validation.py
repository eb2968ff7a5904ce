"""Validation: what is found wrong, what is found right, and what people see of it."""

import math
import os
import re
import subprocess
import sys
from itertools import count
from urllib.parse import unquote
from xml.etree import ElementTree

import attrs
import numpy as np
import pytest

import mbexec
from mbexec import ConfigError, LevelReport, PluginNotFoundError, ProgramError, RunReport, TaskError, hookimpl
from mbexec.core.convergence import warn_of_errors
from mbexec.core.potential import ModelPotential
from mbexec.reports.svg import check_library
from mbexec.validation import (
    Executor,
    Outcome,
    System,
    Tried,
    Validation,
    argon_cluster,
    comparison,
    page,
    plots,
    sheets,
    standard_systems,
    systems,
    validate,
)
from mbexec.validation.agreement import difference_between
from tests.commands import BAD_INPUT, COMMAND, DONE, FAILED, mbexec_
from tests.executors import Serial
from tests.systems import WATER_TRIMER

SMALL = argon_cluster(4)
DIMER = "O 0 0 0\nH 0 0.76 -0.47\nH 0 -0.76 -0.47\n--\nO 0 0.1 2.9\nH 0 0.7 3.4\nH 0 -0.7 3.5"


class OneBit(Serial):
    """Changes the last bit of one fragment's energy."""

    def changed(self, result, work):
        energy = result.values["energy"]
        values = {**result.values, "energy": np.nextafter(energy, 1.0)} if result.index == 5 else result.values
        return [attrs.evolve(result, values=values)]


class OneBitOfAGradient(Serial):
    """Changes the last bit of one component of one fragment's gradient."""

    def changed(self, result, work):
        gradient = result.values["gradient"].copy()
        if result.index == 5:
            gradient[1, 2] = np.nextafter(gradient[1, 2], 1.0)
        return [attrs.evolve(result, values={**result.values, "gradient": gradient})]


class Sometimes(OneBit):
    """Only in the second timed run; the monomers count as one before."""

    def changed(self, result, work):
        Sometimes.runs = getattr(Sometimes, "runs", 0) + (result.index == 0)
        return super().changed(result, work) if Sometimes.runs == 2 else [result]


class Losing(Serial):
    """Says that fragments failed."""

    def changed(self, result, work):
        wrong = attrs.evolve(result, values={}, error=TaskError("random_error", "a cosmic ray"))
        return [wrong if result.index in (5, 6) else result]


class Breaking(Serial):
    """Breaks."""

    @hookimpl
    def submit_level(self, level, work):
        raise OSError("no network")


class Unsafe(ModelPotential):
    """Must not run twice at once in a process."""

    thread_safe = False


class Noisy(ModelPotential):
    """Never gives the same energy twice."""

    ticks = count()

    def compute(self, input_data, config):
        found = super().compute(input_data, config)
        energy = found.properties.return_energy + 1e-12 * (next(self.ticks) % 7)
        return found.model_copy(update={"properties": found.properties.model_copy(update={"return_energy": energy})})


class Fragmented(ModelPotential):
    """Takes a fragment for something else than a molecule of its own."""

    def compute(self, input_data, config):
        found = super().compute(input_data, config)
        if "(" not in input_data.molecule.name:
            return found
        energy = found.properties.return_energy + 1e-6
        return found.model_copy(update={"properties": found.properties.model_copy(update={"return_energy": energy})})


class Piecemeal(ModelPotential):
    """Computes no cluster that was not cut out of one."""

    def compute(self, input_data, config):
        if "(" not in input_data.molecule.name:
            raise mbexec.InputError("It is too large.")
        return super().compute(input_data, config)


@pytest.fixture(autouse=True)
def one_run(monkeypatch):
    """Short systems are run once, not five times."""
    monkeypatch.setattr(comparison, "_MOST", 1)


def with_program(name, **keywords):
    """The small cluster on another program."""
    program = {"program": name, "method": "lj", **({"keywords": keywords} if keywords else {})}
    return attrs.evolve(SMALL, program=program)


@pytest.fixture
def program(install):
    """Install a program for a test."""

    def of(name, cls):
        install(f"{name}-program", {name: cls}, group="mbexec.programs")
        return with_program(name)

    return of


def tried(found, executor):
    """The only system on an executor."""
    (outcome,) = found.outcomes
    return next(each for each in outcome.tried if each.executor == executor)


# What is right


def test_executors_agree():
    """The same bits from each, and everything as it is known to be."""
    found = validate([SMALL], ["threads", "asyncio"])
    assert found.problems == []
    (outcome,) = found.outcomes
    assert [each.executor for each in outcome.tried] == ["serial", "asyncio", "threads"]
    assert [each.difference for each in outcome.tried] == [0.0, 0.0, 0.0]
    assert [each.spread for each in outcome.tried] == [None, None, None]
    assert len(outcome.checks) == 4


def test_every_installed_executor_takes_part():
    """Unless some are named; serial is the first in any case."""
    config = mbexec.run(SMALL.job).config
    names = [each.name for each in comparison._installed([], config)]
    assert names[0] == "serial"
    assert {"asyncio", "loky", "threads"} < set(names)
    assert [each.name for each in comparison._installed(["threads"], config)] == ["serial", "threads"]


def test_workers_are_as_many_as_wanted():
    """Each executor says how many it had."""
    found = validate([SMALL], ["threads"], workers=3)
    assert (tried(found, "serial").report.workers, tried(found, "threads").report.workers) == (1, 3)


def test_what_is_about_to_run_is_told():
    """A line before each run."""
    lines = []
    validate([SMALL], ["threads"], tell=lines.append)
    assert lines == ["model-potential on serial", "model-potential on threads"]


def test_stores_and_reporters_take_no_part(tmp_path):
    """What a store knows proves nothing."""
    (tmp_path / "mbexec.toml").write_text('[run]\nstore = "nowhere"\nreporters = ["nobody"]\n')
    assert validate([SMALL], ["threads"]).problems == []


def test_other_settings_of_the_user_hold(tmp_path):
    """It is the user's installation that is tried."""
    (tmp_path / "mbexec.toml").write_text("[run]\nworkers = 3\n")
    assert tried(validate([SMALL], ["threads"]), "threads").report.workers == 3


@pytest.mark.parametrize("nfr", [13, 20])
def test_argon_atoms_are_not_too_close(nfr):
    """Each cluster is one that the potential is meant for."""
    molecule = mbexec.plan(argon_cluster(nfr).monomers.job).spec.molecule
    apart = np.linalg.norm(molecule.geometry[:, None] - molecule.geometry, axis=2)[np.triu_indices(nfr, 1)]
    assert len(np.unique(apart.round(6))) == len(apart)
    assert 5.0 < apart.min() < 8.0


def test_standard_systems_are_well_converged():
    """No warning about errors that grow; nocp is the first treatment and the expansion is complete."""
    for system in standard_systems():
        plan = mbexec.plan(system.job)
        assert system.bsse[0] == "nocp"
        assert system.max_nbody == len(plan.spec.molecule.fragments) or system.name == "model-potential"
        warn_of_errors(plan)


# What is wrong


@pytest.mark.parametrize(
    ("executor", "number"),
    [(OneBit, "the energy of"), (OneBitOfAGradient, "return_gradient of"), (Sometimes, "the energy of")],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_one_bit_is_found(install, executor, number, monkeypatch):
    """The executor, the number and the difference are named, whichever run it is in."""
    monkeypatch.setattr(comparison, "_MOST", 2)
    install("wrong", {"wrong": executor})
    found = validate([SMALL], ["wrong"])
    (problem,) = found.problems
    where = re.escape('["(auto)", [1, 3], [1, 3]]')
    told = (
        rf"model-potential on wrong: {number} {where} is not serial's, nor are \d+ other numbers, by up to \d\.\de-\d\d"
    )
    assert re.fullmatch(told + r"; repeated serial runs give the same bits\.", problem)
    assert 0 < tried(found, "wrong").difference < 1e-15


def test_a_missing_number_is_found():
    """However equal the rest is."""
    one = {"a": np.ones(3), "b": np.ones(2)}
    assert difference_between(one, {"a": np.ones(3)}) == ("b", math.inf, 1)
    assert difference_between({"a": np.ones(3)}, one) == ("b", math.inf, 1)
    assert difference_between({"a": np.ones(3)}, {"a": np.ones(2)}) == ("a", math.inf, 1)
    assert difference_between({"a": np.zeros(1)}, {"a": -np.zeros(1)}) == ("a", 0.0, 1)
    assert difference_between(one, one) == ("", 0.0, 0)


def test_failed_fragments_are_found(install):
    """How many, and the first of them in the program's words."""
    install("losing", {"losing": Losing})
    (problem,) = validate([SMALL], ["losing"]).problems
    first = '["(auto)", [1, 3], [1, 3]]: a cosmic ray'
    assert problem == (f"model-potential on losing: 2 of 15 fragment calculations failed, the first of them {first}")


def test_a_broken_executor_is_found(install):
    """In its own words; the others go on."""
    install("breaking", {"breaking": Breaking})
    found = validate([SMALL], ["breaking", "threads"])
    assert found.problems == ["model-potential on breaking: The executor 'breaking' broke: OSError: no network"]
    assert tried(found, "threads").difference == 0.0


def test_an_executor_that_cannot_be_imported_is_found(install):
    """It takes no part."""
    install("absent", {"absent": "Missing"}, source="import nothing_of_that_name")
    found = validate([SMALL], ["threads"])
    assert found.problems == []
    with pytest.raises(mbexec.PluginError, match="nothing_of_that_name"):
        validate([SMALL], ["absent"])


def test_an_executor_that_cannot_be_built_is_found(install, tmp_path):
    """A setting that it does not know is no refusal of a program."""
    install("plain", {"plain": Serial})
    (tmp_path / "mbexec.toml").write_text("[plugin.plain]\ncolour = 1\n")
    found = validate([SMALL], ["plain"])
    (problem,) = found.problems
    assert "unknown setting plugin.plain.colour" in problem
    assert [each.executor for each in found.outcomes[0].tried] == ["serial"]


def test_without_serial_nothing_is_compared(program):
    """A program that fails there fails everywhere."""
    system = program("piecemeal", Piecemeal)
    found = validate([attrs.evolve(system, program={**system.program, "method": "xyzzy"})], ["threads"])
    (problem,) = found.problems
    assert problem.startswith("piecemeal on serial: 15 of 15 fragment calculations failed, the first of them ")
    assert [each.executor for each in found.outcomes[0].tried] == ["serial"]


def test_a_program_that_breaks_is_found(install):
    """Even where it does not break as programs do."""
    install("odd-program", {"odd": "Odd"}, group="mbexec.programs", source="raise OSError('wrong ELF class')")
    found = validate([with_program("odd"), SMALL], ["threads"])
    assert found.problems == ["odd on serial: OSError: wrong ELF class"]
    assert [outcome.version for outcome in found.outcomes] == [
        "-",
        mbexec.core.potential.ModelPotential().get_version(),
    ]


def test_a_program_that_is_refused_is_told(program):
    """With the reason; it is nothing wrong."""
    found = validate([program("fragile", Unsafe)], ["threads"], workers=2)
    assert found.problems == []
    assert "not safe in threads" in tried(found, "threads").refused
    (note,) = [note for note in page.notes(found) if "refused" in note]
    assert note.startswith("fragile on threads is refused: The program 'fragile' is not safe in threads")


def test_noise_of_a_program_is_measured(program):
    """What serial runs differ by among themselves, other executors may."""
    lines = []
    found = validate([program("noisy", Noisy)], ["threads"], tell=lines.append)
    assert [each.problem for each in found.outcomes[0].tried] == [None, None]
    one = tried(found, "threads")
    assert 0 < one.difference < 1e-9
    assert 0 < one.spread < 1e-9
    assert any(note.startswith("noisy on threads differs by") for note in page.notes(found))
    assert "noisy on serial again, to see if it gives the same bits each time" in lines


def test_noise_hides_nothing_larger(program, install):
    """A difference far beyond what serial runs differ by is found."""
    system = program("noisy", Noisy)

    class Far(Serial):
        def changed(self, result, work):
            return [attrs.evolve(result, values={**result.values, "energy": result.values["energy"] + 1e-6})]

    install("far", {"far": Far})
    (problem,) = [line for line in validate([system], ["far"]).problems if "noisy on far" in line]
    assert re.search(r"by up to \d\.\de-\d\d; repeated serial runs differ by \d\.\de-\d\d\.$", problem)


@pytest.mark.parametrize(("change", "right"), [(1e-10, True), (1e-3, False)])
def test_noise_that_is_known(program, install, change, right):
    """Serial runs may happen to agree with one another where a program is not deterministic."""
    system = attrs.evolve(program("quiet", ModelPotential), noise=1e-10)

    class Near(Serial):
        def changed(self, result, work):
            return [attrs.evolve(result, values={**result.values, "energy": result.values["energy"] * (1 + change)})]

    install("near", {"near": Near})
    problems = [line for line in validate([system], ["near"]).problems if "quiet on near" in line]
    assert (problems == []) is right


def test_fragments_that_are_not_molecules_are_found(program):
    """The expansion is not the cluster then."""
    (problem,) = validate([program("fragmented", Fragmented)], ["threads"]).problems
    assert problem == (
        "fragmented, compared with the energy of the whole cluster: differs by 1.0e-06, and 1e-08 is allowed."
    )


def test_a_cluster_that_fails_in_one_piece_is_found(program):
    """In the program's words."""
    (problem,) = validate([program("piecemeal", Piecemeal)], ["threads"]).problems
    assert problem.startswith("piecemeal, compared with the whole cluster, which fails (It is too large.): differs")


def test_wrong_sums_are_found():
    """Energy, gradient and fourth order each have a check of their own."""
    right = mbexec.run(SMALL.job)
    assert [check.problem for check in systems.check_alone(SMALL, right)] == [None] * 4

    def problems(**changes):
        properties = right.result.properties.model_copy(update=changes)
        result = right.result.model_copy(update={"properties": properties})
        found = [check.problem for check in systems.check_alone(SMALL, attrs.evolve(right, result=result))]
        return [problem is not None for problem in found]

    assert problems(return_energy=right.result.properties.return_energy + 1e-11) == [True, False, True, False]
    assert problems(return_gradient=right.result.properties.return_gradient + 1e-11) == [False, True, False, False]
    energies = right.energies.copy()
    energies[-1] += 1e-11
    checks = list(systems.check_alone(SMALL, attrs.evolve(right, energies=energies)))
    assert [check.problem is not None for check in checks] == [False, False, False, True]


def test_programs_that_disagree_are_found():
    """About the same method, on the same cluster."""
    one, other = with_program("model-potential"), with_program("model-potential", epsilon={"Ar": 1e-3})
    found = {one: mbexec.run(one.job), other: mbexec.run(other.job)}
    (check,) = systems.check_together(found)
    assert check.programs == "model-potential, model-potential"
    assert check.problem.startswith(
        "model-potential, model-potential, compared with each other's lj interactions: differs by "
    )
    assert list(systems.check_together({one: found[one], SMALL: found[one]})) == []  # another method


def test_the_formula_of_an_equilateral_triangle():
    """Three cosines of one half: C9 times 11/8 over the ninth power of the side."""
    triangle = [[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [1.0, math.sqrt(3.0), 0.0]]
    assert systems._triple(*triangle) == pytest.approx(11 / 8 / 2**9, rel=1e-14)


# What is not there


def test_programs_that_are_not_installed_are_listed():
    """With how to install them; it is nothing wrong."""
    system = System("(H2O)2", DIMER, {"program": "cfour", "method": "hf", "basis": "sto-3g"})
    found = validate([system, SMALL], ["threads"])
    assert found.problems == []
    assert [each.name for each in found.missing] == ["cfour"]
    assert any("cfour" in note and "not installed" in note for note in page.notes(found))
    assert ("cfour", "not installed", "hf/sto-3g", "-", "-", "-") in page.sheets(found)[1].groups[0]


def test_an_executor_that_was_named_must_be_installed():
    """Nothing runs otherwise."""
    with pytest.raises(PluginNotFoundError, match="No executor named 'nowhere' is installed"):
        validate([SMALL], ["nowhere"])


def test_programs_are_chosen_by_name(monkeypatch):
    """Those that are known, and installed."""
    assert [system.name for system in standard_systems(["model-potential"])] == ["model-potential"]
    with pytest.raises(ProgramError, match=r"no standard system for the program 'xyzzy'\. Known: model-potential, "):
        standard_systems(["xyzzy"])
    system = System("(H2O)2", DIMER, {"program": "cfour", "method": "hf", "basis": "sto-3g"})
    monkeypatch.setattr(systems, "SYSTEMS", (SMALL, system))
    with pytest.raises(ProgramError, match="'cfour' is not installed here"):
        standard_systems(["cfour"])


# What people see


def report(executor, workers, wall, inside, ntasks=10):
    level = LevelReport(1, ntasks, ntasks, 0, 0, inside, inside, None, None, None)
    return RunReport("r", executor, workers, 0.0, wall, (level,))


@pytest.fixture
def made():
    """A validation with numbers that can be checked by hand."""
    executors = ("serial", "threads", "far", "near", "broken")
    runs = (
        Tried("serial", report("serial", 1, 10.0, 9.0), 0.5, 0.0),
        Tried("threads", report("threads", 2, 5.0, 9.5), 0.25, 2e-9, spread=1e-9),
        Tried("far", refused="It is | far away."),
        Tried("near", report("near", 2, 5.4, 9.5), 0.25, 0.0),
        Tried("broken", report("broken", 2, 1.0, 1.0), 0.25, 1e-3, problem="broken differs."),
    )
    said = {"far": ("isolates_processes", "can_kill", "survives_worker_death")}
    here = tuple(Executor(name, "mbexec", "1.0", said.get(name, ())) for name in executors)
    return Validation(here, (Outcome(SMALL, "1.2", runs),), {}, (), load=0.0)


def test_numbers_of_a_run(made):
    """Rate, speed, and the workers' time beyond the program."""
    serial, threads, far, *_ = made.outcomes[0].tried
    assert (serial.rate, threads.rate) == (1.0, 2.0)
    assert made.outcomes[0].speed(threads) == 2.0
    assert threads.beyond == pytest.approx((2 * 5.0 - 9.5) / 10)
    assert all(math.isnan(number) for number in (far.rate, far.beyond, made.outcomes[0].speed(far)))


def test_tables(made):
    """Each run has a row; what is wrong is not the fastest."""
    executors, _, runs, _, fastest = page.sheets(made)
    declared = "processes of its own, kills what takes too long, survives dead workers"
    assert executors.groups[0][2] == ("far", "mbexec 1.0", declared)
    assert runs.groups == (
        (
            ("model-potential", "serial", "same bits", "0.50", "10.00", "1.0", "1.00", "100.00"),
            ("10 fragments", "threads", "within 2e-09", "0.25", "5.00", "2.0", "2.00", "50.00"),
            ("", "far", "refused", "-", "-", "-", "-", "-"),
            ("", "near", "same bits", "0.25", "5.40", "1.9", "1.85", "130.00"),
            ("", "broken", "differs", "0.25", "1.00", "10.0", "10.00", "100.00"),
        ),
    )
    assert fastest.groups == ((("model-potential", "threads", "near", "2.00"),),)


def test_a_busy_machine_is_told(made, monkeypatch):
    """Its times mean little."""
    monkeypatch.setattr(page, "granted_cores", lambda _: mbexec.core.resources.Grant(4, "the machine"))
    assert not any("load" in note for note in page.notes(attrs.evolve(made, load=1.9)))
    busy = "The load average was 2.1 on 4 cores before the first run: times mean little."
    assert busy in page.notes(attrs.evolve(made, load=2.1))


def test_what_cannot_be_is_told(made):
    """Nobody is much faster than there are workers: something else ran while serial did."""
    notes = page.notes(attrs.evolve(made, load=0.0))
    told = "model-potential on broken is 10.0 times as fast as serial with 2 workers: other work disturbed the times."
    assert [note for note in notes if "disturbed" in note] == [told]


def test_plots_have_a_mark_for_each_run(made):
    """Speeds and costs as in the table; nothing where nothing ran."""
    (speed,), (cost,) = plots.speed_figure(made).axes, plots.cost_figure(made).axes
    marks = {line.get_label(): line.get_xdata() for line in speed.lines if not line.get_label().startswith("_")}
    assert {name: list(xs) for name, xs in marks.items()} == {
        "serial": [1.0],
        "threads": [2.0],
        "far": [],
        "near": [pytest.approx(10 / 5.4)],
        "broken": [10.0],
    }
    assert [text.get_text() for text in speed.get_yticklabels()] == ["model-potential"]
    assert [line.get_xdata()[0] for line in cost.lines if line.get_label() == "threads"] == [pytest.approx(50.0)]
    assert cost.get_xscale() == "log"


def test_the_page(made, tmp_path):
    """Verdict, what is wrong, every table; plots beside it, the same each time."""
    written = page.files(made, tmp_path / "found.md")
    assert [path.name for path in written] == ["found.md", "found-speed.svg", "found-cost.svg"]
    text, *drawn = written.values()
    assert "**1 thing is wrong.**" in text
    assert "- broken differs." in text
    assert "- model-potential on far is refused: It is | far away." in text
    assert "| program | executor | agreement | start / s | wall / s | per second | times serial | beyond / ms |" in text
    assert "| 10 fragments | threads | within 2e-09 | 0.25 | 5.00 | 2.0 | 2.00 | 50.00 |" in text
    for image in re.findall(r"!\[.+\]\((.+)\)", text):
        assert tmp_path / image in written
    assert len(re.findall(r"^## ", text, re.M)) == 5
    assert all(ElementTree.fromstring(svg).tag.endswith("svg") for svg in drawn)
    assert list(page.files(made, tmp_path / "found.md").values())[1:] == drawn


def test_a_page_with_any_name_has_its_plots(made, tmp_path):
    """Blanks, brackets and letters with accents would end the link, or the image."""
    page_, *plots_ = page.files(made, tmp_path / "my (pägé) <1>.md").items()
    links = re.findall(r"^!\[[^]]*\]\(([!-'*-;=?-~]+)\)$", page_[1], re.MULTILINE)  # ASCII without blanks and brackets
    assert [unquote(link) for link in links] == [path.name for path, _ in plots_]


def test_cells_cannot_break_a_table():
    """A bar in a cell is no bar of the table."""
    sheet = sheets.Sheet("t", ("a", "b"), ((("x | y", "1"),),))
    assert sheets.markdown(sheet) == "| a | b |\n| --- | --: |\n| x \\| y | 1 |"


# The command


@pytest.fixture
def small(monkeypatch):
    """The command with a small cluster as the only standard system."""
    monkeypatch.setattr(systems, "SYSTEMS", (SMALL,))


def test_the_command_says_that_all_is_well(small):
    """Exit code 0; tables and a verdict on standard output, what is running on standard error."""
    done = mbexec_("validate", "-e", "threads", "-w", 2)
    assert done.exit_code == DONE
    assert done.stderr == "model-potential on serial\nmodel-potential on threads\n"
    assert done.stdout.endswith("Everything agrees: 1 program on 2 executors, 2 runs, 4 checks.\n")
    for title in ("Executors", "Programs", "Runs", "What is known otherwise", "Fastest here"):
        assert title in done.stdout
    assert len(re.findall(r"same bits", done.stdout)) == 2


def test_the_command_says_what_is_wrong(small, install):
    """Exit code 1, with each disagreement on standard error."""
    install("wrong", {"wrong": OneBit})
    done = mbexec_("validate", "-e", "wrong")
    assert done.exit_code == FAILED
    assert "Wrong: model-potential on wrong: the energy of " in done.stderr
    assert done.stdout.endswith("1 thing is wrong.\n")
    assert "differs" in done.stdout


def test_the_command_writes_the_page(small, tmp_path):
    """And its plots beside it, nothing else."""
    assert mbexec_("validate", "-e", "threads", "-o", tmp_path / "found.md").exit_code == DONE
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["found-cost.svg", "found-speed.svg", "found.md"]
    assert "Everything agrees" in (tmp_path / "found.md").read_text()


def test_the_page_is_written_of_what_is_wrong_too(small, install, tmp_path):
    """It says so."""
    install("wrong", {"wrong": OneBit})
    assert mbexec_("validate", "-e", "wrong", "-o", tmp_path / "found.md").exit_code == FAILED
    assert "- model-potential on wrong: the energy of" in (tmp_path / "found.md").read_text()


def test_the_command_needs_a_library_for_plots(small, tmp_path, monkeypatch):
    """A sentence with the command that installs it, before anything runs."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"Install it with: pip install 'mbexec\[plot\]'; or leave out --output\.$"):
        check_library("The page", "leave out --output")
    done = mbexec_("validate", "-e", "threads", "-o", tmp_path / "found.md")
    assert done.exit_code == BAD_INPUT
    assert done.stderr.startswith("Error: The page has plots, and what draws them can't be imported (")
    assert not (tmp_path / "found.md").exists()
    assert mbexec_("validate", "-e", "threads").exit_code == DONE


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-p", "xyzzy"], "There is no standard system for the program 'xyzzy'"),
        (["-e", "xyzzy"], "No executor named 'xyzzy' is installed"),
        (["-e", "manybody"], "The plugin 'manybody' is no executor: it does not implement submit_level."),
        (["-e", "threads", "-e", "sqlite"], "[plugin.sqlite] {} is not accepted"),
        (["-o", "found"], "'found' is no name of a page in Markdown; end it with .md."),
        (["-o", "found.html"], "'found.html' is no name of a page in Markdown; end it with .md."),
        (["-w", "0"], "run.workers = 0 must be a whole number from 1 up"),
        (["-o", "nowhere/found.md"], "the folder of 'nowhere/found.md' does not exist"),
    ],
    ids=lambda each: each[0] if isinstance(each, list) else "",
)
def test_the_command_refuses(small, words, message):
    """Bad input, before anything runs."""
    done = mbexec_("validate", *words)
    assert done.exit_code == BAD_INPUT
    assert message in " ".join(done.stderr.split())


INTERRUPTING = """
    import os
    import signal

    from mbexec import hookimpl

    class Interrupting:
        sent = False

        @hookimpl
        def submit_level(self, level, work):
            if not Interrupting.sent:
                Interrupting.sent = True
                os.kill(os.getpid(), signal.SIGINT)
            yield from map(work, level)
"""


def test_the_command_can_be_interrupted(install):
    """What runs is finished; nothing is shown that is not complete."""
    site = install("interrupting", {"interrupting": "Interrupting"}, source=INTERRUPTING)
    words = ["validate", "-p", "model-potential", "-e", "interrupting"]
    done = subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(site)}
    )
    assert done.returncode == 130
    assert done.stdout == ""
    assert done.stderr.endswith("Interrupted.\n")


# Real programs


@pytest.mark.qc
def test_the_standard_systems(tmp_path):
    """Every program on threads and loky: the same bits as serial, and everything as it is known to be."""
    done = mbexec_("validate", "-e", "threads", "-e", "loky", "-o", tmp_path / "found.md")
    assert done.exit_code == DONE, done.stderr
    text = (tmp_path / "found.md").read_text()
    installed = 7 - (sys.version_info >= (3, 12))  # there is no xtb for newer ones
    assert f"Everything agrees: {installed} programs on 3 executors, {3 * installed} runs" in text
    assert "1,092" in text
    assert WATER_TRIMER.split() == systems._WATER.split()
