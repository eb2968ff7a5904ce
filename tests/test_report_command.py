"""mbexec report, and the record that mbexec run writes for it."""

import csv
import io
import json
import os
import re
import subprocess
import sys
from itertools import combinations

import pytest
import qcelemental as qcel

import mbexec
from mbexec.core.manager import find_plugin
from mbexec.reports import list_runs, read_record
from mbexec.reports.markdown import markdown
from mbexec.reports.page import page
from mbexec.tables import printable
from tests.commands import BAD_INPUT, DONE, FAILED, mbexec_, trimer_job
from tests.systems import argon, job


@pytest.fixture
def jobfile(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(trimer_job())
    return path


@pytest.fixture
def failing(tmp_path):
    """A job with a fragment that the model potential has no parameters for."""
    path = tmp_path / "failing.toml"
    path.write_text(trimer_job("U 9 9 9\n--\n" + argon(3)))
    return path


def rows_of(text, heading):
    """Cells of the table below a heading."""
    part = text.split(heading, 1)[1].split("\n#", 1)[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


# The record of mbexec run


def test_a_run_leaves_its_record_beside_the_job(jobfile, tmp_path):
    """And says so at the end; a quiet one, too."""
    done = mbexec_("run", jobfile)
    record = tmp_path / "job.jsonl"
    assert done.stdout.splitlines()[-1] == "Record: job.jsonl; `mbexec report` shows it"
    assert read_record(record).result["success"]
    mbexec_("run", jobfile, "-q")
    assert len(list_runs(record)) == 2
    assert read_record(record).report["reused"] == read_record(record).report["ntasks"]


def test_a_record_elsewhere(jobfile, tmp_path, monkeypatch):
    """--record names the file, from where one is."""
    done = mbexec_("run", jobfile, "--record", "other.jsonl")
    assert read_record(tmp_path / "other.jsonl").result["success"]
    assert not (tmp_path / "job.jsonl").exists()
    assert "Record: other.jsonl;" in done.stdout.splitlines()[-1]
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    done = mbexec_("run", jobfile, "--record", tmp_path / "other.jsonl", "--no-store")
    assert f"Record: {tmp_path / 'other.jsonl'};" in done.stdout.splitlines()[-1]


def test_no_record(jobfile, tmp_path):
    """Nothing is written, nothing is said."""
    done = mbexec_("run", jobfile, "--no-record")
    assert sorted(path.name for path in tmp_path.glob("job.*")) == ["job.store", "job.toml"]
    assert "Record" not in done.stdout


def test_a_job_with_reporters_of_its_own(jobfile, tmp_path):
    """The record is written beside them."""
    jobfile.write_text(jobfile.read_text() + 'reporters = ["jsonl", "structlog"]\n')
    mbexec_("run", jobfile)
    assert read_record(tmp_path / "job.jsonl").started["config"]["run"]["reporters"] == ["structlog", "jsonl"]
    mbexec_("run", jobfile, "--no-record")
    assert len(list_runs(tmp_path / "job.jsonl")) == 1


def test_settings_without_a_record(jobfile, tmp_path):
    """A path that is false is none, for good; --record wins."""
    jobfile.write_text(jobfile.read_text() + "[plugin.jsonl]\npath = false\n")
    mbexec_("run", jobfile)
    assert not (tmp_path / "job.jsonl").exists()
    done = mbexec_("report", jobfile)
    assert "plugin.jsonl.path is False, so there is no record; give the file of one." in done.stderr
    mbexec_("run", jobfile, "--record", "own.jsonl")
    assert read_record(tmp_path / "own.jsonl").started["config"]["sources"]["plugin.jsonl.path"] == "argument"


def test_only_runs_are_recorded(jobfile, tmp_path):
    """Commands that look at a job leave no file."""
    mbexec_("run", jobfile, "--no-record")
    for command in ("plan", "status", "verify", "plugins"):
        assert mbexec_(command, jobfile).exit_code == DONE
    assert not (tmp_path / "job.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "job.jsonl"], "Invalid value for --output: 'job.jsonl' is the record itself; give the result a file"),
        (["--record", "job.store"], "is the store itself; give the record a file of its own."),
        (["--record", "job.toml"], "is the job itself; give the record a file of its own."),
        (["--record", "same.json", "-o", "same.json"], "'same.json' is the record itself"),
        (["--record", "there.json"], "there.json is there and is no record of runs, so it is left as it is"),
        (["--record", "no/where.jsonl"], "its folder does not exist"),
    ],
)
def test_a_record_takes_no_file_of_another(jobfile, tmp_path, words, said):
    """It is refused before anything runs, and files are as they were."""
    (tmp_path / "there.json").write_text("{}")
    before = jobfile.read_text()
    done = mbexec_("run", jobfile, *words)
    assert done.exit_code == BAD_INPUT
    assert said in done.stderr
    assert (jobfile.read_text(), (tmp_path / "there.json").read_text()) == (before, "{}")
    assert not (tmp_path / "job.jsonl").exists()


def test_a_run_goes_on_without_its_record(jobfile, tmp_path, monkeypatch):
    """Where it can't be written the run ends as ever; it is said once, and no record is named."""
    jsonl = find_plugin("jsonl", "reporter")

    def full(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(jsonl, "_opened", full)
    done = mbexec_("run", jobfile)
    assert done.exit_code == DONE
    assert done.stderr.count("No space left on device") == 1
    assert "mbexec report" not in done.stdout


# mbexec report


def test_a_report_has_the_energies_of_the_result(jobfile):
    """Every energy of every treatment, in E_h and kJ/mol, treatments in the order of the job."""
    mbexec_("run", jobfile)
    shown = mbexec_("report", jobfile).stdout
    properties = mbexec.run(jobfile).result.properties.model_dump()
    kj = qcel.constants.hartree2kJmol
    asked = [each.value for each in mbexec.plan(jobfile).spec.specification.keywords.bsse_type]
    for heading in ("## Energies, ", "## Strongest pairs, "):
        assert [shown.count(heading), re.findall(rf"{heading}.*\((\w+)\)", shown)] == [3, asked]
    for bsse in ("nocp", "cp", "vmfc"):
        rows = {row[0]: row[1:] for row in rows_of(shown, re.search(rf"## Energies, .*\({bsse}\)", shown)[0])}
        assert list(rows) == ["1", "2", "3"]
        for nbody in (1, 2, 3):
            total = properties[f"{bsse}_corrected_total_energy_through_{nbody}_body"]
            assert rows[str(nbody)][0] == f"{total:.10f}"
        for nbody in (2, 3):
            interaction = properties[f"{bsse}_corrected_interaction_energy_through_{nbody}_body"]
            own = properties[f"{bsse}_corrected_{nbody}_body_contribution_to_energy"]
            assert rows[str(nbody)][1:] == [
                *(f"{interaction:.10f}", f"{interaction * kj:.4f}"),
                *(f"{own:.10f}", f"{own * kj:.4f}"),
            ]


def test_a_report_has_the_strongest_pairs(tmp_path):
    """Ten of them, the strongest first, with the distance of their closest atoms."""
    path = tmp_path / "job.jsonl"
    spec = job(argon(6), bsse="cp", max_nbody=3)
    found = mbexec.run(spec, executor="serial", reporters=["jsonl"], **{"plugin.jsonl.path": path})
    shown = mbexec_("report", path).stdout
    pairs = {frag: value for frag, value in found.contributions["cp"].items() if len(frag) == 2}
    strongest = sorted(pairs, key=lambda frag: -abs(pairs[frag]))[:10]
    rows = rows_of(shown, "## Strongest pairs")
    assert [row[0] for row in rows] == [f"{a}, {b}" for a, b in strongest]
    assert [row[1] for row in rows] == [f"{pairs[frag]:.10f}" for frag in strongest]
    assert [row[2] for row in rows] == [f"{pairs[frag] * qcel.constants.hartree2kJmol:.4f}" for frag in strongest]
    distances = read_record(path).distances
    assert [row[3] for row in rows] == [f"{distances[a - 1, b - 1]:.2f}" for a, b in strongest]
    assert "... and 5 more." in shown
    triples = [tuple(map(int, row[0].split(", "))) for row in rows_of(shown, "## Strongest triples")]
    greatest = [max(distances[a - 1, b - 1] for a, b in combinations(frag, 2)) for frag in triples]
    assert [row[3] for row in rows_of(shown, "## Strongest triples")] == [f"{apart:.2f}" for apart in greatest]


def test_a_report_has_what_the_run_cost(jobfile):
    """The figures of the run's own report, and nothing of what was reused."""
    mbexec_("run", jobfile)
    shown = mbexec_("report", jobfile).stdout
    report = read_record(jobfile.with_suffix(".jsonl")).report
    figures = {row[0]: row[1] for row in rows_of(shown, "| mbexec ")}
    assert figures["executed"] == str(report["ntasks"])
    assert figures["speedup"] == f"{report['speedup']:.2f}"
    assert figures["contention"] == f"{report['contention']:.2f}"
    assert figures["efficiency"] == f"{100 * report['efficiency']:.1f} %"
    levels = rows_of(shown, "## Load by order")
    assert [row[:5] for row in levels] == [
        [str(level[name]) for name in ("nbody", "ntasks", "executed", "reused", "failed")] for level in report["levels"]
    ]
    times = [float(row[5]) for row in levels]
    assert times == pytest.approx([level["wall_time"] for level in report["levels"]], rel=1e-3)


def test_a_report_of_a_run_that_only_went_on(jobfile):
    """What was reused has no times."""
    mbexec_("run", jobfile)
    mbexec_("run", jobfile)
    shown = mbexec_("report", jobfile).stdout
    figures = {row[0]: row[1] for row in rows_of(shown, "| mbexec ")}
    total = str(len(mbexec.plan(jobfile)))
    assert (figures["executed"], figures["reused"], figures["speedup"]) == ("0", total, "-")
    assert {cell for row in rows_of(shown, "## Load by order") for cell in row[5:]} == {"-"}
    assert "## Slowest" not in shown
    assert "has 1 other run: --run ID shows one of" in shown


def test_a_report_of_failures(failing):
    """Each kind once with its message, the exact sums and the estimates."""
    assert mbexec_("run", failing).exit_code == FAILED
    shown = mbexec_("report", failing).stdout
    rows = rows_of(shown, "## Failures")
    assert len(rows) == 1
    assert (rows[0][1], "uranium" in rows[0][2].lower() or "U" in rows[0][2]) == ("input_error", True)
    assert "more" in rows[0][0]
    assert re.search(r"^\d+ of \d+ fragment calculations failed\.$", shown, re.MULTILINE)
    assert "## Estimates of what is not known" in shown
    record = read_record(failing.with_suffix(".jsonl"))
    strongest = rows_of(shown, "## Strongest pairs")
    assert all("1" not in row[0].split(", ") for row in strongest)
    assert strongest
    assert record.result["error"]["partial"]["estimates"]


def test_a_run_in_which_all_failed_has_no_energy(tmp_path):
    """Of monomers there is no interaction; that sum of nothing is not shown as the energy of the run."""
    path = tmp_path / "job.jsonl"
    spec = job(argon(3), max_nbody=1)
    spec["program"]["method"] = "hf2"
    found = mbexec.run(spec, executor="serial", reporters=["jsonl"], **{"plugin.jsonl.path": path})
    shown = mbexec_("report", path).stdout
    assert "3 of 3 fragment calculations failed." in shown
    assert "## Energ" not in shown
    assert "0.000000" not in shown
    assert "No sum of the expansion is known." in page(read_record(path))
    assert found.result.error.extras["partial"]["properties"] == {}


def test_a_report_of_a_run_that_broke_off(jobfile, tmp_path):
    """It says so, and what was running."""
    mbexec_("run", jobfile)
    path = tmp_path / "job.jsonl"
    lines = path.read_text().splitlines()
    name = json.loads(lines[0])["run_id"]
    begun = f'{{"event":"fragment_started","run_id":"{name}","time":9e9,"index":18,"label":"the last"}}'
    kept = [line for line in lines[:-1] if json.loads(line).get("index") != 18]
    path.write_text("\n".join([*kept, begun, lines[-1][:100]]))
    shown = mbexec_("report", path).stdout
    assert "No end of the run is recorded: it broke off, or still runs. 18 of 19 fragment calculations had" in shown
    assert rows_of(shown, "## Running when the record ends")[0][0] == "the last"
    figures = {row[0]: row[1] for row in rows_of(shown, "| mbexec ")}
    assert figures["executed"] == "18"
    assert "## Energies" not in shown


def test_what_programs_say_does_nothing_to_a_terminal(failing):
    """Control characters and bars in messages and notes."""
    mbexec_("run", failing)
    path = failing.with_suffix(".jsonl")
    told = json.dumps("a|b \x1b[31mred\r\n and more")
    text = re.sub(r'"notes":\[\]', f'"notes":[{told}]'.replace("\\", "\\\\"), path.read_text())
    path.write_text(text)
    shown = mbexec_("report", path).stdout
    assert printable(shown) == shown
    assert "a\\|b" in shown


def test_a_report_of_a_chosen_run(jobfile):
    """By its name."""
    for _ in range(2):
        mbexec_("run", jobfile)
    first, last = [run.run_id for run in list_runs(jobfile.with_suffix(".jsonl"))]
    assert mbexec_("report", jobfile).stdout.startswith(f"# Run {last}\n")
    assert mbexec_("report", jobfile, "--run", first).stdout.startswith(f"# Run {first}\n")
    done = mbexec_("report", jobfile, "--run", "f00d")
    assert (done.exit_code, f"has no run 'f00d'; its runs are {first}, {last}." in done.stderr) == (BAD_INPUT, True)


def test_a_report_as_json(jobfile):
    """All of it, with the numbers of the result."""
    mbexec_("run", jobfile)
    found = json.loads(mbexec_("report", jobfile, "--format", "json").stdout)
    record = read_record(jobfile.with_suffix(".jsonl"))
    assert found["report"] == record.report
    assert found["result"] == record.result
    assert found["run_id"] == record.run_id
    assert {
        bsse: {tuple(e["fragments"]): e["energy"] for e in sets} for bsse, sets in found["contributions"].items()
    } == (mbexec.run(jobfile).contributions)
    assert [line["energy"] for line in found["fragments"]] == record.energies.tolist()
    assert found["started"]["input"] == record.started["input"]


def test_a_report_as_a_table(failing):
    """A row for each fragment calculation; energies to the last bit, messages whole."""
    mbexec_("run", failing)
    rows = list(csv.DictReader(io.StringIO(mbexec_("report", failing, "--format", "csv").stdout)))
    record = read_record(failing.with_suffix(".jsonl"))
    assert len(rows) == len(record.fragments)
    for row, line in zip(rows, record.fragments, strict=True):
        assert (row["label"], row["nbody"], row["worker"]) == (line["label"], str(line["nbody"]), line["worker"])
        assert (float(row["energy"]) if row["energy"] else None) == line["energy"]
        assert row["error_message"] == (line["error"] or {"error_message": ""})["error_message"]
        assert [int(number) for number in row["frag"].split()] == line["frag"]
        assert float(row["wall_time"]) == line["wall_time"]


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("a.md", "# Run"),
        ("a.JSON", "{"),
        ("a.csv", "index,label"),
        ("a.html", "<!DOCTYPE html>"),
    ],
)
def test_the_ending_of_a_file_says_what_is_written(jobfile, tmp_path, name, begins):
    """And --format says it otherwise."""
    mbexec_("run", jobfile)
    done = mbexec_("report", jobfile, "-o", name)
    assert done.stdout == f"Report written to {name}.\n"
    assert (tmp_path / name).read_text().startswith(begins)
    mbexec_("report", jobfile, "-o", name, "--format", "csv")
    assert (tmp_path / name).read_text().startswith("index,label")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["job.toml", "-o", "a.txt"],
            "'a.txt' must end in .md, .json, .csv or .html, unless --format says what it is.",
        ),
        (
            ["job.toml", "-o", "job.jsonl", "--format", "csv"],
            "'job.jsonl' is the record itself; give the report",
        ),
        (["job.toml", "-o", "job.toml", "--format", "csv"], "'job.toml' is the job itself; give the report a file"),
        (["job.jsonl", "-o", "job.store", "--format", "csv"], "'job.store' is the store itself; give the report"),
        (["job.toml", "-o", "no/where.md"], "the folder of 'no/where.md' does not exist."),
        (["other.jsonl"], "There is no record other.jsonl; `mbexec run JOB` writes one"),
        (["job.store"], "job.store is no record of runs"),
        (["nobody.toml"], "nobody.toml: can't be read"),
    ],
)
def test_what_cant_be_reported(jobfile, words, said):
    """Said in a sentence, and nothing is written over."""
    mbexec_("run", jobfile)
    files = [jobfile.with_suffix(suffix) for suffix in (".toml", ".jsonl", ".store")]
    before = [path.read_bytes() for path in files]
    done = mbexec_("report", *words)
    assert done.exit_code == BAD_INPUT
    assert said in done.stderr
    assert [path.read_bytes() for path in files] == before


def test_a_record_that_a_job_names(jobfile, tmp_path):
    """A job means the record that its settings name."""
    jobfile.write_text(jobfile.read_text() + '[plugin.jsonl]\npath = "elsewhere.jsonl"\n')
    mbexec_("run", jobfile)
    assert (tmp_path / "elsewhere.jsonl").exists()
    assert mbexec_("report", jobfile).stdout.startswith("# Run")


def test_a_report_without_the_planner(jobfile):
    """Everything but the contributions."""
    mbexec_("run", jobfile)
    path = jobfile.with_suffix(".jsonl")
    path.write_text(path.read_text().replace('"planner":"manybody"', '"planner":"gone"'))
    shown = markdown(read_record(path))
    assert "They can't be told: No planner named 'gone' is installed." in shown
    assert "## Energies" in shown


def test_a_report_goes_into_a_pipe_that_closes(jobfile):
    """`mbexec report job.toml | head -1` ends as it should."""
    mbexec_("run", jobfile)
    command = f"{sys.executable} -c 'from mbexec.cli import main; main()' report {jobfile} | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=os.getcwd())
    assert done.stdout.startswith("# Run")
    assert done.stderr == ""
