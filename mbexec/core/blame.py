"""What a plugin does wrong, told as such."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mbexec.core.errors import MbexecError, PluginError

__all__ = ["blamed"]


@contextmanager
def blamed(role: str, name: str | None) -> Iterator[None]:
    """Let what a plugin raises be a PluginError that names it; what mbexec raises passes."""
    try:
        yield
    except MbexecError:
        raise
    except Exception as error:
        raise PluginError(f"The {role} {name!r} broke: {type(error).__name__}: {error}") from error
