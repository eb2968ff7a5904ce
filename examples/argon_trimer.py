"""Two- and three-body energies of an argon trimer along a stretch, on the built-in model potential."""

import mbexec

HEIGHT = 3**0.5 / 2


def job(side: float) -> dict[str, dict[str, object]]:
    """An equilateral triangle of that side, in angstrom."""
    corners = [(0.0, 0.0), (side, 0.0), (side / 2, side * HEIGHT)]
    return {
        "molecule": {"geometry": "\n--\n".join(f"Ar {x:.6f} {y:.6f} 0.0" for x, y in corners)},
        "mbe": {"bsse_type": "nocp"},
        "program": {"program": "model-potential", "method": "lj-atm"},
    }


def main() -> None:
    """Print a line a geometry."""
    print("side/angstrom  pairs/E_h      triple/E_h")
    for side in (3.5, 3.7, 3.9, 4.1, 4.5, 5.0):
        found = mbexec.run(job(side), executor="serial")
        added = found.contributions["nocp"]
        pairs = added[1, 2] + added[1, 3] + added[2, 3]
        print(f"{side:13.1f}  {pairs:+.4e}    {added[1, 2, 3]:+.4e}")


if __name__ == "__main__":
    main()
