"""The host as QCEngine describes it, and QCEngine's settings for it."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from mbexec.core.errors import ConfigError
from mbexec.core.harness import have_engine

if TYPE_CHECKING:
    from mbexec.core.settings import TaskSettings

__all__ = ["describe_host", "host_description", "node_settings", "task_config"]


def describe_host(known: Mapping[str, Any] | None = None) -> None:
    """Fill QCEngine's host description before anyone shares it: it does so step by step, and threads see it half full.

    One that was left half full (an interrupted or failed first call) is made anew.
    """
    from qcengine import config

    if host_description() is None:
        config._global_values = None
    if config._global_values is None and known is not None:
        config._global_values = dict(known)
    try:
        config.get_global()
    except BaseException:
        config._global_values = None
        raise


def host_description() -> dict[str, Any] | None:
    """QCEngine's description of this host, if it is complete by now."""
    from qcengine import config

    found: dict[str, Any] | None = config._global_values
    return dict(found) if found is not None and "cpu_brand" in found else None


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
    if not have_engine():
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
