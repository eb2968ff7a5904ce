"""What distance cutoffs cost in accuracy: lumps of water, against the full expansion through three bodies.

python benchmarks/screening.py                # prints the tables
python benchmarks/screening.py docs           # and writes docs/screening.svg

32 waters with GFN2-xTB, 9 with HF/STO-3G. The waters are made here: rigid ones (TIP3P), annealed by Monte Carlo from
a lattice. Everything is computed once and kept in a store; runs with cutoffs take from it what they need.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import mbexec

KJ = 2625.4996  # kJ/mol in an E_h
WATER = np.array([[0, 0, 0], [0, 0.7572, 0.5865], [0, -0.7572, 0.5865]])  # angstrom
CHARGES = np.array([-0.834, 0.417, 0.417])
SYSTEMS: list[tuple[int, dict[str, str], tuple[float, ...]]] = [
    (32, {"program": "tblite", "method": "GFN2-xTB"}, (3, 3.5, 4, 5, 6, 7, 8, 9, 10)),
    (9, {"program": "pyscf", "method": "HF", "basis": "STO-3G"}, (3, 3.5, 4, 5, 6, 7)),
]


def waters(nfr: int, seed: int = 1, sweeps: int = 150) -> str:
    """The text of a geometry, angstrom."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(-4, 5)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    centers = 3.0 * grid[np.argsort((grid**2).sum(axis=1) + 1e-3 * rng.random(len(grid)))][:nfr]
    places = np.array([center + WATER @ _turn(rng.normal(size=3), rng.uniform(0, np.pi)) for center in centers])
    for sweep in range(sweeps):
        temperature = 0.3 + 1.2 * (1 - sweep / sweeps)  # kcal/mol
        for one in range(nfr):
            turned = (places[one] - places[one, 0]) @ _turn(rng.normal(size=3), 0.35 * rng.normal())
            moved = places[one, 0] + turned + 0.1 * rng.normal(size=3)
            others = np.delete(places, one, axis=0)
            rise = _energy(moved, others) - _energy(places[one], others)
            if rise < 0 or rng.random() < np.exp(-rise / temperature):
                places[one] = moved
    parts = ["\n".join(f"{s} {x:.4f} {y:.4f} {z:.4f}" for s, (x, y, z) in zip("OHH", m, strict=True)) for m in places]
    return "\n--\n".join(parts)


def _turn(axis: np.ndarray, angle: float) -> np.ndarray:
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _energy(one: np.ndarray, others: np.ndarray) -> float:
    """TIP3P, kcal/mol."""
    distances = np.linalg.norm(one[None, :, None] - others[:, None], axis=-1)
    sixth = (3.1507 / distances[:, 0, 0]) ** 6
    coulomb = 332.06 * (CHARGES[:, None] * CHARGES / distances).sum()
    return float(coulomb + 4 * 0.1521 * (sixth**2 - sixth).sum())


def rows(nfr: int, program: dict[str, str], cutoffs: tuple[float, ...]) -> list[dict[str, Any]]:
    """For each cutoff of pairs and triples: what runs, the error of the total, and what the run says of it, E_h."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        tables: dict[str, Any] = {
            "molecule": {"geometry": waters(nfr)},
            "mbe": {"bsse_type": "nocp", "max_nbody": 3, "return_total_data": True},
            "program": program,
            "run": {"store": str(Path(folder, "waters.store"))},
        }
        full = mbexec.run(tables)
        for cutoff in (*cutoffs, 1e6):
            tables["mbe"]["cutoff"] = {"2": cutoff, "3": cutoff}
            run = mbexec.run(tables)
            assert run.report.executed == 0
            told = (run.result.extras.get("mbexec") or {}).get("left_out", [])
            known = all(each["bound"] is not None for each in told)
            found.append(
                {
                    "cutoff": cutoff,
                    "tasks": len(run.plan) / len(full.plan),
                    "error": abs(run.result.return_result - full.result.return_result),
                    "bound": sum(each["bound"] for each in told) if known else np.nan,
                    "random": sum(each["random"] ** 2 for each in told) ** 0.5 if known else np.nan,
                }
            )
    return found


def table(nfr: int, found: list[dict[str, Any]]) -> str:
    """In kJ/mol for each water."""
    lines = [
        "| cutoff / angstrom | calculations | error | random signs | one sign |",
        "| --: | --: | --: | --: | --: |",
    ]
    for each in found:
        sizes = [KJ / nfr * each[name] for name in ("error", "random", "bound")]
        shown = ["0" if size == 0 else "-" if np.isnan(size) else f"{size:.2g}" for size in sizes]
        cutoff = "beyond the cluster" if each["cutoff"] > 1e3 else f"{each['cutoff']:g}"
        lines.append(f"| {cutoff} | {100 * each['tasks']:.0f} % | {' | '.join(shown)} |")
    return "\n".join(lines)


def plot(path: Path, results: list[tuple[str, int, list[dict[str, Any]]]]) -> None:
    """Error, and its estimates, against the cutoff."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    mpl.rcParams["svg.hashsalt"] = "mbexec"
    figure, axes = plt.subplots(1, len(results), figsize=(9, 3.4), sharey=True)
    for ax, (title, nfr, found) in zip(axes, results, strict=True):
        inner = [each for each in found if each["cutoff"] < 1e3]
        for name, label, style in (
            ("error", "error", "o-"),
            ("bound", "one sign", "--"),
            ("random", "random signs", ":"),
        ):
            ax.semilogy([e["cutoff"] for e in inner], [KJ / nfr * e[name] for e in inner], style, label=label)
        ax.set(title=title, xlabel="cutoff of pairs and triples / angstrom")
    axes[0].set_ylabel("kJ/mol for each water")
    axes[0].legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Print the tables, and draw if a folder is given."""
    results = []
    for nfr, program, cutoffs in SYSTEMS:
        title = f"{nfr} waters, {program['method']}" + (f"/{program['basis']}" if "basis" in program else "")
        found = rows(nfr, program, cutoffs)
        results.append((title, nfr, found))
        print(f"{title}\n\n{table(nfr, found)}\n", flush=True)
    if sys.argv[1:]:
        plot(Path(sys.argv[1], "screening.svg"), results)


if __name__ == "__main__":
    main()
