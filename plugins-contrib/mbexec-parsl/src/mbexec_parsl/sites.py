"""Where Parsl's workers are to run: a site described by the table, a file of Parsl's, or what Python hands over."""

from __future__ import annotations

import os
import runpy
import secrets
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from mbexec import ConfigError
from mbexec.processes import MARK

__all__ = ["STARTED", "Site", "command", "of_config", "of_table"]

_POLL = 100  # ms; messages wake everyone at once, so this is how long an end may go unnoticed
_PERIOD = 0.5  # s
_LEAST = 3
STARTED = os.path.join(os.path.dirname(__file__), "started.py")


@frozen(eq=False)
class Site:
    """An executor of Parsl's, and how to keep its blocks.

    Attributes
    ----------
    htex
        The ``HighThroughputExecutor``.
    running
        Whether someone else has started it, and will end it.
    strategy, period, idle
        Of Parsl's ``Config``: how to scale, how often to look, seconds that a surplus block may be idle.
    most
        The most workers that it may have; None if nobody knows.
    where
        In words.
    mark
        What all processes of its blocks carry in their environment, if they run on this machine.
    """

    htex: Any
    where: str
    running: bool = False
    strategy: str = field(default="simple", kw_only=True)
    period: float = field(default=_PERIOD, kw_only=True)
    idle: float = field(default=120.0, kw_only=True)
    most: int | None = field(default=None, kw_only=True)
    mark: str | None = field(default=None, kw_only=True)


def of_table(table: Any, workers: int, ncores: int) -> Site:
    """A site that ``[plugin.parsl]`` describes.

    Parameters
    ----------
    table
        The plugin.
    workers
        How many the run may use.
    ncores
        Of a fragment.
    """
    from parsl.executors import HighThroughputExecutor

    slurm = table.provider == "slurm"
    mark = None if slurm else secrets.token_hex(8)
    provider = _slurm(table) if mark is None else _local(table, mark)
    each = table.workers_per_node
    if each is None and not slurm:
        each = -(-workers // table.blocks)
    htex = HighThroughputExecutor(
        label="mbexec",
        provider=provider,
        address=table.address or (None if slurm else "127.0.0.1"),
        encrypted=table.encrypted,
        cores_per_worker=0.001 if each is not None else float(ncores),  # a number that is given counts, cores don't
        heartbeat_period=table.heartbeat_period,
        heartbeat_threshold=table.heartbeat_threshold,
        poll_period=_POLL,
        block_error_handler=_give_up,
        **({} if each is None else {"max_workers_per_node": each}),
    )
    htex.launch_cmd = _own_python(htex.launch_cmd, here=not slurm)
    most = None if each is None else each * table.nodes * table.blocks
    where = f"{table.blocks} block{'s' * (table.blocks > 1)} of SLURM" if slurm else "this machine"
    return Site(htex, where, most=most, mark=mark)


def _local(table: Any, mark: str) -> Any:
    from parsl.launchers import SimpleLauncher
    from parsl.providers import LocalProvider

    blocks = {"init_blocks": table.blocks, "min_blocks": table.blocks, "max_blocks": table.blocks}
    made: Any = LocalProvider  # which has no types
    begin = f"export {MARK}={mark}\n{table.worker_init}"
    return made(worker_init=begin, launcher=SimpleLauncher(), **blocks)


def _slurm(table: Any) -> Any:
    from parsl.launchers import SimpleLauncher, SrunLauncher
    from parsl.providers import SlurmProvider

    blocks = {"init_blocks": table.blocks, "min_blocks": table.blocks, "max_blocks": table.blocks}
    return SlurmProvider(
        partition=table.partition,
        account=table.account,
        nodes_per_block=table.nodes,
        walltime=table.walltime,
        worker_init=table.worker_init,
        scheduler_options=table.scheduler_options,
        exclusive=table.exclusive,
        launcher=SrunLauncher() if table.nodes > 1 else SimpleLauncher(),
        **blocks,
    )


def command(module: str, file: str = "-", folder: str = "-", *, parent: int = 0) -> list[str]:
    """The command that runs a module of Parsl's with this Python and :data:`STARTED`, whose arguments these are."""
    return [sys.executable, "-P", STARTED, str(parent), file, folder, f"parsl.executors.high_throughput.{module}"]


def _own_python(launch: str, *, here: bool) -> str:
    """Parsl's launch command with this Python in place of whatever the shell would find."""
    script, _, arguments = launch.partition(" ")
    assert script == "process_worker_pool.py"
    parent = os.getpid() if here else 0
    own = command("process_worker_pool", parent=parent)
    return f"{shlex.join(own)} {arguments}"


def _give_up(htex: Any, status: dict[str, Any]) -> None:
    """Parsl's own handler gives up when one block of one has failed; this, when no worker of many has ever come."""
    from parsl.jobs.states import JobState

    missing = [each for each in status.values() if each.state in (JobState.MISSING, JobState.FAILED)]
    if not htex.bad_state_is_set and not htex.connected_blocks() and len(missing) >= _LEAST:
        htex.set_bad_state_and_fail_all(RuntimeError(_said(missing[-1])))


def _said(status: Any) -> str:
    """What is known of a block that has failed."""
    parts = [status.message, status.stdout_summary, status.stderr_summary]
    return " ".join(" ".join(part.split()) for part in parts if part)


def of_config(given: Any, label: str | None) -> Site:
    """The site of a file that defines ``config``, of such a ``Config``, or of a ``DataFlowKernel`` that runs.

    Raises
    ------
    ConfigError
        If there is none, or none with a HighThroughputExecutor.
    """
    from parsl import Config, DataFlowKernel
    from parsl.providers import LocalProvider

    where = f"the Parsl config {str(given)!r}" if isinstance(given, (str, Path)) else f"a {type(given).__name__}"
    config = _read(Path(given)) if isinstance(given, (str, Path)) else given
    if isinstance(config, DataFlowKernel):
        executors = [each for each in config.executors.values() if each.label != "_parsl_internal"]
        if config.cleanup_called:
            raise ConfigError("plugin.parsl.config is a DataFlowKernel that has been cleaned up; load another.")
    elif isinstance(config, Config):
        executors = list(config.executors)
    else:
        raise ConfigError(
            f"plugin.parsl.config = {config!r:.80} must be the path of a Python file that defines config, "
            "or a Config or DataFlowKernel of Parsl's."
        )
    htex = _chosen(executors, label, where)
    running = isinstance(config, DataFlowKernel)
    if running:
        return Site(htex, where, running, most=_most(htex))
    if htex.interchange_proc is not None:
        raise ConfigError(
            f"The executor {htex.label!r} of {where} has been started before, which Parsl can't do twice; "
            "make a new Config, or load it and give the DataFlowKernel."
        )
    if isinstance(htex.provider, LocalProvider) and not shutil.which("process_worker_pool.py"):
        htex.launch_cmd = _own_python(htex.launch_cmd, here=True)
    settings = {"strategy": config.strategy or "none", "period": config.strategy_period, "idle": config.max_idletime}
    return Site(htex, where, most=_most(htex), **settings)


def _read(path: Path) -> Any:
    if not path.is_file():
        raise ConfigError(f"plugin.parsl.config = {str(path)!r} is no file; give the path of one that defines config.")
    try:
        found = runpy.run_path(str(path), run_name="mbexec_parsl_config")
    except Exception as error:
        raise ConfigError(f"The Parsl config {str(path)!r} can't be read: {type(error).__name__}: {error}") from error
    if "config" not in found:
        raise ConfigError(f"The Parsl config {str(path)!r} defines no config; it must have config = Config(...).")
    return found["config"]


def _chosen(executors: Sequence[Any], label: str | None, where: str) -> Any:
    from parsl.executors import HighThroughputExecutor

    known = [each.label for each in executors if isinstance(each, HighThroughputExecutor)]
    wanted = known if label is None else [each for each in known if each == label]
    if len(wanted) != 1:
        asked = f"plugin.parsl.label = {label!r}" if label is not None else "plugin.parsl.label is not given"
        names = ", ".join(map(repr, known)) or "none"
        raise ConfigError(f"{asked}, and the HighThroughputExecutors of {where} are: {names}. Name one of them.")
    return next(each for each in executors if each.label == wanted[0])


def _most(htex: Any) -> int | None:
    """The most workers that an executor may have, where it says how many there are on a node."""
    each = htex.max_workers_per_node
    blocks, nodes = htex.provider.max_blocks, htex.provider.nodes_per_block
    return int(each * nodes * blocks) if each != float("inf") else None
