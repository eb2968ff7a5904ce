"""From what psi4 says of a failure to QCEngine's errors."""

from __future__ import annotations

import re
import signal
from typing import Any

from qcelemental.models.v2 import AtomicInput
from qcengine.exceptions import ConvergenceError, InputError, QCEngineException, RandomError, UnknownError

from mbexec_psi4.run import Outcome

__all__ = ["check_outcome"]

_INPUT_TYPES = {"OptionError", "ValidationError", "BasisSetNotFound", "ManagedMethodError", "ParsingError"}
_CONVERGENCE_TYPES = {"ConvergenceError"}
_DISK_WORDS = ("PSIO Error", "PSIO_ERROR")
_NOT_OFFERED = re.compile(r"not (yet )?(implemented|available|supported)|only for singlets", re.IGNORECASE)
_NOT_CONVERGED = re.compile(r"not converged|(did|could) not converge|fail(ed|s) to converge", re.IGNORECASE)

_LAST_LINES = 10
_FATAL = re.compile(r"Fatal Error: (.+?)(?:\\n|\n|$)")
# Where psi4's sentence ends and its own file names begin.
_BEYOND = re.compile(r"\s*(File Path:|Error occurred in file:|The following argument types).*", re.DOTALL)


def check_outcome(outcome: Outcome, input_data: AtomicInput) -> dict[str, Any]:
    """Take the answer, or raise what stands in its way.

    Parameters
    ----------
    outcome : Outcome
        What psi4 left.
    input_data : AtomicInput
        What was asked for.

    Returns
    -------
    dict
        psi4's numbers.

    Raises
    ------
    InputError, ConvergenceError, RandomError, UnknownError
        With psi4's own sentence.
    """
    model, driver = input_data.specification.model, input_data.specification.driver.value
    task = f"the {driver} of {model.method}/{model.basis}"
    answer = outcome.answer
    if answer is None:
        raise UnknownError(f"psi4 {_ending(outcome.returncode)} in {task}, without an answer. {_last_words(outcome)}")
    if "error" in answer:
        raise _failure(answer["error"], outcome, task)
    return answer


def _ending(returncode: int) -> str:
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    return f"was ended by {signal.Signals(-returncode).name}"


def _last_words(outcome: Outcome) -> str:
    said = outcome.printed.strip() or outcome.output.strip()
    last = "\n".join(said.splitlines()[-_LAST_LINES:])
    return f"The last it said:\n{last}" if last else "It said nothing."


def _failure(error: dict[str, Any], outcome: Outcome, task: str) -> QCEngineException:
    types, said = set(error["types"]), _sentence(error["message"])
    if error["option"]:
        said = f"{error['option']}: {said}"
    if types & _CONVERGENCE_TYPES or _NOT_CONVERGED.search(error["message"]):
        return _unconverged(task, said)
    if types & _INPUT_TYPES or _NOT_OFFERED.search(said):
        return _refused(task, said)
    if any(words in error["message"] for words in _DISK_WORDS):
        return RandomError(f"psi4 could not read or write a file in {task}: {said}. Look at its scratch directory.")
    # Coupled cluster writes why, and then raises something else.
    if line := _last_line(outcome.output, _NOT_CONVERGED):
        return _unconverged(task, line)
    if line := _last_line(outcome.output, _NOT_OFFERED):
        return _refused(task, line)
    return UnknownError(f"psi4 failed in {task}: {said}. {_last_words(outcome)}\n{error['traceback']}")


def _refused(task: str, said: str) -> InputError:
    hint = " For finite differences give function_kwargs with another dertype." if "dertype" in said else ""
    return InputError(f"psi4 refuses {task}: {said}. Correct the method, the basis or the keywords.{hint}")


def _unconverged(task: str, said: str) -> ConvergenceError:
    return ConvergenceError(
        f"psi4 did not converge in {task}: {said}. Raise maxiter, loosen the convergence, or try soscf, "
        "damping_percentage or another guess."
    )


def _last_line(output: str, pattern: re.Pattern[str]) -> str | None:
    """A line near the end of the output that says such a thing."""
    lines = (line.strip(" \t*.") for line in output.splitlines()[-_LAST_LINES:])
    return next((line for line in lines if pattern.search(line)), None)


def _sentence(message: str) -> str:
    """psi4's own words, without its file names and call stacks."""
    fatal = [text.strip(" .") for text in _FATAL.findall(message)]
    text = "; ".join(fatal) if fatal else _BEYOND.sub("", message)
    return " ".join(text.split()).rstrip(".") or "it gives no reason"
