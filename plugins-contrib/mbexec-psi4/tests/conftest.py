"""Water clusters, their fragments with and without ghosts, the harness under test, and psi4s that are none."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from mbexec_psi4 import Psi4Harness
from mbexec_psi4.executable import find_psi4, is_ours
from qcelemental.models.v2 import AtomicInput, AtomicResult, Molecule
from qcengine.config import TaskConfig

# Three waters, no two alike and none in a symmetric place; a0.
TRIMER = np.array(
    [
        [[0.0, 0.0, 0.2217], [0.05, 1.4309, -0.8867], [0.0, -1.41, -0.89]],
        [[5.4, 0.3, 0.2], [6.31, 1.52, 1.24], [3.62, 0.11, 0.48]],
        [[2.5, 5.0, 0.6], [1.31, 3.73, 0.1], [3.95, 4.16, -0.2]],
    ]
)


@pytest.fixture(autouse=True)
def _environment_kept():
    """Fail a test that leaves the environment changed."""
    before = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    yield
    assert {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")} == before


@pytest.fixture
def psi4(_environment_kept) -> str:
    """Path of a psi4 1.3."""
    executable = find_psi4()
    if executable is None or not is_ours(executable):
        pytest.fail("These tests need psi4 1.3, as Debian has it: apt-get install psi4.")
    return executable


@pytest.fixture
def fake(_environment_kept, monkeypatch, tmp_path) -> Callable[..., Path]:
    """Put a command named psi4 first on the path that reports a version, and otherwise does as told in Python."""

    def install(version: str, source: str = "") -> Path:
        folder = tmp_path / "bin"
        folder.mkdir()
        command = folder / "psi4"
        script = f"""\
            #!{sys.executable}
            import json, os, signal, sys
            if "--version" in sys.argv:
                print({version!r})
                sys.exit()
            """
        command.write_text(dedent(script) + dedent(source))
        command.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        return command

    return install


@pytest.fixture(scope="session")
def fragment() -> Callable[..., Molecule]:
    """A water fragment: 1-based numbers of its real waters and of those whose basis it has."""

    def build(frag: Sequence[int] = (1,), bas: Sequence[int] | None = None, **fields: Any) -> Molecule:
        waters = sorted(bas or frag)
        return Molecule(
            **{
                "symbols": ["O", "H", "H"] * len(waters),
                "geometry": np.concatenate([TRIMER[water - 1] for water in waters]),
                "real": [water in frag for water in waters for _ in range(3)],
                "molecular_charge": 0,
                "molecular_multiplicity": 1,
            }
            | fields
        )

    return build


@pytest.fixture
def config(tmp_path) -> TaskConfig:
    """One core, and a scratch directory that tests can look into."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return TaskConfig(
        ncores=1,
        memory=1.0,
        nnodes=1,
        retries=0,
        scratch_directory=str(scratch),
        mpiexec_command=None,
        use_mpiexec=False,
        cores_per_rank=1,
    )


@pytest.fixture(scope="session")
def atomic_input() -> Callable[..., AtomicInput]:
    """An input for the program; what is not said is the energy of HF/STO-3G."""

    def build(
        molecule: Molecule,
        method: str = "hf",
        basis: Any = "sto-3g",
        driver: str = "energy",
        keywords: dict[str, Any] | None = None,
        protocols: dict[str, Any] | None = None,
    ) -> AtomicInput:
        specification = {
            "program": "psi4",
            "driver": driver,
            "model": {"method": method, "basis": basis},
            "keywords": keywords or {},
            "protocols": protocols or {},
        }
        return AtomicInput(molecule=molecule, specification=specification)

    return build


@pytest.fixture
def compute(atomic_input: Callable[..., AtomicInput], config: TaskConfig) -> Callable[..., AtomicResult]:
    """Run the harness on what ``atomic_input`` takes."""

    def run(*args: Any, **kwargs: Any) -> AtomicResult:
        return Psi4Harness().compute(atomic_input(*args, **kwargs), config)

    return run
