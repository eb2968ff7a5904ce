"""What cutoffs leave out: how much that is, and how well its size is estimated."""

import io
import json
import math
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

import mbexec
from mbexec import cli, tables
from mbexec.plugins.manybody import tail
from mbexec.plugins.manybody.near import centers_of_mass
from tests.systems import IONS, RADICALS, argon, job


def energies_of(plan, increment):
    """Energies of a plan's tasks whose increments are what a function of the set says."""
    known = {s: increment(s) for s in plan.expansion.sets if len(s) < plan.expansion.sets.nfr}
    return np.array([math.fsum(known[s] for k in range(1, t.nbody + 1) for s in combinations(t.frag, k)) for t in plan])


def reach(plan, frag):
    """The greatest distance between centres of mass, a0."""
    centers = centers_of_mass(plan.spec.molecule)
    return max(float(np.linalg.norm(centers[i - 1] - centers[j - 1])) for i, j in combinations(frag, 2))


def missing(plan, nbody):
    """The sets of an order that are left out."""
    kept = {tuple(s) for s in plan.expansion.sets.contributing(nbody).tolist()}
    return [s for s in combinations(range(1, plan.expansion.sets.nfr + 1), nbody) if s not in kept]


def test_what_is_left_out_is_counted():
    """By order, of how many sets there are."""
    plan = mbexec.plan(job(argon(20), max_nbody=3, cutoff={"2": 7.0}))
    assert plan.expansion.left_out == {
        1: (0, 20),
        2: (len(missing(plan, 2)), 190),
        3: (len(missing(plan, 3)), 1140),
    }
    assert plan.expansion.left_out[2][0] > 50


@pytest.mark.parametrize("power", [3.0, 4.5, 6.0])
@pytest.mark.parametrize("nbody", [2, 3])
def test_a_power_law_is_continued(nbody, power):
    """Increments that fall by a power from that of dipoles to that of dispersion: sums that are about the true ones."""
    plan = mbexec.plan(job(argon(30), max_nbody=3, cutoff={"2": 9.0}))
    energies = energies_of(plan, lambda s: 0.02 * reach(plan, s) ** -power if len(s) == nbody else 0.0)
    (told,) = [each for each in tail.left_out(plan, energies) if each["nbody"] == nbody]
    sizes = [0.02 * reach(plan, s) ** -power for s in missing(plan, nbody)]
    assert told["left_out"] == len(sizes) > 100
    assert told["reason"] is None
    assert told["decay"] == pytest.approx(power, abs=0.2)
    assert 0.95 < told["bound"] / math.fsum(sizes) < 1.3
    assert 0.95 < told["random"] / math.sqrt(math.fsum(size**2 for size in sizes)) < 1.3


@pytest.mark.parametrize("cutoff", [5.0, 8.0])
def test_a_sample_stands_for_all(monkeypatch, cutoff):
    """Where there are too many sets to look at all of them the sums are the same within a few percent."""
    plan = mbexec.plan(job(argon(40), max_nbody=3, cutoff={"2": cutoff}))
    energies = energies_of(plan, lambda s: reach(plan, s) ** -4 if len(s) > 1 else 0.0)
    every = tail.left_out(plan, energies)
    monkeypatch.setattr(tail, "_ALL", 10)
    for one, other in zip(tail.left_out(plan, energies), every, strict=True):
        assert one["left_out"] == other["left_out"]
        assert one["bound"] == pytest.approx(other["bound"], rel=0.05)
        assert one["random"] == pytest.approx(other["random"], rel=0.15)


def test_increments_at_one_distance_tell_no_decay():
    """Nothing is told by neighbours alone: it is then the slowest that there is."""
    places = 7.0 * np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    given_job = job("\n--\n".join(f"Ar {x} {y} {z}" for x, y, z in places), max_nbody=2, cutoff={"2": 7.0})
    plan = mbexec.plan(given_job)
    (told,) = tail.left_out(plan, energies_of(plan, lambda s: -1e-3 if len(s) == 2 else 0.0))
    assert told["decay"] == 3.0


def test_charges_decay_slowly():
    """Increments between charged fragments may fall like 1/r, those of a charged and a neutral one like 1/r^2."""
    places = np.random.default_rng(2).uniform(0, 30, (40, 3)).round(3)
    parts = [
        f"{'1 1' if i % 2 else '0 1'}\n{'Na' if i % 2 else 'Ar'} {x} {y} {z}" for i, (x, y, z) in enumerate(places)
    ]
    plan = mbexec.plan(job("\n--\n".join(parts), max_nbody=2, cutoff={"2": 14.0}))
    charge = np.array(plan.spec.molecule.fragment_charges)
    power = {2: 1.0, 1: 2.0, 0: 6.0}
    size = lambda s: reach(plan, s) ** -power[int(charge[[i - 1 for i in s]].sum())]  # noqa: E731
    (told,) = tail.left_out(plan, energies_of(plan, lambda s: size(s) if len(s) == 2 else 0.0))
    assert told["decay"] == pytest.approx(1.0, abs=0.1)
    assert 0.95 < told["bound"] / math.fsum(map(size, missing(plan, 2))) < 1.4


@pytest.mark.parametrize("geometry", [IONS, RADICALS])
def test_nothing_that_compares(geometry):
    """Of fragments of which there are too few of a kind no size is told, and why."""
    plan = mbexec.plan(job(geometry, max_nbody=2, cutoff={"2": 2.2}))
    (told,) = tail.left_out(plan, np.zeros(len(plan)))
    assert (told["bound"], told["random"], told["decay"]) == (None, None, None)
    assert re.match(r"Fewer than 8 sets of the same kinds of fragments as \[\d, \d\] were computed", told["reason"])


def test_the_order_of_fragments_does_not_matter():
    """Though many triples share their farthest pair, and bins of equal numbers would part them."""
    rng = np.random.default_rng(7)
    places = 3.8 * np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    places += 0.4 * rng.normal(size=places.shape)
    size = {frozenset(s): 1e-3 * rng.random() for n in (2, 3) for s in combinations(range(27), n)}
    seen = []
    for order in [np.arange(27), *(rng.permutation(27) for _ in range(4))]:
        geometry = "\n--\n".join(f"Ar {x:.6f} {y:.6f} {z:.6f}" for x, y, z in places[order])
        plan = mbexec.plan(job(geometry, max_nbody=3, cutoff={"2": 7.0, "3": 5.5}))
        increment = lambda s, order=order: size.get(frozenset(order[i - 1] for i in s), 0.0)  # noqa: E731
        told = tail.left_out(plan, energies_of(plan, increment))
        seen.append([each[name] for each in told for name in ("bound", "random", "decay")])
    assert np.ptp(np.array(seen), axis=0) == pytest.approx(np.zeros(6), abs=1e-9)


def test_an_order_that_is_left_out_altogether():
    """Nothing tells how large it is."""
    with pytest.warns(UserWarning, match="^The cutoffs keep no two fragments together: "):
        plan = mbexec.plan(job(argon(4), max_nbody=3, cutoff={"2": 3.0}))
    told = tail.left_out(plan, np.zeros(len(plan)))
    assert [each["reason"] for each in told] == [
        f"No set of {n} fragments was computed: nothing tells how they decay." for n in (2, 3)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_the_error_of_argon_is_within_the_bound(seed):
    """Of the model potential, pairs and triples: against the full expansion."""
    rng = np.random.default_rng(seed)
    grid = 3.8 * np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:18]
    places = grid + 0.3 * rng.normal(size=grid.shape)
    given_job = job("\n--\n".join(f"Ar {x:.6f} {y:.6f} {z:.6f}" for x, y, z in places), max_nbody=3)
    given_job["run"] = {"executor": "serial"}
    increments = mbexec.run(given_job).contributions["nocp"]
    for cutoff in (5.0, 6.0, 7.0):
        given_job["mbe"]["cutoff"] = {"2": cutoff}
        found = mbexec.run(given_job)
        for told in found.result.extras["mbexec"]["left_out"]:
            error = math.fsum(increments[s] for s in missing(found.plan, told["nbody"]))
            assert told["bound"] is None or abs(error) < told["bound"]


@pytest.mark.qc
def test_the_error_of_waters_is_within_the_bound():
    """Of GFN2-xTB, pairs and triples of twelve waters: against the full expansion."""
    text = waters(12)
    given_job = job(text, max_nbody=3, program={"program": "tblite", "method": "GFN2-xTB"}, run={"executor": "serial"})
    increments = mbexec.run(given_job).contributions["nocp"]
    for cutoff in (4.0, 5.0):
        given_job["mbe"]["cutoff"] = {"2": cutoff}
        found = mbexec.run(given_job)
        for told in found.result.extras["mbexec"]["left_out"]:
            error = math.fsum(increments[s] for s in missing(found.plan, told["nbody"]))
            assert abs(error) < told["bound"]


@pytest.mark.qc
@pytest.mark.parametrize("bsse", ["nocp", "cp", "vmfc"])
def test_an_infinite_cutoff_with_a_real_program(bsse):
    """Bit for bit the result of the full expansion, gradient included."""
    program = {"program": "pyscf", "method": "hf", "basis": "sto-3g"}
    given_job = job(waters(3), bsse=bsse, max_nbody=3, driver="gradient", program=program, run={"executor": "serial"})
    full = mbexec.run(given_job).result
    given_job["mbe"]["cutoff"] = {"2": 1e6, "3": 1e6}
    screened = mbexec.run(given_job).result
    assert screened.return_result.tobytes() == full.return_result.tobytes()
    assert repr(screened.properties) == repr(full.properties)
    assert "mbexec" not in screened.extras


def waters(nfr):
    """The first waters of a lump with hydrogen bonds, as the text of a geometry."""
    (text,) = re.findall(
        '"""(.*?)"""', (Path(__file__).parents[1] / "examples/water-cutoff.toml").read_text(), re.DOTALL
    )
    return "\n--\n".join(text.split("--")[:nfr])


@pytest.fixture
def jobfile(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(
        f'[molecule]\ngeometry = """\n{argon(30)}\n"""\n'
        '[mbe]\nbsse_type = "nocp"\nmax_nbody = 3\ncutoff = {2 = 7.0, 3 = 6.0}\n'
        '[program]\nprogram = "model-potential"\nmethod = "lj-atm"\n[run]\nexecutor = "serial"\n'
    )
    return path


def shown(*arguments):
    done = CliRunner().invoke(cli.main, list(map(str, arguments)))
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_the_plan_shows_it(jobfile):
    """How many sets of each order are left out; nothing of it where none are."""
    plan = mbexec.plan(jobfile)
    two, three = (plan.expansion.left_out[n][0] for n in (2, 3))
    words = f"Fragment sets that are left out: {two:,} of 435 of 2 fragments; {three:,} of 4,060 of 3 fragments."
    assert words in shown("plan", jobfile)
    assert "left out" not in shown("plan", jobfile, "--set", "mbe.cutoff={2=90}")


def test_the_result_the_table_the_record_and_the_reports_show_it(jobfile, tmp_path):
    """The same numbers everywhere."""
    seen = shown("run", jobfile, "-q", "-o", tmp_path / "result.json")
    found = mbexec.run(jobfile).result
    pairs, triples = found.extras["mbexec"]["left_out"]
    assert json.loads((tmp_path / "result.json").read_text())["extras"]["mbexec"]["left_out"] == [pairs, triples]
    assert f"nocp 2 {pairs['left_out']:,} of 435 {pairs['bound']:.1e} {pairs['random']:.1e}" in seen
    told = f"about {triples['bound']:.1e} Eh if all had one sign, {triples['random']:.1e} Eh if signs are random."
    assert f"nocp, 3-body: {triples['left_out']:,} of 4,060 sets, {told}" in found.stdout
    ended = json.loads((tmp_path / "job.jsonl").read_text().splitlines()[-1])
    assert ended["result"]["left_out"] == [pairs, triples]
    rows = [
        ("nocp", str(each["nbody"]), f"{each['left_out']:,} of {of}", f"{each['bound']:.1e}", f"{each['random']:.1e}")
        for each, of in ((pairs, "435"), (triples, "4,060"))
    ]
    report = shown("report", tmp_path / "job.jsonl")
    assert "| computed | sets within cutoffs (angstrom, " in report
    assert "The supersystem's contribution" not in report
    assert all(f"| {' | '.join(row)} |" in report for row in rows)
    shown("report", tmp_path / "job.jsonl", "--format", "html", "-o", tmp_path / "page.html")
    cells = "|".join(re.findall(r"<td[^>]*>([^<]*)</td>", (tmp_path / "page.html").read_text()))
    assert all(f"|{'|'.join(row)}|" in cells for row in rows)


def test_nothing_is_said_where_nothing_is_left_out():
    """No key in the extras, no line in the table."""
    found = mbexec.run(job(argon(4), max_nbody=3, cutoff={"2": 90.0}, run={"executor": "serial"})).result
    assert "left_out" not in (found.extras.get("mbexec") or {})
    assert "Left out" not in found.stdout


def test_why_no_size_is_told_is_shown(tmp_path):
    """In the table of the command, and in that of the result."""
    given_job = job(argon(4), max_nbody=3, cutoff={"2": 3.9}, run={"executor": "serial"})
    path = tmp_path / "job.json"
    path.write_text(mbexec.plan(given_job).spec.serialize("json"))
    seen = shown("run", path, "-e", "serial", "-q")
    reasons = [each["reason"] for each in mbexec.run(given_job).result.extras["mbexec"]["left_out"]]
    assert len(reasons) == 2
    assert all(f"{n}-body: {reason}" in seen for n, reason in zip((2, 3), reasons, strict=True))
    assert all(reason in mbexec.run(given_job).result.stdout for reason in reasons)


@pytest.mark.parametrize("cutoff", [None, {"2": 7.0, "3": 5.5}])
def test_the_noise_amplification_that_the_plan_states(cutoff):
    """Noise of 1e-8 E_h in each energy: the total deviates in many draws by that times the root of the squares."""
    given_job = job(argon(16), max_nbody=3, run={"executor": "serial"}, **({"cutoff": cutoff} if cutoff else {}))
    found = mbexec.run(given_job)
    expansion = found.plan.expansion
    stated = expansion.amplification("nocp", 3)[1]
    noise = 1e-8 * np.random.default_rng(5).normal(size=(2000, len(expansion)))
    totals = (found.energies + noise) @ expansion.total("nocp", 3)
    assert np.std(totals) == pytest.approx(1e-8 * stated, rel=4 / math.sqrt(2 * len(noise)))
    assert f"{stated:.1f}" in shown_plan(found.plan)


def shown_plan(plan):
    console = Console(file=io.StringIO(), width=160)
    console.print(tables.amplification_table(plan))
    return console.file.getvalue()
