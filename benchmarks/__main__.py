"""All benchmarks, one after the other: a JSON file of what they found, and plots of how it grows.

python -m benchmarks                    # everything, in an hour or two
python -m benchmarks --check            # quick ones; fails if a figure is out of its wide bounds, as nox does it
python -m benchmarks plan_merge memory  # only these

Each is a script of its own that compares like with like in one run, with a process for each case where memory is
measured, and that can be called by itself: `python benchmarks/NAME.py`. From the folder that has `benchmarks` in it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.growth import orders, plot, rows

HERE = Path(__file__).parent
SCRIPTS = (
    "framework",
    "graph",
    "worker",
    "plan_merge",
    "memory",
    "planning",
    "screening",
    "energy_screening",
    "symmetry",
    "executors",
    "clusters",
    "dispatch",
    "parallel",
    "store",
    "reporters",
    "eta",
    "scaling",
)
UNCHECKED = ("scaling", "screening", "energy_screening")  # have no bounds


def run(name: str, options: list[str]) -> dict[str, Any]:
    """What a script prints, also shown at once, how long it took, and whether it ended well."""
    print(f"\n{name}", flush=True)
    start = time.perf_counter()
    lines = []
    with subprocess.Popen(
        [sys.executable, str(HERE / f"{name}.py"), *options], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line.rstrip("\n"))
    return {
        "seconds": time.perf_counter() - start,
        "passed": process.returncode == 0,
        "rows": rows(lines),
        "lines": [line for line in lines if not line.startswith("|")],
    }


def machine() -> dict[str, Any]:
    """What the figures were measured on and with."""
    packages = ("mbexec", "qcmanybody", "qcelemental", "numpy")
    return {
        "processors": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "load": os.getloadavg(),
        **{name: version(name) for name in packages},
    }


def main() -> int:
    """Run the scripts that are asked for; exit with 1 if one of them did not end well."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(SCRIPTS)}; all if left out")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a figure is out of bounds")
    parser.add_argument("--output", type=Path, default=Path("benchmark-results"), help="folder for JSON and plots")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in SCRIPTS]:
        parser.error(f"no benchmark is named {unknown[0]!r}; there are {', '.join(SCRIPTS)}")
    chosen = [name for name in SCRIPTS if name in (options.names or SCRIPTS)]
    if options.check:
        chosen = [name for name in chosen if name not in UNCHECKED]
    options.output.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"machine": machine(), "scripts": {}}
    for name in chosen:
        found["scripts"][name] = run(name, ["--check"] if options.check else [])
        found["orders"] = orders(found["scripts"])
        (options.output / "benchmarks.json").write_text(json.dumps(found, indent=1))  # what is there so far
    if found["orders"]:
        print("\nOrders of growth with the number of waters:")
        for line in found["orders"]:
            print(f"{line['step']}, {line['bsse']}, {line['side']}: {line['what']} ~ N^{line['order']:.1f}")
        plot(found["scripts"], options.output)
    failed = [name for name in chosen if not found["scripts"][name]["passed"]]
    print(
        f"\n{options.output / 'benchmarks.json'} has all figures." + (f" Failed: {', '.join(failed)}." * bool(failed))
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
