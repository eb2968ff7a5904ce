"""The distributions as users get them: wheels, installed into fresh environments away from the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from mbexec.testing import EXECUTOR_RULES

pytestmark = pytest.mark.packaging

ROOT = Path(__file__).parents[2]
ARGON = ROOT / "examples" / "argon-cluster.toml"
INSTALL = "pip install mbexec-loky"
TWO = ["-n", "2", "--dist", "worksteal"]


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """Every distribution of the repository, built into one folder."""
    folder = tmp_path_factory.mktemp("wheels")
    for project in [ROOT, *sorted(path.parent for path in ROOT.glob("plugins-contrib/*/pyproject.toml"))]:
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(project)]
        subprocess.run(build, check=True, capture_output=True)
    return folder


class Environment:
    """A fresh virtual environment, and commands in it, run in a folder that has none of our files."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        venv.create(folder / "env", with_pip=True)
        self.bin = folder / "env" / "bin"
        self.cwd = folder / "elsewhere"
        self.cwd.mkdir()
        self.wheels = wheels

    def pip(self, *words: str) -> None:
        self.run(
            "pip", words[0], "--quiet", *(["--find-links", self.wheels] if words[0] == "install" else []), *words[1:]
        )

    def run(self, command: str, *words: str | Path, code: int = 0, **variables: str) -> str:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MBEXEC", "COVERAGE", "VIRTUAL"))}
        done = subprocess.run(
            [self.bin / command, *words],
            cwd=self.cwd,
            env={**clean, "HOME": str(self.cwd), "XDG_CONFIG_HOME": str(self.cwd), **variables},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="session")
def core(tmp_path_factory, wheels):
    """The core wheel only."""
    environment = Environment(tmp_path_factory.mktemp("core"), wheels)
    environment.pip("install", "mbexec")
    return environment


def test_core_runs_without_qcengine(core):
    """Mbexec imports and runs the argon cluster where QCEngine can't be imported."""
    core.run("python", "-c", "import qcengine", code=1)
    core.run("python", "-c", "import mbexec")
    assert "-0.01180948" in core.run("mbexec", "run", ARGON)


@pytest.mark.parametrize("program", ["psi4", "nwchem", "pyscf"])
def test_a_qcengine_program_without_qcengine_says_what_to_install(core, program):
    """The sentence names the install line."""
    job = core.cwd / "job.toml"
    job.write_text(ARGON.read_text().replace("model-potential", program))
    assert "pip install 'mbexec[qcengine]'" in core.run("mbexec", "run", job, code=2)


def test_mbexec_comes_from_the_wheel(core):
    """What runs is the installed package, typed, with licence and metadata."""
    where = core.run("python", "-c", "import mbexec; print(mbexec.__file__)").strip()
    assert Path(where).is_relative_to(core.bin.parent)
    assert (Path(where).parent / "py.typed").is_file()
    listing = "d = __import__('importlib.metadata').metadata.distribution('mbexec');"
    shown = core.run("python", "-c", f"{listing} print(d.metadata['License-Expression'], *d.files)")
    assert shown.startswith("BSD-3-Clause ")
    assert "LICENSE" in shown
    assert "tests/" not in shown


def test_loky_is_there_when_installed_and_only_then(core):
    """Without the wheel the sentence names it; with it, argument, variable, job file and mbexec.toml choose it."""
    job = core.cwd / "job.toml"
    plain = ARGON.read_text().split("[run]")[0]
    job.write_text(plain)
    assert INSTALL in core.run("mbexec", "run", job, "--executor", "loky", code=2)
    core.pip("install", "mbexec-loky")
    assert "threads" in core.run("mbexec", "run", job)
    assert "on loky" in core.run("mbexec", "run", job, "--executor", "loky")
    assert "on loky" in core.run("mbexec", "run", job, MBEXEC_RUN__EXECUTOR="loky")
    job.write_text(plain + '[run]\nexecutor = "loky"\n')
    assert "on loky" in core.run("mbexec", "run", job)
    job.write_text(plain)
    (core.cwd / "mbexec.toml").write_text('[run]\nexecutor = "loky"\n')
    assert "on loky" in core.run("mbexec", "run", job)
    core.pip("uninstall", "--yes", "mbexec-loky")
    assert INSTALL in core.run("mbexec", "run", job, code=2)
    (core.cwd / "mbexec.toml").unlink()


@pytest.fixture(scope="session")
def full(tmp_path_factory, wheels):
    """All wheels, and what the tests need."""
    environment = Environment(tmp_path_factory.mktemp("full"), wheels)
    contribs = [path.parent.name for path in sorted(ROOT.glob("plugins-contrib/*/pyproject.toml"))]
    environment.pip("install", "mbexec[dev]", *contribs)
    return environment


MODULES = ["mbexec", "mbexec_dask", "mbexec_loky", "mbexec_parsl", "mbexec_psi4", "mbexec_pyscf", "mbexec_tblite"]
# What could go wrong in a wheel: an entry point, a file, a dependency that is not declared.
CHOSEN = [
    "tests/test_cli.py",
    "tests/test_docs.py",
    "tests/test_manager.py",
    "tests/test_public.py",
    "tests/test_strangers.py",
    *(f"plugins-contrib/mbexec-{name}/tests/test_readme.py" for name in ("psi4", "pyscf", "tblite")),
    "plugins-contrib/mbexec-loky/tests/test_scripts.py",
    "plugins-contrib/mbexec-psi4/tests/test_result.py",
]


def test_everything_comes_from_the_wheels(full):
    """No module of ours is found anywhere but in the environment."""
    script = f"import importlib\nfor name in {MODULES!r}:\n    print(importlib.import_module(name).__file__)"
    found = [Path(line) for line in full.run("python", "-c", script).splitlines()]
    assert len(found) == len(MODULES)
    assert [path for path in found if not path.is_relative_to(full.bin.parent)] == []


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio", "loky", "dask", "parsl"])
def test_an_executor_from_its_wheel_keeps_every_rule(full, executor):
    """The kit finds it by name, and says how each rule went."""
    said = full.run("python", "-m", "mbexec.testing", executor).splitlines()
    assert said[0] == f"{executor}, executor"
    found = [line.split()[1].rstrip(":") for line in said if line.startswith(("kept ", "skipped "))]
    assert found == [rule.__name__ for rule in EXECUTOR_RULES]


@pytest.fixture
def copy(full, tmp_path, monkeypatch):
    """A copy of the repository without the sources, in which commands run."""
    copy = tmp_path / "copy"
    sources = [ROOT / "mbexec", *ROOT.glob("plugins-contrib/*/src")]
    unwanted = shutil.ignore_patterns(".*", "dist", "build")
    shutil.copytree(
        ROOT,
        copy,
        ignore=lambda folder, names: {
            *unwanted(folder, names),
            *(path.name for path in sources if path.parent == Path(folder)),
        },
    )
    monkeypatch.setattr(full, "cwd", copy)
    return copy


@pytest.mark.usefixtures("copy")
def test_what_wheels_may_lack_is_there(full):
    """Commands, the examples of the pages, plugins and programs by name: their tests pass against the wheels."""
    usual = "not packaging and not nightly"
    examples = "on_a_page or example or output or not test_docs"
    output = full.run("python", "-m", "pytest", "-q", *TWO, "-m", usual, "-k", examples, *CHOSEN)
    assert " passed" in output


@pytest.mark.nightly
@pytest.mark.usefixtures("copy")
def test_the_suite_passes_against_the_wheels(full):
    """All of it that does not look at the sources."""
    output = full.run("python", "-m", "pytest", "-q", *TWO, "-m", "not packaging and not nightly and not sources")
    assert " passed" in output
