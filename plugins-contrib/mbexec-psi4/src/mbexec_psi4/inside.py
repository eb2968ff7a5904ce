"""Run by psi4 and its Python, in the scratch directory: reads ``request.json``, writes ``answer.json``.

psi4's own ``--json`` would do most of this, but psi4 1.3 crashes or hangs when it winds up after an SCF or coupled
cluster that did not converge. This script ends the process itself.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import traceback
import warnings
from typing import Any

import psi4


class OptionError(Exception):
    """An option that psi4 does not know, or not with this value."""


def set_option(name: str, value: Any) -> None:
    """Set an option, of all modules or as ``module__option`` of one."""
    module, _, option = name.upper().rpartition("__")
    core = psi4.core
    try:
        psi4.set_options({name: value})
        # An option of a module that has none of that name is noticed only here.
        kept = core.get_local_option(module, option) if module else core.get_global_option(option)
    except Exception as failure:
        raise OptionError(name, failure) from failure
    # psi4 takes any word for a number, as zero.
    if isinstance(kept, (int, float)) and isinstance(value, str) and not is_number(value):
        raise OptionError(name, f"{value} is not a number, and neither true nor false")


def is_number(text: str) -> bool:
    """Whether a text is a number, or a truth value."""
    if text.lower() in ("true", "yes", "on", "false", "no", "off"):
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def compute(request: dict[str, Any]) -> dict[str, Any]:
    """Answer a request."""
    psi4.core.set_memory_bytes(request["memory"], True)
    molecule = psi4.core.Molecule.from_schema(
        {"schema_name": "qcschema_input", "schema_version": 1, "molecule": request["molecule"]}
    )
    for name, option in request["keywords"].items():
        set_option(name, option)
    if request["basis"]:
        psi4.core.set_global_option("BASIS", request["basis"])
    function = {"energy": psi4.energy, "gradient": psi4.gradient, "hessian": psi4.hessian}[request["driver"]]
    value, wavefunction = function(request["method"], molecule=molecule, return_wfn=True, **request["arguments"])
    gradient = wavefunction.gradient() if request["driver"] == "hessian" else None
    return {
        "value": plain(value),
        "gradient": None if gradient is None else plain(gradient),
        "variables": scalars({**wavefunction.variables(), **psi4.core.variables()}),
        "debye": psi4.constants.dipmom_au2debye,
        "version": psi4.__version__,
        "calcinfo_nbasis": wavefunction.nso(),
        "calcinfo_nmo": wavefunction.nmo(),
        "calcinfo_nalpha": wavefunction.nalpha(),
        "calcinfo_nbeta": wavefunction.nbeta(),
    }


def plain(value: Any) -> Any:
    """Numbers as JSON has them."""
    return value if isinstance(value, float) else value.np.ravel().tolist()


def scalars(variables: dict[str, Any]) -> dict[str, float]:
    """Those of psi4's variables that are numbers."""
    return {name: value for name, value in variables.items() if isinstance(value, float)}


def error_of(failure: BaseException) -> dict[str, Any]:
    """What was raised, in words."""
    option, said = failure.args if isinstance(failure, OptionError) else (None, failure)
    return {
        "types": [kind.__name__ for kind in type(failure).__mro__],
        "option": option,
        "message": str(said),
        "traceback": "".join(traceback.format_exception(type(failure), failure, failure.__traceback__, chain=False)),
    }


def watch(folder: str) -> int:
    """Start a process that ends psi4 and removes the folder when whoever asked is gone; return its id.

    It waits for the end of standard input, which nobody writes to. A thread could not: psi4 keeps the interpreter
    to itself while it computes.
    """
    psi4_id = os.getpid()
    with warnings.catch_warnings():
        # Of threads that a fork leaves behind; the child needs none.
        warnings.simplefilter("ignore")
        watcher = os.fork()
    if watcher == 0:
        os.read(0, 1)
        os.kill(psi4_id, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)
    return watcher


def main() -> None:
    """Answer the request in this directory, and end the process."""
    folder = os.getcwd()
    watcher = watch(folder)
    try:
        with open(os.path.join(folder, "request.json")) as file:
            answer = compute(json.load(file))
    except BaseException as failure:
        answer = {"error": error_of(failure)}
    psi4.core.close_outfile()
    # Under another name until it is whole.
    unfinished = os.path.join(folder, "answer.part")
    with open(unfinished, "w") as file:
        json.dump(answer, file)
    os.replace(unfinished, os.path.join(folder, "answer.json"))
    os.kill(watcher, signal.SIGKILL)
    os.waitpid(watcher, 0)
    os._exit(0)


if __name__ == "__main__":
    main()
