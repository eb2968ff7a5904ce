"""Make the reference data beside this file: ``python tests/reference/make.py [CLUSTER ...]``.

Two oracles that share no code with mbexec must agree before anything is written:

- the fragments: PySCF called by its plain functions, molecules and ghost atoms put together here;
- the sums: the definition of each n-body contribution (docs/theory.md) written out in rational numbers, against
  QCManyBody, which is fed the same fragments.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from fractions import Fraction
from importlib.metadata import version
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from pyscf import gto, lib, mp, scf
from qcelemental.models.v2 import Molecule
from qcmanybody import ManyBodyCore

HERE = Path(__file__).parent
SCF = {"conv_tol": 1e-10, "conv_tol_grad": 1e-7, "max_cycle": 200, "chkfile": None}
ALL = ["cp", "nocp", "vmfc"]

CLUSTERS: dict[str, dict[str, Any]] = {
    "he4": {
        "molecule": {
            "symbols": ["He"] * 4,
            "geometry": [[0, 0, 0], [0, 0, 5.4], [0, 5.1, 0.4], [4.8, 0.5, -0.7]],
            "fragments": [[0], [1], [2], [3]],
            "fragment_charges": [0, 0, 0, 0],
            "fragment_multiplicities": [1, 1, 1, 1],
        },
        "chemistries": {
            "high": {"method": "mp2", "basis": "6-31g"},
            "middle": {"method": "hf", "basis": "6-31g"},
            "low": {"method": "hf", "basis": "sto-3g"},
            "cheap": {"method": "hf", "basis": "3-21g"},
        },
    },
    # Water among a sodium ion, a hydroxide and a chloride.
    "ions": {
        "molecule": {
            "symbols": ["O", "H", "H", "Na", "O", "H", "Cl"],
            "geometry": [
                [0.0, 0.0, 0.2],
                [0.0, 1.44, -0.9],
                [0.0, -1.44, -0.9],
                [0.3, 0.2, 4.6],
                [-0.2, 4.2, -3.1],
                [0.9, 5.3, -4.2],
                [0.4, -4.9, -3.4],
            ],
            "fragments": [[0, 1, 2], [3], [4, 5], [6]],
            "fragment_charges": [0, 1, -1, -1],
            "fragment_multiplicities": [1, 1, 1, 1],
        },
        "chemistries": {
            "high": {"method": "hf", "basis": "3-21g"},
            "middle": {"method": "hf", "basis": "sto-6g"},
            "low": {"method": "hf", "basis": "sto-3g"},
            "cheap": {"method": "hf", "basis": "minao"},
        },
    },
}

EXPANSIONS: list[dict[str, Any]] = [
    {"driver": "energy", "bsse_type": ALL, "levels": {4: "high"}, "return_total_data": True},
    {"driver": "energy", "bsse_type": ["cp"], "levels": {3: "middle"}, "return_total_data": False},
    {"driver": "energy", "bsse_type": ["vmfc"], "levels": {2: "low"}, "return_total_data": False},
    {"driver": "energy", "bsse_type": ALL, "levels": {1: "high", 2: "middle", 4: "low"}, "return_total_data": True},
    {"driver": "energy", "bsse_type": ["nocp"], "levels": {4: "high"}, "supersystem_ie_only": True},
    {"driver": "energy", "bsse_type": ["cp"], "levels": {4: "high"}, "supersystem_ie_only": True},
    {"driver": "gradient", "bsse_type": ["nocp", "cp"], "levels": {2: "high"}, "return_total_data": True},
    {
        "driver": "gradient",
        "bsse_type": ["vmfc", "nocp"],
        "levels": {1: "high", 2: "low", "supersystem": "cheap"},
        "return_total_data": True,
    },
]

Sets = tuple[int, ...]


def subsets(members: Sets, least: int = 1) -> Iterable[Sets]:
    """All subsets of at least so many members."""
    return (part for size in range(least, len(members) + 1) for part in combinations(members, size))


def fragment(molecule: Mapping[str, Any], frag: Sets, bas: Sets, chemistry: Mapping[str, str]) -> dict[str, Any]:
    """Energy and gradient of the fragments `frag` in the basis of the fragments `bas`, by PySCF."""
    atoms = [(atom, number in frag) for number in bas for atom in molecule["fragments"][number - 1]]
    symbols = [molecule["symbols"][atom] if real else f"ghost-{molecule['symbols'][atom]}" for atom, real in atoms]
    mol = gto.M(
        atom=[(symbol, molecule["geometry"][atom]) for symbol, (atom, _) in zip(symbols, atoms, strict=True)],
        basis=chemistry["basis"],
        unit="Bohr",
        charge=sum(molecule["fragment_charges"][number - 1] for number in frag),
        verbose=0,
    )
    mf = scf.RHF(mol)
    found = mf.run(**SCF)
    assert found.converged, (frag, bas, chemistry)
    if chemistry["method"] == "mp2":
        found = mp.MP2(mf).run()
    return {"energy": float(found.e_tot), "gradient": found.nuc_grad_method().kernel().tolist()}


def padded(molecule: Mapping[str, Any], bas: Sets, value: Any) -> Any:
    """A fragment's property in rational numbers; a gradient in the size of the cluster."""
    if isinstance(value, float):
        return Fraction(value)
    atoms = [atom for number in bas for atom in molecule["fragments"][number - 1]]
    full = np.full((len(molecule["symbols"]), 3), Fraction(0), dtype=object)
    for atom, row in zip(atoms, value, strict=True):
        full[atom] = [Fraction(number) for number in row]
    return full


def contributions(bsse: str, keywords: Mapping[str, Any], prop: Any, nfr: int) -> dict[int, Any]:
    """The n-body contributions by their definition; `prop(mc, frag, bas)` is a fragment's property."""
    everyone = tuple(range(1, nfr + 1))
    levels = keywords["levels"]
    numbers = sorted(n for n in levels if n != "supersystem")

    def of(mc: str, nbody: int, bsse: str) -> Any:
        bas = {"nocp": lambda t, s: t, "cp": lambda t, s: everyone if nbody > 1 else t, "vmfc": lambda t, s: s}[bsse]
        return sum(
            (-1) ** (nbody - len(part)) * prop(mc, part, bas(part, whole))
            for whole in combinations(everyone, nbody)
            for part in subsets(whole)
        )

    def chemistry(nbody: int) -> str:
        return levels[min(n for n in numbers if n >= nbody)]

    if keywords.get("supersystem_ie_only"):
        mc = levels[nfr]
        alone = [prop(mc, (i,), everyone if bsse == "cp" else (i,)) for i in everyone]
        return {1: of(mc, 1, bsse), nfr: prop(mc, everyone, everyone) - sum(alone)}
    found = {nbody: of(chemistry(nbody), nbody, bsse) for nbody in range(1, numbers[-1] + 1)}
    if "supersystem" in levels:
        mc = levels["supersystem"]
        found[nfr] = prop(mc, everyone, everyone) - sum(of(mc, nbody, "nocp") for nbody in range(1, numbers[-1] + 1))
    return found


def named(bsse: str, name: str, parts: Mapping[int, Any], whole_only: bool, total: bool) -> dict[str, Any]:
    """QCSchema's names of the sums; totals have none where the monomers' sum is zero, which stands for not known."""
    start = f"{bsse}_corrected"
    total = total and bool(np.any(parts[1] != 0))
    highest = max(parts)
    found = {}
    for nbody in parts:
        inner = [value for n, value in parts.items() if 1 < n <= nbody]
        interaction = sum(inner, start=0 * parts[1])
        found[f"{start}_interaction_{name}_through_{nbody}_body"] = interaction
        if nbody > 1 and not (whole_only and nbody > 2):
            found[f"{start}_{nbody}_body_contribution_to_{name}"] = parts[nbody]
        if total:
            found[f"{start}_total_{name}_through_{nbody}_body"] = parts[1] + interaction
    for kind in ["interaction"] + ["total"] * total:
        found[f"{start}_{kind}_{name}"] = found[f"{start}_{kind}_{name}_through_{highest}_body"]
    return found


def rounded(value: Any) -> Any:
    """To the nearest double."""
    return float(value) if isinstance(value, Fraction) else np.vectorize(float)(value).tolist()


def expanded(molecule: Mapping[str, Any], numbers: Mapping[str, Any], keywords: Mapping[str, Any]) -> dict[str, Any]:
    """All properties of an expansion, to the nearest double."""
    nfr = len(molecule["fragments"])
    treatments = list(keywords["bsse_type"])
    if "vmfc" in treatments and len(keywords["levels"]) == 1:
        treatments += [b for b in ["nocp"] + ["cp"] * (nfr in keywords["levels"]) if b not in treatments]
    total = keywords.get("return_total_data", False)
    # Monomers in their own basis are known if total data is wanted, or nocp or vmfc needs them anyway.
    monomers = total or (bool({"nocp", "vmfc"} & set(treatments)))
    found: dict[str, Any] = {}
    for name in ["energy"] + ["gradient"] * (keywords["driver"] == "gradient"):

        def prop(mc: str, frag: Sets, bas: Sets, name: str = name) -> Any:
            return padded(molecule, bas, numbers[json.dumps([mc, frag, bas])][name])

        for place, bsse in enumerate(treatments):
            parts = contributions(bsse, keywords, prop, nfr)
            whole_only = bool(keywords.get("supersystem_ie_only"))
            found |= named(bsse, name, parts, whole_only, monomers)
            if place == 0:
                found[f"return_{name}"] = sum(value for n, value in parts.items() if total or n > 1)
    return {key: rounded(value) for key, value in found.items()}


def check(molecule: Mapping[str, Any], numbers: Mapping[str, Any], keywords: Mapping[str, Any], ours: Any) -> None:
    """Compare with QCManyBody, name by name."""
    given = keywords["levels"]
    top = max(n for n in given if n != "supersystem")
    levels: dict[Any, str] = {
        n: given[min(k for k in given if k != "supersystem" and k >= n)] for n in range(1, top + 1)
    }
    levels |= {"supersystem": given["supersystem"]} if "supersystem" in given else {}
    core = ManyBodyCore(
        Molecule(**molecule),
        keywords["bsse_type"],
        levels,
        return_total_data=keywords.get("return_total_data", False),
        supersystem_ie_only=keywords.get("supersystem_ie_only", False),
        embedding_charges={},
    )
    names = ["energy"] + ["gradient"] * (keywords["driver"] == "gradient")
    fragments = {
        label: {name: np.array(numbers[label][name]) if name == "gradient" else numbers[label][name] for name in names}
        for _, label, _ in core.iterate_molecules()
    }
    answer = core.analyze(fragments)
    theirs = {**answer["results"], **{f"return_{name}": answer[f"ret_{name}"] for name in names}}
    assert sorted(theirs) == sorted(ours), sorted(set(theirs) ^ set(ours))
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key], value, rtol=0, atol=1e-12, err_msg=key)


def lines(table: Mapping[str, Any]) -> str:
    """JSON with a line for each entry."""
    return "{\n" + ",\n".join(f"    {json.dumps(key)}: {json.dumps(value)}" for key, value in table.items()) + "\n  }"


def make(name: str) -> None:
    """Write the reference data of a cluster."""
    molecule, chemistries = CLUSTERS[name]["molecule"], CLUSTERS[name]["chemistries"]
    everyone = tuple(range(1, len(molecule["fragments"]) + 1))
    numbers = {
        json.dumps([mc, frag, bas]): fragment(molecule, frag, bas, chemistry)
        for mc, chemistry in chemistries.items()
        for bas in subsets(everyone)
        for frag in subsets(bas)
    }
    expansions = []
    for keywords in EXPANSIONS:
        properties = expanded(molecule, numbers, keywords)
        check(molecule, numbers, keywords, properties)
        expansions.append(json.dumps({**keywords, "properties": properties}))
    by = {package: version(package) for package in ("pyscf", "qcmanybody", "qcelemental", "numpy")}
    text = ",\n  ".join(
        [
            f'"made_with": {json.dumps(by)}',
            f'"molecule": {json.dumps(molecule)}',
            f'"chemistries": {json.dumps(chemistries)}',
            f'"fragments": {lines(numbers)}',
            '"expansions": [\n    ' + ",\n    ".join(expansions) + "\n  ]",
        ]
    )
    (HERE / f"{name}.json").write_text("{\n  " + text + "\n}\n")


if __name__ == "__main__":
    with lib.with_omp_threads(1):
        for cluster in sys.argv[1:] or CLUSTERS:
            make(cluster)
