"""What strangers write: the examples' distributions, which know mbexec by its public names only, chosen by name."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mbexec
from tests.systems import argon, job

FOLDER = Path(__file__).parents[1] / "examples"
STRANGERS = sorted(path.parent for path in FOLDER.glob("plugin-*/pyproject.toml"))


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A folder into which the examples' distributions are installed, built from copies of their sources."""
    sources = tmp_path_factory.mktemp("sources")
    for path in STRANGERS:
        shutil.copytree(path, sources / path.name, ignore=shutil.ignore_patterns("__pycache__"))
    site = tmp_path_factory.mktemp("site-packages")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", site]
    subprocess.run([*command, *(sources / path.name for path in STRANGERS)], check=True)
    return site


@pytest.fixture
def elsewhere(installed):
    """Run a script in a process that has the strangers on its path; what it prints as JSON."""

    def run(script, **variables):
        done = subprocess.run(
            [sys.executable, "-c", f"import json, mbexec\n{script}"],
            env={**os.environ, "PYTHONPATH": str(installed), **variables},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def expected(tables):
    """What mbexec's own plugins make of the job."""
    return mbexec.run(tables)


RUN = """
found = mbexec.run({spec!r}, **{settings!r})
print(json.dumps([found.report.executor, found.result.return_result, found.energies.tolist()]))
"""


def test_a_stranger_executor(elsewhere, tables, expected):
    """Chosen by argument: its own processes, the same bits."""
    name, energy, energies = elsewhere(RUN.format(spec=tables, settings={"executor": "processes"}))
    assert name == "processes"
    assert energy == expected.result.return_result
    assert energies == expected.energies.tolist()


CHOSEN = """
import os
from pathlib import Path

def chosen(tables, **settings):
    return mbexec.run(tables, **settings).report.executor

own = {own!r}
found = [chosen(own), chosen({job!r}), chosen(own, executor="processes")]
os.environ["MBEXEC_RUN__EXECUTOR"] = "processes"
found.append(chosen(own))
del os.environ["MBEXEC_RUN__EXECUTOR"]
Path("mbexec.toml").write_text('[run]\\nexecutor = "processes"\\n')
print(json.dumps([*found, chosen(own)]))
"""


def test_a_stranger_is_chosen_like_anyone(elsewhere, tables):
    """By job, argument, variable or mbexec.toml; without any of them it is not."""
    del tables["run"]["executor"]
    script = CHOSEN.format(own=tables, job=tables | {"run": {"executor": "processes"}})
    assert elsewhere(script) == ["threads", *["processes"] * 4]


def test_a_stranger_planner(elsewhere):
    """Chosen in the job, with a setting of its own: near pairs only, merged in its own way."""
    chain = "\n--\n".join(f"Ar 0 0 {4 * i}" for i in range(4))
    tables = job(chain, max_nbody=2, run={"executor": "serial", "planner": "neighbours"})
    tables["plugin"] = {"neighbours": {"cutoff": 8.0}}
    _, energy, energies = elsewhere(RUN.format(spec=tables, settings={}))
    pairs = mbexec.run(job(chain, max_nbody=2), executor="serial").contributions["nocp"]
    assert len(energies) == 4 + 3
    assert energy == pytest.approx(sum(pairs[i, i + 1] for i in (1, 2, 3)), rel=1e-12)


def test_a_stranger_planner_in_the_command_line(elsewhere, installed, tmp_path):
    """Its result is shown and written as anyone's."""
    text = (
        '[molecule]\ngeometry = "Ar 0 0 0\\n--\\nAr 0 0 4\\n--\\nAr 0 0 8"\n'
        '[program]\nprogram = "model-potential"\nmethod = "lj"\n'
        '[run]\nexecutor = "serial"\nplanner = "neighbours"\n[plugin.neighbours]\ncutoff = 8.0\n'
    )
    (tmp_path / "job.toml").write_text(text)
    command = [sys.executable, "-c", "from mbexec.cli import main; main()", "run", "job.toml", "-o", "result.json"]
    variables = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "5 fragment calculations run on serial" in done.stdout
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["provenance"]["creator"] == "neighbours-planner"
    assert f"{written['return_result']:.10f}" in done.stdout


def test_a_stranger_reporter(elsewhere, tables, expected, tmp_path):
    """Chosen in the job, writing where its settings say."""
    tables["run"]["reporters"] = ["diary"]
    tables["plugin"] = {"diary": {"path": str(tmp_path / "diary.txt")}}
    elsewhere(RUN.format(spec=tables, settings={"schedule": "nbody"}))
    fragments = [f"{task.label} {energy:.12f}" for task, energy in zip(expected.plan, expected.energies, strict=True)]
    assert (tmp_path / "diary.txt").read_text().splitlines() == [
        "serial begins with 1 workers",
        "1-body begins: 3 fragments",
        *fragments[:3],
        "1-body ends: 0 failed",
        "2-body begins: 3 fragments",
        *fragments[3:],
        "2-body ends: 0 failed",
        "the run ends: 6 fragments",
    ]


def test_a_stranger_store(elsewhere, tables, expected, tmp_path):
    """A second run takes everything from it, to the last bit; a run of another input takes nothing."""
    tables["run"]["store"] = "lines"
    tables["plugin"] = {"lines": {"folder": str(tmp_path / "lines")}}
    script = (
        f"found = mbexec.run({tables!r}, **{{'program.method': METHOD}})\n"
        "executed = sum(level.executed for level in found.report.levels)\n"
        "print(json.dumps([executed, found.result.return_result]))"
    )
    first, again, other = (elsewhere(script.replace("METHOD", repr(method))) for method in ("lj-atm", "lj-atm", "lj"))
    assert first == [6, expected.result.return_result]
    assert again == [0, expected.result.return_result]
    assert other[0] == 6


@pytest.mark.parametrize(
    "check",
    [
        "from neighbours_planner import Neighbours\ncheck_planner(lambda: Neighbours(cutoff=9.0))",
        "from diary_reporter import Diary\ncheck_reporter(lambda: Diary('diary.txt'))",
        "from lines_store import Lines\ncheck_store(Lines)",
    ],
    ids=["planner", "reporter", "store"],
)
def test_a_stranger_passes_its_kit(installed, check):
    """No rule is broken."""
    script = f"from mbexec.testing import check_planner, check_reporter, check_store\n{check}"
    variables = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", script], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.split()[0] for line in done.stdout.splitlines()} == {"kept"}


def test_the_template_passes_its_own_tests(installed, tmp_path):
    """Copied elsewhere and installed, as its author would; the rules that are not for it are skipped."""
    shutil.copytree(FOLDER / "plugin-template" / "tests", tmp_path / "tests")
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-W", "error", "tests"]
    variables = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "19 passed, 3 skipped" in done.stdout
    assert "it does not declare can_kill" in done.stdout


def test_strangers_together(elsewhere, tmp_path):
    """All four in one run."""
    tables = job(argon(4), run={"executor": "processes", "planner": "neighbours", "reporters": ["diary", "structlog"]})
    tables["plugin"] = {
        "processes": {"ahead": 0},
        "neighbours": {"cutoff": 100.0},
        "diary": {"path": str(tmp_path / "diary.txt")},
        "lines": {"folder": str(tmp_path / "lines")},
    }
    tables["run"]["store"] = "lines"
    name, energy, _ = elsewhere(RUN.format(spec=tables, settings={}))
    own = mbexec.run(job(argon(4), max_nbody=2), executor="serial")
    assert name == "processes"
    assert energy == pytest.approx(own.result.return_result, rel=1e-12)
    assert len((tmp_path / "diary.txt").read_text().splitlines()) == 1 + 10 + 2 * 2 + 1


def test_strangers_are_listed(elsewhere):
    """With distribution, version and role."""
    script = (
        "from mbexec.core.manager import installed_plugins\n"
        "print(json.dumps([[p.name, p.distribution, p.version, *p.roles] for p in installed_plugins()]))"
    )
    listed = elsewhere(script)
    assert ["processes", "mbexec-processes", "0.1.0", "executor"] in listed
    assert ["diary", "diary-reporter", "1.0rc1", "reporter"] in listed
    assert ["lines", "lines-store", "0.3", "store"] in listed
    assert ["neighbours", "neighbours-planner", "0.2", "planner"] in listed


def test_strangers_that_are_not_named_are_not_imported(elsewhere, tables):
    """Installed does not mean active."""
    script = f"import sys\nmbexec.run({tables!r})\n"
    modules = elsewhere(f"{script}print(json.dumps(sorted(sys.modules)))")
    assert not {"mbexec_processes", "neighbours_planner", "diary_reporter", "lines_store"}.intersection(modules)


@pytest.mark.parametrize("folder", STRANGERS, ids=lambda path: path.name)
def test_strangers_know_public_names_only(folder):
    """From mbexec they import names that it lists, and nothing deeper."""
    (module,) = [*folder.glob("*.py"), *folder.glob("src/*/*.py")]
    imports = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in imports if node.module == "mbexec" for alias in node.names]
    assert names
    assert set(names) <= set(mbexec.__all__)
    assert not [node.module for node in imports if node.module.startswith("mbexec.")]
