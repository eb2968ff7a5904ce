"""Water clusters, their fragments with and without ghosts, and the harness under test."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from mbexec_tblite import TBLiteHarness
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


@pytest.fixture(scope="session")
def fragment() -> Callable[..., Molecule]:
    """A water fragment: 1-based numbers of its real waters and of those that are there, real or ghosts."""

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


@pytest.fixture(scope="session")
def config() -> TaskConfig:
    """One core: tblite's results repeat to the last bit only without threads of its own."""
    return TaskConfig(
        ncores=1,
        memory=2.0,
        nnodes=1,
        retries=0,
        scratch_directory=None,
        mpiexec_command=None,
        use_mpiexec=False,
        cores_per_rank=1,
    )


@pytest.fixture(scope="session")
def atomic_input() -> Callable[..., AtomicInput]:
    """An input for the program; what is not said is the energy of GFN2-xTB."""

    def build(
        molecule: Molecule,
        method: str = "gfn2-xtb",
        basis: Any = None,
        driver: str = "energy",
        keywords: dict[str, Any] | None = None,
        protocols: dict[str, Any] | None = None,
    ) -> AtomicInput:
        specification = {
            "program": "tblite",
            "driver": driver,
            "model": {"method": method, "basis": basis},
            "keywords": keywords or {},
            "protocols": protocols or {},
        }
        return AtomicInput(molecule=molecule, specification=specification)

    return build


@pytest.fixture(scope="session")
def compute(atomic_input: Callable[..., AtomicInput], config: TaskConfig) -> Callable[..., AtomicResult]:
    """Run the harness on what ``atomic_input`` takes."""

    def run(*args: Any, **kwargs: Any) -> AtomicResult:
        return TBLiteHarness().compute(atomic_input(*args, **kwargs), config)

    return run
