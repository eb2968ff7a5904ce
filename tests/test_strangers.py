"""What strangers write: distributions that know mbexec by its public names only, installed and chosen by name."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mbexec
from tests.systems import argon, job

FOLDER = Path(__file__).parent / "strangers"
STRANGERS = sorted(path.parent for path in FOLDER.glob("*/pyproject.toml"))


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """A folder into which the strangers' distributions are installed, built from copies of their sources."""
    import shutil

    sources = tmp_path_factory.mktemp("sources")
    shutil.copytree(FOLDER, sources, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
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
    """Chosen by argument: its own order, the same bits."""
    name, energy, energies = elsewhere(RUN.format(spec=tables, settings={"executor": "backwards"}))
    assert name == "backwards"
    assert energy == expected.result.return_result
    assert energies == expected.energies.tolist()


@pytest.mark.parametrize("where", ["argument", "variable", "job", "project"])
def test_a_stranger_is_chosen_like_anyone(elsewhere, tables, tmp_path, where):
    """By argument, variable, job file or mbexec.toml."""
    settings, variables = {}, {}
    del tables["run"]["executor"]
    if where == "argument":
        settings = {"executor": "backwards"}
    elif where == "variable":
        variables = {"MBEXEC_RUN__EXECUTOR": "backwards"}
    elif where == "job":
        tables["run"] = {"executor": "backwards"}
    else:
        (tmp_path / "mbexec.toml").write_text('[run]\nexecutor = "backwards"\n')
    assert elsewhere(RUN.format(spec=tables, settings=settings), **variables)[0] == "backwards"


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


def test_strangers_together(elsewhere, tmp_path):
    """All three in one run."""
    tables = job(argon(4), run={"executor": "backwards", "planner": "neighbours", "reporters": ["diary", "structlog"]})
    tables["plugin"] = {
        "backwards": {"stride": 3},
        "neighbours": {"cutoff": 100.0},
        "diary": {"path": str(tmp_path / "diary.txt")},
    }
    name, energy, _ = elsewhere(RUN.format(spec=tables, settings={}))
    own = mbexec.run(job(argon(4), max_nbody=2), executor="serial")
    assert name == "backwards"
    assert energy == pytest.approx(own.result.return_result, rel=1e-12)
    assert len((tmp_path / "diary.txt").read_text().splitlines()) == 1 + 10 + 2 * 2 + 1


def test_strangers_are_listed(elsewhere):
    """With distribution, version and role."""
    script = (
        "from mbexec.core.manager import installed_plugins\n"
        "print(json.dumps([[p.name, p.distribution, p.version, *p.roles] for p in installed_plugins()]))"
    )
    listed = elsewhere(script)
    assert ["backwards", "backwards-executor", "3.1", "executor"] in listed
    assert ["diary", "diary-reporter", "1.0rc1", "reporter"] in listed
    assert ["neighbours", "neighbours-planner", "0.2", "planner"] in listed


def test_strangers_that_are_not_named_are_not_imported(elsewhere, tables):
    """Installed does not mean active."""
    script = f"import sys\nmbexec.run({tables!r})\n"
    modules = elsewhere(f"{script}print(json.dumps(sorted(sys.modules)))")
    assert not {"backwards_executor", "neighbours_planner", "diary_reporter"}.intersection(modules)


@pytest.mark.parametrize("folder", STRANGERS, ids=lambda path: path.name)
def test_strangers_know_public_names_only(folder):
    """From mbexec they import names that it lists, and nothing deeper."""
    (module,) = folder.glob("*.py")
    imports = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in imports if node.module == "mbexec" for alias in node.names]
    assert names
    assert set(names) <= set(mbexec.__all__)
    assert not [node.module for node in imports if node.module.startswith("mbexec.")]
