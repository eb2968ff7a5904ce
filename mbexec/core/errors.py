"""What mbexec raises. Every message is one or two sentences: what happened, what is allowed, what to do.

The tree::

    MbexecError
    ├── InputError            the molecule, the model chemistry or the expansion asked for can't be
    ├── ConfigError           a setting: its key, its value, or the file it stands in
    ├── PluginError           a plugin could not be found, imported, built or registered
    │   ├── PluginNotFoundError
    │   └── HookError         a plugin's hooks are not what the host calls
    ├── ProgramError          a program is not installed, or its name is unknown
    └── ExecutorError         an executor broke; fragments that fail are data, not exceptions

All of them take one message and nothing else, so that they pickle; their cause goes with them.
"""

from __future__ import annotations

import copyreg
import pickle
from typing import Any

__all__ = [
    "ConfigError",
    "ExecutorError",
    "HookError",
    "InputError",
    "MbexecError",
    "PluginError",
    "PluginNotFoundError",
    "ProgramError",
]


class MbexecError(Exception):
    """The root of everything mbexec raises on purpose."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        # tblib, which Dask brings along, tells pickle to ask it and not `__reduce__` of all exceptions that there are;
        # it sends causes as they are, and an error with a cause that can't be pickled would not arrive.
        copyreg.pickle(type(self), type(self).__reduce__)

    def __reduce__(self) -> tuple[Any, ...]:
        cause = {} if self.__cause__ is None else {"__cause__": _portable(self.__cause__)}
        return type(self), self.args, {**vars(self), **cause}


def _portable(cause: BaseException) -> BaseException:
    """A cause that survives pickling: itself, or its name and words where it can't be pickled or read back."""
    try:
        pickle.loads(pickle.dumps(cause))
    except Exception:
        return RuntimeError(f"{type(cause).__name__}: {cause}")
    return cause


class InputError(MbexecError, ValueError):
    """The molecule, the model chemistry or the expansion asked for is not possible.

    Raised by a program inside a worker, it becomes a failed fragment of QCEngine's error type ``input_error``.
    """

    error_type = "input_error"


class ConfigError(MbexecError, ValueError):
    """A setting is unknown, has a value that is not allowed, or stands in a file that can't be read."""


class PluginError(MbexecError):
    """A plugin could not be imported, built or registered."""


class PluginNotFoundError(PluginError):
    """No installed distribution offers a plugin of that name."""


class HookError(PluginError):
    """A plugin's hook implementations are not what the host can call."""


class ProgramError(MbexecError):
    """A quantum-chemistry program is unknown, not installed, or reports success without a usable result."""

    error_type = "unknown_error"


class ExecutorError(MbexecError):
    """An executor broke its contract or its workers are gone."""
