"""What screening by energy costs in accuracy: lumps of water, against the full expansion through three bodies.

python benchmarks/energy_screening.py

16 waters with HF/STO-3G and 8 with HF/6-31G, screened by GFN2-xTB; the waters are made as in `screening.py`. Everything
is computed once, by both programs, and kept in a store; runs with thresholds take from it what they need.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from screening import KJ, waters

import mbexec

SYSTEMS = ((16, "STO-3G"), (8, "6-31G"))
THRESHOLDS = ("0", "1e-6", "1e-5", "3e-5", "1e-4", "3e-4", "1e-3", "1")  # E_h
CHEAP = {"program": "tblite", "method": "GFN2-xTB"}


def job(geometry: str, program: dict[str, Any], store: Path, **mbe: Any) -> dict[str, Any]:
    """The tables of a run to 3-body, one core for each calculation."""
    return {
        "molecule": {"geometry": geometry},
        "mbe": {"bsse_type": "nocp", "max_nbody": 3, **mbe},
        "program": program,
        "task": {"ncores": 1},
        "run": {"store": str(store)},
    }


def seconds(run: mbexec.RunResult) -> float:
    """Processor time of all calculations."""
    return sum(level.cpu_time for level in run.report.levels)


def measure(nfr: int, basis: str, folder: Path) -> tuple[list[str], float]:
    """The rows of a table, errors in kJ/mol for each water, and the cheap program's share of the time of the other."""
    geometry, store = waters(nfr), folder / f"{nfr}.store"
    dear = {"program": "pyscf", "method": "HF", "basis": basis}
    full, cheap = (mbexec.run(job(geometry, program, store)) for program in (dear, CHEAP))
    lines = []
    for threshold in THRESHOLDS:
        errors = []
        for dropped in ("cheap", "ignore"):
            screen = {"program": "cheap", "thresholds": {"3": float(threshold)}, "dropped": dropped}
            run = mbexec.run(job(geometry, {"high": dear, "cheap": CHEAP}, store, screen=screen))
            assert run.report.executed == 0
            errors.append(KJ / nfr * (run.result.return_result - full.result.return_result))
        (order,) = run.result.extras["mbexec"]["screening"]["orders"]
        computed = order["candidates"] - order["dropped"]
        assert threshold != "0" or errors == [0, 0]
        counts = f"{computed} of {order['candidates']}, {100 * computed / order['candidates']:.3g} %"
        lines.append(f"| {threshold} | {counts} | " + " | ".join(f"{error:.2g}" for error in errors) + " |")
    return lines, seconds(cheap) / seconds(full)


def main() -> None:
    """Print the tables."""
    for nfr, basis in SYSTEMS:
        with tempfile.TemporaryDirectory() as folder:
            lines, share = measure(nfr, basis, Path(folder))
        print(f"{nfr} waters, HF/{basis} screened by {CHEAP['method']}\n")
        print("| threshold / E_h | triples computed | counted | ignored |\n| --: | --: | --: | --: |")
        print("\n".join(lines))
        print(f"\nThe full expansion took {CHEAP['method']} {100 * share:.1f} % of the processor time.\n", flush=True)


if __name__ == "__main__":
    main()
