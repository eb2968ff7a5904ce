"""Which psi4 there is, and who speaks to it."""

from __future__ import annotations

import functools
import subprocess
import tempfile

from qcelemental.util import parse_version, safe_version, which

__all__ = ["find_psi4", "is_ours", "version_of"]

# Before this release psi4 took the input that is sent here, from it on the one that QCEngine sends.
_FIRST_OF_QCENGINE = parse_version("1.4a2.dev160")
_OLDEST = parse_version("1.3")
_TIMEOUT = 60.0  # s


def find_psi4() -> str | None:
    """Path of the ``psi4`` command, or None."""
    found: str | None = which("psi4")
    return found


@functools.cache
def version_of(executable: str) -> str:
    """Ask psi4 for its version, once in the life of a process.

    Parameters
    ----------
    executable : str
        Path of the command.

    Returns
    -------
    str
        Such as ``1.3.2``.

    Raises
    ------
    ModuleNotFoundError
        It tells none.
    """
    try:
        # psi4 leaves a timer.dat where it is called.
        with tempfile.TemporaryDirectory(prefix="mbexec-psi4-") as folder:
            done = subprocess.run(
                [executable, "--version"],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT,
                check=True,
            )
        said = done.stdout.split()[-1]
        parse_version(said)
    except (OSError, subprocess.SubprocessError, IndexError, ValueError) as err:
        raise ModuleNotFoundError(
            f"psi4 is at {executable}, but `psi4 --version` tells no version ({type(err).__name__}: {err}). "
            "Run it by hand, and repair or reinstall psi4."
        ) from err
    return str(safe_version(said))


def is_ours(executable: str) -> bool:
    """Whether a psi4 is too old for QCEngine's own harness.

    Parameters
    ----------
    executable : str
        Path of the command.

    Returns
    -------
    bool
        True for psi4 1.3; False for newer ones.

    Raises
    ------
    ModuleNotFoundError
        It is older than that, or tells no version.
    """
    version = version_of(executable)
    if parse_version(version) < _OLDEST:
        raise ModuleNotFoundError(f"psi4 {version} at {executable} is too old; install psi4 1.3 or newer.")
    return bool(parse_version(version) < _FIRST_OF_QCENGINE)
