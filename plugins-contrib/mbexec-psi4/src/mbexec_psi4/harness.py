"""psi4 behind QCEngine's interface: an ``AtomicInput`` in, an ``AtomicResult`` out."""

# QCEngine carries no types.
# mypy: disallow-subclassing-any=False

from __future__ import annotations

from typing import Any, ClassVar

from qcelemental.models.v2 import AtomicInput, AtomicResult
from qcengine.config import TaskConfig
from qcengine.programs.model import ProgramHarness
from qcengine.programs.psi4 import Psi4Harness as EngineHarness

from mbexec_psi4.executable import find_psi4, is_ours, version_of
from mbexec_psi4.failures import check_outcome
from mbexec_psi4.request import make_request
from mbexec_psi4.result import make_result
from mbexec_psi4.run import run_psi4

__all__ = ["Psi4Harness"]


class Psi4Harness(ProgramHarness):
    """psi4 as a program named ``psi4``.

    psi4 1.3 runs as a process of its own, one for each calculation: energies, analytic gradients and Hessians of
    whatever psi4 offers; ghost atoms. It may be called from several threads at once. Newer psi4 is handed to the
    harness that QCEngine brings.
    """

    ghosts: ClassVar[str] = "honoured"
    _defaults: ClassVar[dict[str, Any]] = {
        "name": "psi4",
        "scratch": True,
        "thread_safe": True,
        "thread_parallel": True,
        "node_parallel": False,
        "managed_memory": True,
    }

    @staticmethod
    def found(raise_error: bool = False) -> bool:
        """Whether psi4 can be run.

        Parameters
        ----------
        raise_error : bool, optional
            Raise ``ModuleNotFoundError`` where it cannot.

        Returns
        -------
        bool
            True if it can.
        """
        executable = find_psi4()
        try:
            if executable is not None and is_ours(executable):
                return True
        except ModuleNotFoundError:
            if raise_error:
                raise
            return False
        return bool(EngineHarness.found(raise_error=raise_error))

    def get_version(self) -> str:
        """psi4's version."""
        executable = find_psi4()
        return str(EngineHarness().get_version()) if executable is None else version_of(executable)

    def compute(self, input_data: AtomicInput, config: TaskConfig) -> AtomicResult:
        """Run one calculation.

        Parameters
        ----------
        input_data : AtomicInput
            QCSchema v2.
        config : TaskConfig
            ``ncores``, ``memory`` (GiB), ``scratch_directory`` and ``scratch_messy`` are used.

        Returns
        -------
        AtomicResult
            psi4's variables are in ``extras["qcvars"]``.

        Raises
        ------
        InputError
            What is asked for is impossible, misspelt or not offered.
        ConvergenceError
            SCF or coupled cluster did not converge.
        ResourceError, RandomError, UnknownError
            Too little memory or no scratch directory; the disk failed; psi4 failed otherwise.
        """
        executable = find_psi4()
        if executable is None or not is_ours(executable):
            return EngineHarness().compute(input_data, config)
        request = make_request(input_data, config.memory)
        outcome = run_psi4(executable, request, config)
        answer = check_outcome(outcome, input_data)
        return make_result(input_data, request, answer, outcome, config)
