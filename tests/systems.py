"""Inputs that several tests share."""

from __future__ import annotations

import numpy as np

WATER_TRIMER = """
O  -1.1713  -1.1571  -0.0947
H  -0.2329  -1.3694  -0.0338
H  -1.5661  -1.6586   0.6252
--
O   1.5897  -0.4391   0.0986
H   1.3032   0.4845   0.0594
H   2.2193  -0.5396  -0.6230
--
O  -0.4241   1.5950  -0.0072
H  -0.8653   0.7370  -0.0480
H  -0.7131   2.0651  -0.7966
"""

WATER_HEXAMER = """
O   1.6568   0.3718  -1.4594
H   0.7440   0.7508  -1.5562
H   2.2420   0.9547  -1.9439
--
O  -0.8894   1.1329  -1.4804
H  -1.1308   0.1981  -1.6193
H  -1.0414   1.2984  -0.5367
--
O  -0.6777  -1.5895  -1.4067
H   0.2565  -1.4740  -1.6067
H  -0.7316  -1.7179  -0.4441
--
O   1.6026   0.2471   1.2329
H   1.3516  -0.6619   1.4236
H   1.7655   0.2817   0.2655
--
O  -0.8355   1.2466   1.3259
H   0.1312   1.0142   1.3433
H  -0.9463   2.0122   1.8902
--
O  -0.8576  -1.5268   1.3724
H  -1.0465  -0.5724   1.3996
H  -1.5937  -1.9660   1.8000
"""

HELIUM_TETRAMER = "\n--\n".join(
    ["He 0.0 0.0 0.0", "He 0.0 0.0 3.1", "He 0.0 2.9 0.2", "He 2.7 0.3 -0.4"],
)


IONS = """
O   0.00  0.00  0.10
H   0.00  0.76 -0.48
H   0.00 -0.76 -0.48
--
1 1
Na  0.16  0.10  2.43
--
-1 1
O  -0.10  2.22 -1.64
H   0.48  2.80 -2.22
"""

RADICALS = (
    IONS.strip()
    + """
--
0 2
H   2.96 -0.53  0.26
--
1 2
He  0.10 -2.90 -1.90
--
0 3
O  -3.10 -0.40  0.30
"""
)


def argon(nfr: int) -> str:
    """A lump of argon atoms, one a fragment, in angstrom."""
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    places = 3.8 * grid + 0.3 * np.random.default_rng(7).normal(size=grid.shape)
    return "\n--\n".join(f"Ar {x:.6f} {y:.6f} {z:.6f}" for x, y, z in places[:nfr])


def job(geometry, *, bsse="nocp", driver="energy", max_nbody=None, program=None, run=None, **mbe):
    """The tables of a job; on the model potential unless a program is given."""
    mbe = {"bsse_type": bsse, "driver": driver, **mbe}
    if max_nbody is not None:
        mbe["max_nbody"] = max_nbody
    program = program or {"program": "model-potential", "method": "lj-atm"}
    return {"molecule": {"geometry": geometry}, "mbe": mbe, "program": program, "run": run or {}}


PYSCF = {"program": "pyscf", "method": "hf", "basis": "6-31g"}
