"""Runs in which one fragment calculation stands for others: mbe.symmetry_tolerance."""

import io
import json
import re
import threading
import warnings

import attrs
import numpy as np
import pytest
from qcelemental.models.v2 import AtomicResult, FailedOperation
from rich.console import Console

import mbexec
from mbexec import ConfigError, FragmentDone, InputError, PluginError, RunStarted, TaskResult, tables
from mbexec.bench.sampling import Strata
from mbexec.core import engine, inspection
from mbexec.core.convergence import warn_of_errors
from mbexec.core.cost import costs
from mbexec.core.engine import read_job
from mbexec.core.potential import ModelPotential
from mbexec.plugins.manybody import ManyBody
from mbexec.plugins.progress.estimate import Estimate
from mbexec.reports import record
from mbexec.testing import check_planner
from tests.commands import mbexec_
from tests.systems import PYSCF, job

EXACT = {"energy": 1e-12, "gradient": 1e-10, "hessian": 1e-8}
SMALL = {"H": 1.0, "C": 2.0, "N": 1.8, "O": 1.8, "F": 1.6}  # a0: else energies of molecules would be huge
LENNARD_JONES = {"program": "model-potential", "method": "lj-atm", "keywords": {"rmin": SMALL}}
WATER = np.array([[0.0, 0.0, 0.0], [1.43, 0.0, 1.108], [-1.43, 0.0, 1.108]])
CHIRAL = np.array([[0.0, 0.0, 0.0], [1.9, 0.1, 0.2], [-0.3, 2.1, 0.1], [0.2, 0.3, 2.4]])


def written(*fragments):
    """The geometry of a job: symbols and places of each fragment, in a0."""
    lines = ["\n".join(f"{s} {x:.8f} {y:.8f} {z:.8f}" for s, (x, y, z) in zip(*one, strict=True)) for one in fragments]
    return "\n--\n".join(lines)


def fcc(number):
    """So many argon atoms round one of a face-centred cubic crystal; 13, 19, 43 and 55 are whole shells."""
    grid = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    grid = grid[grid.sum(axis=1) % 2 == 0]
    nearest = np.argsort((grid**2).sum(axis=1), kind="stable")[:number]
    return written(*[(["Ar"], [5.02 * place]) for place in grid[nearest]])


def ice(*sizes):
    """Rigid waters on a lattice, each upside down to its neighbours, and every other layer turned by a right angle."""
    waters = []
    for place in np.ndindex(*sizes):
        atoms = WATER * [1, 1, 1 - 2 * (sum(place) % 2)]
        waters.append(("OHH", (atoms[:, [1, 0, 2]] if place[2] % 2 else atoms) + 5.5 * np.array(place)))
    return written(*waters)


def chiral():
    """Molecules that are mirror images of each other, in pairs that are as well."""
    mirror = np.array([1.0, 1.0, -1.0])
    pair = [CHIRAL, CHIRAL @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]) + [6.0, 1.0, 0.5]]
    return written(*[("CHFN", places) for places in [*pair, *[mirror * places + [0, 0, 30] for places in pair]]])


def crystal(geometry, tolerance=1e-6, program=LENNARD_JONES, units="bohr", **mbe):
    """The tables of a job with and without symmetry."""
    tables = job(geometry, program=program, **({} if tolerance is None else {"symmetry_tolerance": tolerance}), **mbe)
    tables["molecule"]["units"] = units
    return tables


@pytest.mark.parametrize(("decimals", "warned"), [(8, False), (4, True)])
def test_rounded_coordinates_are_warned_of(decimals, warned):
    """What is taken for the same is not quite, and sums multiply that; told before anything runs."""
    turned = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])
    waters = [("OHH", np.round((WATER + 5.5 * np.array(place)) @ turned, decimals)) for place in np.ndindex(2, 2, 2)]
    plan = mbexec.plan(crystal(written(*waters), 1e-3, max_nbody=2))
    assert plan.symmetry is not None
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warn_of_errors(plan)
    assert len(told) == warned
    for warning in told:
        words = re.fullmatch(
            r"Calculations that are taken for the same differ by up to (\S+) a0, which may make about (\S+) E_h in the "
            r"nocp interaction energy\. For 1e-06 E_h, give coordinates with more decimals, or a smaller "
            r"mbe\.symmetry_tolerance\.",
            str(warning.message),
        )
        growth = plan.amplification("nocp", 2, 2)[1]
        assert float(words[1]) == pytest.approx(plan.symmetry.deviation, rel=0.1)
        assert float(words[2]) == pytest.approx(0.01 * plan.symmetry.deviation * growth, rel=0.1)


def both(geometry, executor="serial", **options):
    """The same job run with symmetry and without it."""
    found = [mbexec.run(crystal(geometry, tolerance, **options), executor=executor) for tolerance in (1e-6, None)]
    assert all(one.result.success for one in found)
    return found


def assert_same(found, plain, driver):
    """All sums agree, and so do the numbers of each fragment calculation."""
    ours, theirs = found.result.properties.model_dump(), plain.result.properties.model_dump()
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if "_corrected_" in key or key.startswith("return_"):
            kind = "hessian" if "hessian" in key else "gradient" if "gradient" in key else "energy"
            np.testing.assert_allclose(ours[key], value, rtol=0, atol=EXACT[kind], err_msg=key)
    for label, values in plain.result.cluster_properties.items():
        mine = found.result.cluster_properties[label]
        np.testing.assert_allclose(mine.return_energy, values.return_energy, rtol=0, atol=1e-12)
        if driver != "energy":
            np.testing.assert_allclose(mine.return_gradient, values.return_gradient, rtol=0, atol=1e-10)
        if driver == "hessian":
            np.testing.assert_allclose(mine.return_hessian, values.return_hessian, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.energies, plain.energies, rtol=0, atol=1e-12)


# The same numbers


@pytest.mark.parametrize("driver", ["energy", "gradient", "hessian"])
@pytest.mark.parametrize("bsse", ["nocp", "cp", "vmfc"])
def test_a_crystal_has_the_numbers_that_it_has_without_symmetry(bsse, driver):
    """Argon atoms, all sums and all single numbers."""
    found, plain = both(fcc(13), bsse=bsse, driver=driver, max_nbody=3 if bsse == "nocp" else 2)
    assert_same(found, plain, driver)
    assert found.report.executed < len(found.plan) / 6
    assert found.report.executed + found.report.duplicates == plain.report.executed == len(found.plan)


def test_the_shells_of_a_crystal_have_few_unique_sets():
    """19 argon atoms to 3-body: 1,159 calculations, of which 31 run."""
    found, plain = both(fcc(19), driver="gradient", max_nbody=3)
    assert found.report.executed == int(found.plan.runs.sum()) == 31
    assert plain.report.executed == len(found.plan) == 1159
    assert_same(found, plain, "gradient")


@pytest.mark.parametrize("bsse", ["nocp", "cp", "vmfc"])
def test_molecules_are_turned_with_their_atoms(bsse):
    """Rigid waters on a lattice: atoms of a fragment, and fragments, change places."""
    found, plain = both(ice(2, 2, 2), bsse=bsse, driver="hessian", max_nbody=2, return_total_data=True)
    assert found.report.executed < plain.report.executed / 2
    assert_same(found, plain, "hessian")


@pytest.mark.parametrize("driver", ["gradient", "hessian"])
def test_mirror_images_are_reflected(driver):
    """What stands for a mirror image has the same energy, and its derivatives are reflected."""
    found, plain = both(chiral(), driver=driver, max_nbody=2)
    assert (np.linalg.det(found.plan.symmetry.rotations) < 0).any()
    assert_same(found, plain, driver)


def test_levels_and_the_supersystem_have_their_own():
    """With several model chemistries each has its own unique calculations; the whole cluster is one."""
    levels = {"1": "low", "2": "high", "supersystem": "whole"}
    program = {
        label: LENNARD_JONES | {"method": m} for label, m in zip(levels.values(), ("lj", "lj-atm", "lj"), strict=True)
    }
    found, plain = both(fcc(7), driver="gradient", levels=levels, program=program)
    assert_same(found, plain, "gradient")
    assert found.report.levels[-1].ntasks == 1
    assert found.report.duplicates > 0


@pytest.mark.parametrize("cutoff", [{"2": 12.5, "3": 7.2}, {"3": 7.0}], ids=["some triples", "no triples"])
@pytest.mark.parametrize("bsse", ["nocp", "cp", "vmfc"])
def test_cutoffs_leave_out_sets_and_the_rest_has_duplicates(bsse, cutoff):
    """The numbers are those of the cutoff without symmetry, and so is the estimate of what it leaves out."""
    found, plain = both(fcc(13), bsse=bsse, driver="gradient", max_nbody=3, cutoff=cutoff)
    assert_same(found, plain, "gradient")
    whole = mbexec.plan(crystal(fcc(13), bsse=bsse, driver="gradient", max_nbody=3))
    assert found.report.executed < int(whole.runs.sum())
    assert found.report.executed + found.report.duplicates == len(found.plan) == len(plain.plan) < len(whole)
    ours, theirs = (each.result.extras["mbexec"]["left_out"] for each in (found, plain))
    assert len(ours) == len(theirs) > 0
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys()
        for name, value in other.items():
            assert mine[name] == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)


@pytest.mark.parametrize(
    "given",
    [
        {"bsse": ["cp", "vmfc", "nocp"], "max_nbody": 3},
        {"bsse": ["vmfc", "cp"], "cutoff": {"2": 12.0, "3": 8.0}, "max_nbody": 3},
        {"bsse": ["cp", "nocp"], "supersystem_ie_only": True},
    ],
    ids=["three treatments", "treatments and cutoffs", "the whole and its monomers"],
)
def test_several_treatments_share_calculations(given):
    """All sums, and each calculation's own numbers where all are asked for, which survive being written."""
    found, plain = both(ice(2, 2, 1), driver="gradient", cluster_properties="all", cluster_results="all", **given)
    assert_same(found, plain, "gradient")
    assert found.report.duplicates > 0
    written_ = json.loads(found.result.serialize("json"))
    assert len(written_["cluster_properties"]) == len(found.plan)
    assert len(written_["cluster_results"]) == found.report.executed


def test_every_executor_gives_the_same_bits():
    """Whatever the order of arrival."""
    given = crystal(ice(2, 2, 1), driver="hessian", max_nbody=3)
    results = [mbexec.run(given, executor=name, workers=2).result for name in ("serial", "threads", "asyncio")]
    assert len({np.asarray(one.return_result).tobytes() for one in results}) == 1
    assert len({one.properties.serialize("json") for one in results}) == 1


def test_what_each_set_adds_is_known_for_all():
    """RunResult.energies and contributions have duplicates too."""
    found, plain = both(fcc(13), max_nbody=3)
    assert np.isfinite(found.energies).all()
    ours, theirs = found.contributions["nocp"], plain.contributions["nocp"]
    assert ours.keys() == theirs.keys()
    assert list(ours.values()) == pytest.approx(list(theirs.values()), abs=1e-13)


def test_without_symmetry_nothing_changes():
    """A cluster without two of a kind runs in full; the result says how many were unique."""
    rng = np.random.default_rng(1)
    geometry = written(
        *[(["Ar"], [place]) for place in 8 * np.indices((2, 2)).reshape(2, -1).T @ rng.normal(size=(2, 3))]
    )
    found, plain = both(geometry, max_nbody=3)
    pairs_and_more = found.plan.runs[4:]
    assert pairs_and_more.sum() >= 6
    assert_same(found, plain, "energy")
    assert found.result.extras["mbexec"]["symmetry"]["unique"] == int(found.plan.runs.sum())
    assert "symmetry" not in plain.result.extras.get("mbexec", {})


# Moments


@pytest.fixture
def _moments(install):
    """A program that gives the moments of point charges: a dipole that is neutral, a quadrupole about the origin."""

    class Moments(ModelPotential):
        name = "moments"

        def compute(self, input_data, config):
            m = input_data.molecule
            charge = np.where(m.real, np.where(m.symbols == "O", -0.8, 0.4), 0.0) + m.molecular_charge / len(m.symbols)
            x = m.geometry
            return AtomicResult(
                input_data=input_data,
                molecule=m,
                return_result=-1.0 * len(x),
                properties={
                    "return_energy": -1.0 * len(x),
                    "scf_dipole_moment": charge @ x,
                    "scf_quadrupole_moment": np.einsum("a,ai,aj->ij", charge, x, x),
                },
                success=True,
                provenance={"creator": "moments"},
            )

    install("moments-program", {"moments": Moments}, group="mbexec.programs")


def moments(geometry, names, **options):
    program = {"program": "moments", "method": "any"}
    found, plain = both(geometry, program=program, properties=names, max_nbody=2, **options)
    ours, theirs = (one.result.extras["mbexec"]["properties"] for one in (found, plain))
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key], value, rtol=0, atol=1e-9, err_msg=key)
    return found


@pytest.mark.usefixtures("_moments")
def test_a_dipole_is_turned():
    """That of neutral molecules does not depend on the origin: translations count."""
    found = moments(ice(2, 2, 2), ["scf_dipole_moment"])
    assert found.report.executed < found.report.duplicates
    assert int(found.plan.runs[:8].sum()) == 1


@pytest.mark.usefixtures("_moments")
def test_a_quadrupole_allows_motions_about_the_origin_only():
    """A translation would change it; what is turned about the origin is the same."""
    waters = [
        ("OHH", WATER @ np.diag(signs) + np.array(signs) * [5, 4, 3]) for signs in ((1, 1, 1), (-1, -1, 1), (1, -1, 1))
    ]
    found = moments(written(*waters), ["scf_quadrupole_moment", "scf_dipole_moment"])
    assert found.plan.runs.tolist()[:3] == [True, False, False]
    assert moments(ice(2, 1, 1), ["scf_quadrupole_moment"]).report.duplicates == 0


@pytest.mark.usefixtures("_moments")
def test_a_charge_makes_the_dipole_depend_on_the_origin():
    """Then only what is turned about the origin is the same."""
    ions = "\n--\n".join(
        f"{head}\n{written((['Na'], [place]))}"
        for head, place in (("1 1", [4, 0, 0]), ("1 1", [0, 4, 0]), ("1 1", [0, 0, 7]))
    )
    found = moments(ions, ["scf_dipole_moment"])
    assert found.plan.runs.tolist()[:3] == [True, False, True]


# What runs, counts


def test_reporters_hear_of_what_runs():
    """Counts of levels, costs and finished fragments are those of unique calculations."""
    events = []
    spec, config = read_job(crystal(fcc(13), max_nbody=3), {"run.executor": "serial"})
    found = engine.execute(spec, config, watch=events.append)
    started = next(event for event in events if isinstance(event, RunStarted))
    done = [event.task.index for event in events if isinstance(event, FragmentDone)]
    runs = found.plan.runs
    assert sorted(done) == np.flatnonzero(runs).tolist()
    assert dict(started.levels) == {n: int(runs[found.plan.expansion.nbody == n].sum()) for n in (1, 2, 3)}
    assert ((started.costs > 0) == runs).all()
    assert [level.ntasks + level.duplicates for level in found.report.levels] == [13, 78, 286]
    assert found.report.ntasks == found.report.executed == runs.sum()
    assert found.report.as_dict()["duplicates"] == found.report.duplicates == (~runs).sum()


def test_progress_expects_what_runs():
    """Half of what runs is half of the time."""
    plan = mbexec.plan(crystal(fcc(13), max_nbody=3))
    run = np.flatnonzero(plan.runs).tolist()
    estimate = Estimate(plan, np.where(plan.runs, costs(plan), 0.0), 1)
    for index in run:
        assert estimate.outlook(0.0, {}).share < 1
        estimate.ran(index, "here", float(index), index + 1.0)
    assert estimate.outlook(1000.0, {}).share == 1
    assert estimate.outlook(1000.0, {}).left == 0


def test_a_bench_samples_what_runs():
    """Duplicates are in no stratum."""
    plan = mbexec.plan(crystal(fcc(13), max_nbody=3))
    strata = Strata.of_plan(plan)
    assert strata.counts.sum() == plan.runs.sum()
    assert plan.runs[strata.sample(10)].all()
    assert plan.runs[strata.first()].all()


def test_errors_of_what_stands_for_many_do_not_average_out():
    """The stated growth of errors is that of noise in the calculations that run."""
    plan = mbexec.plan(crystal(fcc(13), max_nbody=3))
    worst, random = plan.amplification("nocp", 3)
    rng = np.random.default_rng(3)
    c = plan.expansion.total("nocp", 3)
    noise = rng.normal(size=(4000, len(plan)))[:, plan.symmetry.representative]
    assert (noise @ c).std() == pytest.approx(random, rel=0.05)
    assert random > 2 * plan.expansion.amplification("nocp", 3)[1]
    assert worst <= plan.expansion.amplification("nocp", 3)[0]


def drawn(table):
    console = Console(file=io.StringIO(), width=200)
    console.print(table)
    return console.file.getvalue()


def test_the_plan_says_how_many_are_unique(tmp_path):
    """By level, and in a sentence with the tolerance and the largest deviation."""
    plan = mbexec.plan(crystal(fcc(13), max_nbody=2))
    text = drawn(tables.plan_table(plan))
    assert "91 calculations, of which 5 are unique within 1e-06 a0" in text
    assert "unique" not in drawn(tables.plan_table(mbexec.plan(crystal(fcc(13), None, max_nbody=2))))


# Failures, stores, stopping


class Picky(ModelPotential):
    """Fails for two argon atoms that touch."""

    name = "picky"

    def compute(self, input_data, config):
        x = input_data.molecule.geometry
        if len(x) == 2 and np.linalg.norm(x[0] - x[1]) < 7.2:
            raise ValueError("they touch")
        return super().compute(input_data, config)


def test_a_failure_is_told_once_with_how_many_it_stands_for(install):
    """All that it stands for has no result; the label of what ran is named."""
    install("picky-program", {"picky": Picky}, group="mbexec.programs")
    found = mbexec.run(crystal(fcc(13), max_nbody=2, program={"program": "picky", "method": "lj"}), executor="serial")
    assert isinstance(found.result, FailedOperation)
    extras = found.result.error.extras
    (failed,) = extras["failed"]
    assert failed["label"] == '["(auto)", [1, 2], [1, 2]]'
    assert failed["duplicates"] == 35
    assert extras["partial"]["not_run"]["count"] == 0
    assert extras["partial"]["unknown_increments"][0]["count"] == 36
    assert found.result.error.error_message.startswith("36 of 91 fragment calculations gave no result.")
    assert found.report.failed == 1
    assert "1 fragment calculation failed, with 35 others that are the same by symmetry" in drawn(
        tables.failures(found.plan, found.result)
    )


def lost(planner, plan, results, gone):
    """What comes of some of the results being lost."""
    return planner.merge_results(plan, iter([result for result in results if result.index not in gone])).error.extras


@pytest.mark.parametrize("bsse", ["nocp", "cp", "vmfc"])
def test_what_is_known_without_a_calculation_is_what_is_known_without_all_that_are_the_same(bsse):
    """Sums that are exact, estimates and bounds: as if each of them had run and been lost."""
    planner = ManyBody()
    spec, config = read_job(crystal(fcc(13), bsse=bsse, max_nbody=2), {})
    plan = planner.build_tasks(spec, config)
    plain = attrs.evolve(plan, symmetry=None)
    energies = np.random.default_rng(2).normal(size=len(plan))[plan.symmetry.representative]
    of_all = [TaskResult(index, {"energy": energy}) for index, energy in enumerate(energies.tolist())]
    of_some = [result for result in of_all if plan.runs[result.index]]
    for index in np.flatnonzero(plan.runs).tolist():
        same = {index, *plan.symmetry.stood_for(index).tolist()}
        mine, theirs = lost(planner, plan, of_some, {index}), lost(planner, plain, of_all, same)
        assert mine == theirs
        assert mine["partial"]["not_run"]["count"] == len(same)


def test_a_store_has_what_ran(tmp_path):
    """Another run takes all of it from there, and status counts what runs."""
    given = crystal(fcc(13), driver="gradient", max_nbody=3)
    settings = {"run.executor": "serial", "run.store": str(tmp_path / "x.store")}
    first = mbexec.run(given, **settings)
    again = mbexec.run(given, **settings)
    assert again.report.executed == 0
    assert again.report.reused == first.report.executed
    assert np.asarray(again.result.return_result).tobytes() == np.asarray(first.result.return_result).tobytes()
    spec, config = read_job(given, settings)
    levels = inspection.status(spec, config)
    assert [(level.ntasks, level.done) for level in levels] == [(n.ntasks, n.ntasks) for n in first.plan.levels]
    assert len(inspection.needed(spec, config)) >= first.report.executed
    recomputed = inspection.recompute(spec, config, sample=100, repeat=1, tolerance=1e-9)
    assert {each.verdict for each in recomputed} == {"same"}
    assert len(recomputed) == min(100, first.report.executed)


def test_a_stopped_run_goes_on(tmp_path):
    """What was not reached runs later, and nothing else does."""
    given = crystal(fcc(13), max_nbody=3)
    settings = {"run.executor": "serial", "run.store": str(tmp_path / "x.store")}
    spec, config = read_job(given, settings)
    stop, seen = threading.Event(), []

    def watch(event):
        if isinstance(event, FragmentDone):
            seen.append(event)
            if len(seen) == 10:
                stop.set()

    broken = engine.execute(spec, config, stop, watch)
    assert isinstance(broken.result, FailedOperation)
    rest = mbexec.run(given, **settings)
    assert rest.report.reused == 10
    assert rest.report.executed == rest.plan.runs.sum() - 10
    whole = mbexec.run(given, executor="serial")
    assert rest.result.return_result == whole.result.return_result


def test_the_command_line_counts_what_runs(tmp_path):
    """Plan, status, run and report, from a job file."""
    path = tmp_path / "job.toml"
    path.write_text(
        f'[molecule]\nunits = "bohr"\ngeometry = """\n{fcc(13)}\n"""\n[mbe]\nbsse_type = "nocp"\nmax_nbody = 2\n'
        'symmetry_tolerance = 1e-6\n[program]\nprogram = "model-potential"\nmethod = "lj"\n[run]\nexecutor = "serial"\n'
    )
    assert "of which 5 are unique" in mbexec_("plan", path).output
    assert [line.split() for line in mbexec_("status", path).output.splitlines() if line.strip().startswith("all")] == [
        ["all", "5", "0", "0", "5"]
    ]
    done = mbexec_("run", path)
    assert "5 fragment calculations run, 86 known by symmetry on serial" in done.output
    page = tmp_path / "page.html"
    told = mbexec_("report", path.with_suffix(".jsonl"), "-o", page)
    assert told.exit_code == 0, told.output
    assert "All 5 fragment calculations gave results; 86 more are the same by symmetry" in page.read_text()
    read = record.read_record(path.with_suffix(".jsonl"))
    assert read.duplicates == 86
    assert np.isfinite(read.energies).all()
    broken_off = attrs.evolve(read, report=None)
    assert broken_off.duplicates == 86


def test_the_kit_tries_planners_with_it():
    """The rules for planners hold for one that plans duplicates."""
    check_planner(ManyBody, spec=crystal(fcc(7), max_nbody=2))


# Settings


@pytest.mark.parametrize("value", [0, -1e-6, 0.01, "tight", True, [1e-6]], ids=repr)
def test_a_tolerance_is_a_small_number(value):
    """Anything else is refused by its name, in a job file and in QCSchema."""
    with pytest.raises(InputError, match=r"mbe\.symmetry_tolerance = .* must be a number above 0 and at most 0\.001"):
        mbexec.plan(crystal(fcc(7), value))
    spec, _ = read_job(crystal(fcc(7)), {})
    given = json.loads(spec.serialize("json"))
    given["specification"]["extras"]["mbexec"]["symmetry_tolerance"] = value
    with pytest.raises(InputError, match=r'"symmetry_tolerance"\] = .* must be a number above 0 and at most 0\.001'):
        mbexec.plan(given)


def test_screening_by_energy_is_refused():
    """Both keys are named; with either alone the job is planned."""
    screen = {"program": "cheap", "thresholds": {"2": 1e-6}}
    programs = {"cheap": LENNARD_JONES | {"method": "lj"}, "dear": LENNARD_JONES}
    with pytest.raises(InputError) as error:
        mbexec.plan(crystal(fcc(7), program=programs, max_nbody=2, screen=screen))
    assert str(error.value) == (
        "mbe.symmetry_tolerance and mbe.screen can't be used together: which of the sets that are the same has to run "
        "would depend on what screening keeps. Leave one of them out."
    )
    assert mbexec.plan(crystal(fcc(7), None, program=programs, max_nbody=2, screen=screen)).undecided.any()
    assert not mbexec.plan(crystal(fcc(7), program=LENNARD_JONES, max_nbody=2)).runs.all()


def test_a_planner_may_not_plan_duplicates_and_undecided_tasks(install):
    """What stands for others might be left out."""

    class Both(ManyBody):
        @mbexec.hookimpl
        def build_tasks(self, spec, config):
            plan = super().build_tasks(spec, config)
            return attrs.evolve(plan, undecided=plan.expansion.nbody > 1)

    install("strange-planner", {"mine": Both})
    with pytest.raises(PluginError) as error:
        mbexec.run(crystal(fcc(7), max_nbody=2), planner="mine")
    assert str(error.value) == (
        "The planner 'mine' gave a plan that has both duplicates by symmetry and undecided tasks; leave one of them "
        "out of the Plan."
    )


def test_qcschema_says_it_in_extras():
    """The input that a result carries asks for the same again."""
    spec, _ = read_job(crystal(fcc(7)), {})
    assert spec.specification.extras == {"mbexec": {"symmetry_tolerance": 1e-6}}
    assert (mbexec.plan(spec).runs == mbexec.plan(crystal(fcc(7))).runs).all()
    assert not mbexec.plan(spec).runs.all()


def test_a_misspelt_key_is_refused():
    """With what it may have meant."""
    with pytest.raises(ConfigError, match="symmetry_tolerance"):
        mbexec.plan({**crystal(fcc(7)), "mbe": {"symetry_tolerance": 1e-6}})


# Real programs


@pytest.mark.qc
@pytest.mark.parametrize("driver", ["energy", "gradient"])
def test_pyscf_gives_the_same(driver):
    """Rigid waters on a lattice, Hartree-Fock: with symmetry and without it."""
    program = PYSCF | {"basis": "sto-3g", "keywords": {"conv_tol": 1e-13, "conv_tol_grad": 1e-10}}
    found, plain = both(ice(2, 2, 1), program=program, driver=driver, max_nbody=2)
    assert found.report.executed == 4 < plain.report.executed == 10
    assert_same(found, plain, driver)


@pytest.mark.qc
def test_tblite_gives_the_same():
    """Rigid waters on a lattice and argon atoms, GFN2-xTB, to 3-body: with symmetry and without it."""
    program = {"program": "tblite", "method": "GFN2-xTB", "keywords": {"accuracy": 1e-4}}
    for geometry in (ice(2, 2, 2), fcc(13)):
        found, plain = both(geometry, program=program, driver="gradient", max_nbody=3)
        assert found.report.executed < plain.report.executed / 3
        assert_same(found, plain, "gradient")
