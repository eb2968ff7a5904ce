"""The host as QCEngine describes it, and QCEngine's settings for it."""

from __future__ import annotations

import getpass
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

import psutil

from mbexec.core.errors import ConfigError
from mbexec.core.harness import have_engine

if TYPE_CHECKING:
    from mbexec.core.settings import TaskSettings

__all__ = ["ask_early", "describe_host", "host_description", "node_settings", "task_config"]


class _Processor:
    """What py-cpuinfo says of the processor, which takes it more than a second: asked once, by whoever comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[str, Any] = {}

    def description(self) -> dict[str, Any]:
        """Its answer; what it raises is raised here, and the next caller asks anew."""
        with self._lock:
            if not self._found:
                import cpuinfo

                self._found = cpuinfo.get_cpu_info()
            return self._found

    def ask(self) -> None:
        """Have the answer sooner than it is needed; what goes wrong is for those who need it."""
        with suppress(Exception):
            self.description()

    def forget(self) -> None:
        """In a forked child: the thread that asked, and held the lock, is its parent's."""
        self._lock = threading.Lock()


_processor = _Processor()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_processor.forget)


def _ncores() -> int:
    """Cores as QCEngine counts them: those granted; if that is all there are, hyperthreads don't count."""
    everyone, physical = psutil.cpu_count() or 1, psutil.cpu_count(logical=False)
    granted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else everyone
    return physical if granted == everyone and physical else granted


def _cpu_brand() -> str:
    found = _processor.description()
    return str(found.get("brand_raw", found.get("brand", "(unknown)")))


_FINDERS: Mapping[str, Callable[[], Any]] = {
    "hostname": socket.gethostname,
    "memory": lambda: round(psutil.virtual_memory().available / 2**30, 3),
    "username": getpass.getuser,
    "ncores": _ncores,
    "nnodes": lambda: 1,
    "cpuinfo": lambda: _processor.description(),
    "cpu_brand": _cpu_brand,
}


class _Host(dict[str, Any]):
    """QCEngine's host description, in which each value is found when it is first asked for.

    QCEngine fills its own step by step, and the last step takes long: threads see it half full meanwhile. This one is
    never half full, and who does not ask for the processor does not wait for it.
    """

    def __missing__(self, key: str) -> Any:
        return self.setdefault(key, _FINDERS[key]())

    def copy(self) -> dict[str, Any]:
        """All values."""
        return {**self, **{key: self[key] for key in _FINDERS}}


def ask_early() -> None:
    """Begin to find out what takes long, in a thread of its own, for a run whose results will tell of the host."""
    if have_engine():
        threading.Thread(target=_processor.ask, name="mbexec-host", daemon=True).start()


def describe_host(known: Mapping[str, Any] | None = None) -> None:
    """Put a host description in the place of QCEngine's, unless that is complete; finds out nothing by itself.

    Parameters
    ----------
    known
        What another process has found out, if anything; of use on the same host only.
    """
    from qcengine import config

    if _is_usable(config._global_values):
        return
    here = known is not None and known.get("hostname") == socket.gethostname()
    config._global_values = _Host(known if known is not None and here else {})


def host_description(*, complete: bool) -> dict[str, Any] | None:
    """QCEngine's description of this host.

    Parameters
    ----------
    complete
        Whether to wait for all of it; else what is known by now, or None.
    """
    from qcengine import config

    found: dict[str, Any] | None = config._global_values
    if not _is_usable(found):
        return None
    assert found is not None
    return found.copy() if complete else dict(found)


def _is_usable(found: dict[str, Any] | None) -> bool:
    """Whether nobody who asks it will miss anything: one of ours, or one of QCEngine's that is complete."""
    return isinstance(found, _Host) or (found is not None and "cpu_brand" in found)


def task_config(task: TaskSettings) -> Any:
    """QCEngine's TaskConfig for our settings, with what `qcengine.yaml` says of MPI."""
    from qcengine.config import NODE_DESCRIPTORS, TaskConfig, get_config

    given = task.as_qcengine()
    if NODE_DESCRIPTORS or task.nnodes > 1:
        describe_host()
        return get_config(task_config=given)
    return TaskConfig(**given, mpiexec_command=None)


def node_settings() -> dict[str, Any]:
    """What `qcengine.yaml` says of this host: ncores, memory, retries, scratch_directory; empty without it.

    Raises
    ------
    ConfigError
        If QCEngine can't read it.
    """
    if not have_engine() or ("qcengine" not in sys.modules and not _engine_has_file()):
        return {}
    try:
        from qcengine.config import NODE_DESCRIPTORS
    except Exception as error:
        raise ConfigError(f"qcengine.yaml can't be read: {' '.join(str(error).split())}") from error
    node = next((n for n in NODE_DESCRIPTORS.values() if fnmatch(socket.gethostname(), n.hostname_pattern)), None)
    if node is None:
        return {}
    found = {
        "ncores": node.ncores and node.ncores // node.jobs_per_node,
        "memory": node.memory and round(node.memory * (1 - node.memory_safety_factor / 100) / node.jobs_per_node, 3),
        "retries": node.retries or None,
        "scratch_directory": node.scratch_directory,
    }
    return {key: value for key, value in found.items() if value is not None}


def _engine_has_file() -> bool:
    """Whether QCEngine would find a `qcengine.yaml`, told without importing it, which takes a tenth of a second."""
    places = [os.environ.get("DQM_CONFIG_PATH"), os.getcwd(), os.path.join(os.path.expanduser("~"), ".qcarchive")]
    return any(place is not None and os.path.exists(os.path.join(place, "qcengine.yaml")) for place in places)
