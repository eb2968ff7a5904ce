"""The page of a run in a browser: what is drawn, what is read, what it asks for, on screens of all kinds."""

import json
import re
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest

import mbexec
from mbexec.reports import read_record
from mbexec.reports.page import page
from mbexec.reports.record import Record
from tests.browser import chromium
from tests.systems import PYSCF, WATER_HEXAMER, WATER_TRIMER, argon, job

pytestmark = pytest.mark.browser

STO = {**PYSCF, "basis": "sto-3g"}
KINDS = ["real", "failed", "reused", "broken", "large"]


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Records, results and pages of runs by kind, each made when it is first asked for."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def ask(kind):
        if kind not in made:
            path = folder / f"{kind}.html"
            with pytest.MonkeyPatch.context() as patch:
                for name in ("HOME", "XDG_CONFIG_HOME"):
                    patch.setenv(name, str(folder))
                record, result = globals()[f"_{kind}"](folder / f"{kind}.jsonl", ask)
            path.write_text(page(record), encoding="utf-8")
            made[kind] = SimpleNamespace(record=record, result=result, path=path)
        return made[kind]

    return ask


def _run(path, tables, executor="threads", **settings):
    told = {"run.reporters": ["jsonl"], "plugin.jsonl.path": str(path), "run.workers": 2, **settings}
    result = mbexec.run(tables, executor=executor, **told)
    return read_record(path), result


def _real(path, _):
    """Six water molecules with PySCF on loky."""
    return _run(path, job(WATER_HEXAMER, bsse=["nocp", "cp"], max_nbody=3, program=STO), "loky")


def _failed(path, _):
    """PySCF that gives up too early, on some."""
    program = {**PYSCF, "keywords": {"max_cycle": 10}}
    record, result = _run(path, job(WATER_TRIMER, bsse=["nocp", "cp", "vmfc"], program=program), "loky")
    assert 0 < result.report.failed < result.report.ntasks
    return record, result


def _reused(path, _):
    """A second run with the store of the first."""
    settings = {"run.store": str(path.with_suffix(".store"))}
    for _ in range(2):
        found = _run(path, job(argon(5), max_nbody=3), **settings)
    return found


def _broken(path, ask):
    """The real one, killed when it had written half of its record."""
    whole = ask("real").path.with_suffix(".jsonl").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return read_record(path), None


def _large(path, _):
    """A hundred thousand fragments, with made-up energies and times; a few of them failed."""
    place = np.stack(np.meshgrid(*[np.arange(5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:86]
    geometry = "\n--\n".join("Ar {} {} {}".format(*row) for row in 4.0 * place)
    small, _ = _run(path, job(argon(2), max_nbody=2), "serial")
    plan = mbexec.plan(job(geometry, max_nbody=3))
    rng = np.random.default_rng(3)
    walls, noise = rng.lognormal(-3.0, 1.0, len(plan)), rng.normal(0.0, 1e-6, len(plan))
    clocks, fragments = [0.0] * 40, []
    for task in plan:
        worker, wall = task.index % 40, float(walls[task.index])
        error = {"error_type": "random_error", "error_message": "a cosmic ray"} if task.index % 20_000 == 77 else None
        told = {"index": task.index, "label": task.label, "mc": task.mc, "frag": task.frag, "bas": task.bas}
        told |= {"nbody": task.nbody, "reused": False, "energy": None if error else float(noise[task.index])}
        told |= {"queued": 0.0, "started": clocks[worker], "ended": clocks[worker] + wall, "wall_time": wall}
        told |= {"cpu_time": wall, "lost": 0.0, "worker": f"node{worker}:1:1", "peak_memory": 0}
        fragments.append(told | {"error": error, "notes": []})
        clocks[worker] += wall
    levels = [[level.nbody, len(level)] for level in plan.levels]
    started = small.started | {"input": json.loads(plan.spec.serialize("json")), "levels": levels, "workers": 40}
    return Record("large", started, fragments, [], None, None, None), None


@pytest.mark.qc
def test_energies_are_drawn_and_told(browser, runs):
    """A mark for each interaction and contribution of each treatment, and each number of the result in a table."""
    real = runs("real")
    seen = browser.open(real.path)
    properties = real.result.result.properties.model_dump()
    for bsse in ("nocp", "cp"):
        line_and_marks = seen.marks("convergence", bsse)
        marks = seen.marks("contributions", bsse)
        assert (len(line_and_marks), len(marks)) == (3, 2)
        assert all(width > 0 and height > 0 for _, _, width, height in [*line_and_marks, *marks])
        told = {tuple(row[:3]) for row in seen.rows(f"energies-{bsse}")}
        total, added = (
            f"{bsse}_corrected_total_energy_through_{{}}_body",
            f"{bsse}_corrected_{{}}_body_contribution_to_energy",
        )
        interaction = total.replace("total", "interaction")
        expected = {("total", str(n), f"{properties[total.format(n)]:.10f}") for n in (1, 2, 3)}
        expected |= {("interaction", str(n), f"{properties[interaction.format(n)]:.10f}") for n in (2, 3)}
        expected |= {("contribution", str(n), f"{properties[added.format(n)]:.10f}") for n in (2, 3)}
        assert told == expected


@pytest.mark.qc
@pytest.mark.parametrize("bsse", ["nocp", "cp"])
def test_pairs_and_triples_are_drawn_and_told(browser, runs, bsse):
    """A cell and a mark for each pair, a mark for each triple; the strongest stand in tables, with their distances."""
    real = runs("real")
    seen = browser.open(real.path)
    cells = [*seen.marks(f"pairs-{bsse}", "lowers"), *seen.marks(f"pairs-{bsse}", "raises")]
    assert len(cells) == len(seen.marks(f"pairs-{bsse}", "distances")) == 15
    pairs, triples = seen.marks(f"decay-{bsse}", "pairs"), seen.marks(f"decay-{bsse}", "triples")
    assert (len(pairs), len(triples)) == (15, 20)
    assert all(width > 0 and height > 0 for _, _, width, height in [*cells, *pairs, *triples])
    found = real.result.contributions[bsse]
    for name, nbody in (("pairs", 2), ("triples", 3)):
        values = {frag: value for frag, value in found.items() if len(frag) == nbody}
        strongest = sorted(values, key=lambda frag: -abs(values[frag]))[:10]
        rows = seen.rows(f"{name}-{bsse}")
        assert [row[0] for row in rows] == [", ".join(map(str, frag)) for frag in strongest]
        assert [row[1] for row in rows] == [f"{values[frag]:.10f}" for frag in strongest]
        assert [row[3] for row in rows] == [f"{_apart(real.result.plan.spec.molecule, frag):.2f}" for frag in strongest]


def _apart(molecule, frag):
    """The greatest distance of two of the fragments, atom by atom, in angstrom."""
    atoms = [[molecule.geometry[atom] for atom in molecule.fragments[number - 1]] for number in frag]
    return 0.529177210903 * max(
        min(np.linalg.norm(one - other) for one in a for other in b) for a, b in combinations(atoms, 2)
    )


@pytest.mark.qc
def test_cells_of_pairs_are_where_their_fragments_are(browser, runs):
    """The strongest pair is below the diagonal, in the column of its first fragment and the row of its second."""
    real = runs("real")
    seen = browser.open(real.path)
    boxes = {}
    for group in ("lowers", "raises"):
        tips = seen.tips("pairs-nocp", group)
        boxes |= {tip.split(":")[0]: box for tip, box in zip(tips, seen.marks("pairs-nocp", group), strict=True)}
    assert sorted(boxes) == [f"{i}, {j}" for i, j in combinations(range(1, 7), 2)]
    columns = [boxes[f"{i}, 6"][0] for i in range(1, 6)]
    rows = [boxes[f"1, {j}"][1] for j in range(2, 7)]
    assert columns == sorted(columns)
    assert rows == sorted(rows)
    assert len({round(boxes[f"1, {j}"][0]) for j in range(2, 7)}) == 1


@pytest.mark.qc
def test_times_are_drawn_and_told(browser, runs):
    """A bar for each fragment in its worker's lane, as long as it took; levels and times stand in a table."""
    real = runs("real")
    seen, report = browser.open(real.path), real.result.report
    done = real.record.fragments
    by_label = {f["label"]: f for f in done}
    lanes = {}
    for nbody in (1, 2, 3):
        boxes, tips = seen.marks("timeline", f"nbody-{nbody}"), seen.tips("timeline", f"nbody-{nbody}")
        assert len(boxes) == len(tips) == sum(f["nbody"] == nbody for f in done)
        for (x, y, width, height), tip in zip(boxes, tips, strict=True):
            assert width > 0
            assert height > 0
            fragment = by_label[tip.partition(": ")[0]]
            lanes.setdefault(fragment["worker"], []).append((round(y), x, width, fragment))
    assert all(len({y for y, *_ in bars}) == 1 for bars in lanes.values())
    span = max(f["ended"] for f in done) - min(f["started"] for f in done)
    bars = [bar for bars in lanes.values() for bar in bars]
    scale = (max(x + width for _, x, width, _ in bars) - min(x for _, x, *_ in bars)) / span
    assert all(abs(width - scale * f["wall_time"]) < 2.0 for _, _, width, f in bars)  # pixels; an edge is half of one
    rows = seen.rows("levels")
    names = (
        "nbody",
        "ntasks",
        "executed",
        "reused",
        "failed",
        "wall_time",
        "cpu_time",
        "shortest",
        "typical",
        "longest",
    )
    for row, level in zip(rows, report.levels, strict=True):
        assert [float(cell) for cell in row[:10]] == pytest.approx([getattr(level, name) for name in names], rel=1e-3)
    assert all(len(seen.marks("load", f"sum-{nbody}")) == 1 for nbody in (1, 2, 3))
    assert all(len(seen.marks("load", f"range-{nbody}")) == 3 for nbody in (1, 2, 3))
    counted = [tip for nbody in (1, 2, 3) for tip in seen.tips("times", f"times-{nbody}")]
    assert len(counted) == sum(len(seen.marks("times", f"times-{nbody}")) for nbody in (1, 2, 3))
    assert sum(int(tip.split()[0]) for tip in counted) == report.executed


@pytest.mark.qc
def test_the_summary_is_the_reports(browser, runs):
    """Wall time, speedup, efficiency and contention, and where each setting is from."""
    real = runs("real")
    seen, report = browser.open(real.path), real.result.report
    told = seen.text("#summary")
    assert f"Speedup\n{report.speedup:.2f}\n" in told
    assert f"Contention\n{report.contention:.2f}\n" in told
    assert f"Efficiency\n{100 * report.efficiency:.1f} %\n" in told
    assert f"Wall time\n{report.wall_time:.3g} s\n" in told
    settings = {key: (value, source) for key, value, source in seen.rows("settings")}
    assert settings["run.executor"] == ("loky", "argument")
    assert settings["task.ncores"] == ("1", real.result.config.sources["task.ncores"])
    assert settings.keys() >= real.result.config.sources.keys()


@pytest.mark.qc
def test_failures_are_told_and_drawn(browser, runs):
    """The page says how many failed and in which words; their bars are a group of their own."""
    failed = runs("failed")
    seen = browser.open(failed.path)
    count = failed.result.report.failed
    assert f"{count} of 19 fragment calculations failed." in seen.text("header")
    assert sum(len(seen.marks("timeline", f"nbody-{nbody}-failed")) for nbody in (1, 2, 3)) == count
    rows = seen.rows("failed")
    assert rows[0][1] == "convergence_error"
    assert "did not converge in 10 iterations" in rows[0][2]


def test_a_run_of_which_all_was_known_says_so(browser, runs):
    """Energies are there, times are not, and no plot is empty."""
    reused = runs("reused")
    seen = browser.open(reused.path)
    assert "All 25 fragment calculations were known before" in seen.text("header")
    assert "No fragment calculation ran, so there are no times." in seen.text("#times")
    assert seen.plots() == ["convergence", "contributions", "pairs-nocp", "decay-nocp"]
    assert len(seen.marks("decay-nocp", "triples")) == 10


@pytest.mark.qc
def test_a_run_that_broke_off_says_so(browser, runs):
    """How far it got, what was running, and the times so far."""
    broken = runs("broken")
    seen = browser.open(broken.path)
    done = len(broken.record.fragments)
    assert f"it broke off, or still runs. {done} of 82 fragment calculations had ended." in seen.text("header")
    assert [row[0] for row in seen.rows("running")] == [line["label"] for line in broken.record.running]
    assert sum(len(seen.marks("timeline", f"nbody-{nbody}")) for nbody in (1, 2, 3)) == done
    assert "No sum of the expansion is known." in seen.text("#energies")


def test_a_large_run_is_a_page_that_opens(browser, runs):
    """A hundred thousand fragments are a few images and some tables, the failures among them still marked."""
    large = runs("large")
    assert len(large.record.fragments) > 100_000
    assert large.path.stat().st_size < 3_000_000
    seen = browser.open(large.path)
    images = [*seen.marks("timeline", "image"), *seen.marks("pairs-nocp", "image"), *seen.images("decay-nocp")]
    assert len(images) >= 3
    assert all(width > 100 and height > 100 for _, _, width, height in images)
    assert len(seen.marks("timeline", "failed")) == 6
    assert len(seen.rows("triples-nocp")) == 10
    assert len(seen.rows("workers")) == 40


_CUT = """
return [...document.querySelectorAll(".table")].filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText);
"""


@pytest.mark.qc
@pytest.mark.parametrize("width", [1000, 1180, 1400])
@pytest.mark.parametrize("kind", KINDS)
def test_tables_are_whole_where_there_is_room(browser, runs, kind, width):
    """On a screen that is not a telephone's, no table has to be scrolled."""
    assert browser.open(runs(kind).path, width).run(_CUT) == []


@pytest.mark.qc
@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_leaves_the_page_or_its_window(browser, runs, kind, mode, width):
    """No request but for the page itself, no word on the console, nothing wider than the window."""
    path = runs(kind).path
    seen = browser.open(path, width, mode)
    assert seen.requests == [path.as_uri()]
    assert seen.console == []
    assert seen.run("return [document.documentElement.scrollWidth, document.body.scrollWidth <= innerWidth]") == [
        width,
        True,
    ]


def test_what_would_leave_the_page_is_noticed(browser, tmp_path):
    """The log has the request of a page that makes one, and its policy stops what a record could bring."""
    bad = '<img src="http://127.0.0.1:9/x.png">'
    loose, strict = tmp_path / "loose.html", tmp_path / "strict.html"
    loose.write_text(f"<!DOCTYPE html>{bad}")
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    strict.write_text(f'<!DOCTYPE html><meta http-equiv="Content-Security-Policy" content="{policy}">{bad}')
    assert "http://127.0.0.1:9/x.png" in browser.open(loose).requests
    assert any("Content Security Policy" in line for line in browser.open(strict).console)


_NAMES = """
const ids = [...document.querySelectorAll("[id]")].map(e => e.id);
const html = document.documentElement.outerHTML;
const link = /(?:href="#|url\\(#|url\\(&quot;#|aria-labelledby=")([^")&]+)/g;
const wanted = [...html.matchAll(link)].map(m => m[1]);
return [ids.length - new Set(ids).size, wanted.filter(name => !document.getElementById(name))];
"""


@pytest.mark.qc
@pytest.mark.parametrize("kind", KINDS)
def test_names_are_unique_and_point_somewhere(browser, runs, kind):
    """No id is there twice, and what refers to one finds it; each plot has a title."""
    seen = browser.open(runs(kind).path)
    assert seen.run(_NAMES) == [0, []]
    titled = seen.run(
        "return [...document.querySelectorAll('svg[role=img] > title')].map(e => e.textContent.length > 10)"
    )
    assert titled == [True] * len(seen.plots())


_TEXTS = """
return [...document.querySelectorAll("svg")].map(svg => {
  const b = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll("text")].map(t => {
    const r = t.getBoundingClientRect();
    return [t.textContent, r.left - b.left, r.top - b.top, r.right - b.left, r.bottom - b.top];
  });
  return [svg.getAttribute("aria-labelledby"), b.width, b.height, texts];
});
"""


@pytest.mark.qc
@pytest.mark.parametrize("kind", KINDS)
def test_words_in_plots_are_whole_and_apart(browser, runs, kind):
    """No label overlaps another one or is cut off at the edge of its plot."""
    seen = browser.open(runs(kind).path)
    for name, width, height, texts in seen.run(_TEXTS):
        for words, left, top, right, bottom in texts:
            assert left > -2, (name, words)
            assert top > -2, (name, words)
            assert right < width + 2, (name, words)
            assert bottom < height + 2, (name, words)
        for (one, *a), (other, *b) in combinations(texts, 2):
            across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
            assert across < 1 or down < 4, (name, one, other)  # a line box is higher than its letters


_COLOURS = """
const back = getComputedStyle(document.documentElement).backgroundColor;
const texts = [...document.querySelectorAll("svg text")].map(e => getComputedStyle(e).fill);
const marks = [...document.querySelectorAll("g.marks path, g.marks use")].filter(e => !e.closest("defs"))
  .filter(e => !+(getComputedStyle(e).fillOpacity < 1)).map(e => getComputedStyle(e).stroke);
const read = [...document.querySelectorAll("td, p, dt, dd, a, figcaption")].map(e => getComputedStyle(e).color);
return [back, [...new Set(texts)], [...new Set(marks)], [...new Set(read)]];
"""


@pytest.mark.qc
@pytest.mark.parametrize(("mode", "media"), [("light", "screen"), ("dark", "screen"), ("dark", "print")])
def test_everything_can_be_seen_in_light_in_dark_and_on_paper(browser, runs, mode, media):
    """Words have a contrast of 4.5 at least with the page, marks of 3; paper is white."""
    back, texts, marks, read = browser.open(runs("failed").path, 1400, mode, media).run(_COLOURS)
    assert (_luminance(back) > 0.5) == (mode == "light" or media == "print")
    assert texts
    assert all(_contrast(colour, back) >= 4.5 for colour in [*texts, *read])
    shown = [colour for colour in marks if colour not in ("none", back)]
    assert len(shown) >= 3
    assert all(_contrast(colour, back) >= 3 for colour in shown)


def _luminance(colour):
    """Of W3C's definition."""
    channels = np.array(list(map(int, re.findall(r"\d+", colour)[:3]))) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def _contrast(one, other):
    low, high = sorted([_luminance(one), _luminance(other)])
    return (high + 0.05) / (low + 0.05)


def test_what_a_record_says_is_text(browser, runs, tmp_path):
    """Markup and strange characters in every word of a record are shown as they are; they do nothing."""
    evil = (
        '<script>alert(1)</script><img src="http://127.0.0.1:9/x" onerror="alert(2)">$x$ &amp; \ud800\x00</title></svg>'
    )
    record = runs("reused").record
    first, *others = [{**each, "reused": False, "started": 1.0, "ended": 2.0} for each in record.fragments]
    error = {"error_type": evil, "error_message": f"{evil}\nmore"}
    first |= {"label": evil, "worker": evil, "notes": [evil], "error": error}
    started = record.started | {"mbexec": evil, "executor": evil, "store": evil, "versions": {evil: evil}, "host": evil}
    started["config"] = {"run": {"planner": "manybody", evil: [evil]}, "plugin": {}, "sources": {f"run.{evil}": evil}}
    running = [{"label": evil, "time": started["time"]}]
    result = {"success": False, "error": {"error_type": evil, "error_message": evil}}
    odd = Record(evil, started, [first, *others], running, None, record.report, result)
    path = tmp_path / "odd.html"
    path.write_text(page(odd), encoding="utf-8")
    seen = browser.open(path)
    assert seen.requests == [path.as_uri()]
    assert seen.console == []
    assert seen.run(
        "return [document.scripts.length, document.images.length, document.querySelectorAll('[onerror]').length]"
    ) == [0, 0, 0]
    shown = evil.replace("\ud800", "\N{REPLACEMENT CHARACTER}").replace("\x00", "\N{REPLACEMENT CHARACTER}")
    assert seen.rows("running")[0][0] == shown
    assert seen.rows("noted")[0][0] == shown
    assert seen.rows("failed")[0][1] == shown
    assert any(tip.startswith(shown) for tip in seen.tips("timeline", "nbody-1-failed"))
