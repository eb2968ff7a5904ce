"""Everything that is checked, each in an environment of its own: `nox -l` lists it, `nox` runs the usual part."""

from __future__ import annotations

import tomllib
from pathlib import Path

import nox

ROOT = Path(__file__).parent
CONTRIBS = sorted(path.parent for path in ROOT.glob("plugins-contrib/*/pyproject.toml"))
TWO = [
    "-n",
    "2",
    "--dist",
    "worksteal",
]  # a third of the time goes by in waiting; more at once would disturb each other
EDITABLE = ["-e", ".[dev]", *(part for contrib in CONTRIBS for part in ("-e", str(contrib)))]

nox.options.default_venv_backend = "venv"
nox.options.sessions = ["lint", "tests", "packaging", "lowest", "benchmarks"]


@nox.session
def lint(session: nox.Session) -> None:
    """Format, style, types, and who imports whom."""
    session.install(*EDITABLE)
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")
    session.run("mypy")
    session.run("lint-imports")


@nox.session
def tests(session: nox.Session) -> None:
    """The whole suite with coverage, worker processes included."""
    session.install(*EDITABLE)
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *TWO, *session.posargs)
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def packaging(session: nox.Session) -> None:
    """Wheels, built here and installed away from the sources.

    What a wheel may lack is tried: commands, plugins and programs by name, the kit on each executor, the examples of
    the pages. The whole suite says no more about packaging, and takes far longer; it runs on the wheels in `nightly`.
    """
    session.install("-e", ".", "build", "hatchling", "pytest", "pytest-randomly", "pytest-timeout")
    choice = ["-m", "packaging and not nightly", "--timeout", "1800"]
    session.run("pytest", "tests/packaging", *choice, *session.posargs)


@nox.session
def lowest(session: nox.Session) -> None:
    """The suite without real programs, with the lowest versions that the distributions declare."""
    declared = {line for path in [ROOT, *CONTRIBS] for line in _dependencies(path) if not line.startswith("mbexec")}
    pins = sorted(line.split(",")[0].replace(">=", "==") for line in declared)
    session.install(*EDITABLE, *pins, "pyparsing<3.3")  # later ones make the lowest matplotlib warn
    choice = "not packaging and not nightly and not qc and not browser and not current"
    session.run("pytest", *TWO, "-m", choice, *session.posargs)


def _dependencies(path: Path) -> list[str]:
    project = tomllib.loads((path / "pyproject.toml").read_text())["project"]
    extras = {name: lines for name, lines in project.get("optional-dependencies", {}).items() if name != "dev"}
    return [*project["dependencies"], *(line for lines in extras.values() for line in lines)]


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Ratios that must hold, with wide margins."""
    session.install(*EDITABLE, "joblib")  # to compare with, as Dask and Parsl, which are there
    session.run("python", "-m", "benchmarks", "--check", *session.posargs)


@nox.session
def nightly(session: nox.Session) -> None:
    """Long storms and matrices, the suite on the wheels, and that without real programs in several random orders."""
    session.install(*EDITABLE)
    session.run("pytest", "-q", "-m", "nightly", "--timeout", "3600", *session.posargs)
    choice = "not packaging and not nightly and not qc and not browser"
    for _ in range(5):
        session.run("pytest", "-q", *TWO, "-m", choice, *session.posargs)
