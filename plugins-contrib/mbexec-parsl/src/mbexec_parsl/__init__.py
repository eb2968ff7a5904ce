"""The parsl executor: fragments in worker pools that Parsl starts, on this machine or on a cluster."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

import structlog
from attrs import define, field, validators

from mbexec import Level, TaskResult, Work, hookimpl
from mbexec_parsl.flow import Flow, Traffic
from mbexec_parsl.pool import Pool, discard, give_back, lease, new_folder
from mbexec_parsl.sites import Site, of_config, of_table

__all__ = ["Parsl"]

_WALLTIME = re.compile(r"\d+:[0-5]\d:[0-5]\d")
_text = validators.instance_of(str)
_yes: Any = validators.instance_of(bool)


def _checked(kind: Any, test: Callable[[Any], bool], allowed: str) -> Any:
    """A validator: of that kind, and what the test accepts."""

    def _check(_: Any, attribute: Any, value: Any) -> None:
        if not test(value):
            raise ValueError(f"{attribute.name} = {value!r:.80} must be {allowed}.")

    return [validators.instance_of(kind), _check]


_count = _checked(int, lambda v: v is not True and v >= 1, "a whole number from 1 up")
_seconds = _checked((int, float), lambda v: v is not True and 0 < v < math.inf, "a number of seconds above 0")


@define(eq=False)
class Parsl:
    """Runs fragments in the workers of a HighThroughputExecutor of Parsl's.

    Attributes
    ----------
    config
        Path of a Python file that defines ``config``, as Parsl's users have them; from Python also a ``Config``, or a
        ``DataFlowKernel`` that is loaded. Without it, the settings from `provider` on describe where to run.
    label
        Of the executor in `config`, if there are several.
    provider
        "local" or "slurm".
    blocks, nodes
        How many blocks (batch jobs) to have, and how many nodes each has.
    workers_per_node
        How many fragments run at once on a node. Without it, of this machine ``run.workers``, on a cluster as many as
        the node has cores for.
    walltime, partition, account, scheduler_options, exclusive
        What SLURM is asked for: hours, minutes and seconds; further ``#SBATCH`` lines; nodes for oneself.
    worker_init
        Shell commands to run before workers start.
    address
        Of this machine, as workers reach it.
    encrypted
        Whether traffic is encrypted, and nobody else can send anything.
    heartbeat_period, heartbeat_threshold
        Seconds between signs of life, and without one before a block is lost.
    run_dir
        Where Parsl keeps scripts, keys and logs; a folder for each start, which is left there.
    chunk_time
        Seconds of work to send to a worker at once.
    idle_timeout
        Seconds that idle workers are kept for the next run.
    """

    isolates_processes: ClassVar[bool] = True
    can_kill: ClassVar[bool] = True
    survives_worker_death: ClassVar[bool] = True

    config: Any = None
    label: str | None = field(default=None, validator=validators.optional(_text))
    provider: str = field(
        default="local", validator=_checked(str, lambda v: v in ("local", "slurm"), '"local" or "slurm"')
    )
    blocks: int = field(default=1, validator=_count)
    nodes: int = field(default=1, validator=_count)
    workers_per_node: int | None = field(default=None, validator=validators.optional(_count))
    walltime: str = field(
        default="01:00:00",
        validator=_checked(str, lambda v: bool(_WALLTIME.fullmatch(v)), 'hours, minutes and seconds, as "01:00:00"'),
    )
    partition: str | None = field(default=None, validator=validators.optional(_text))
    account: str | None = field(default=None, validator=validators.optional(_text))
    scheduler_options: str = field(default="", validator=_text)
    exclusive: bool = field(default=True, validator=_yes)
    worker_init: str = field(default="", validator=_text)
    address: str | None = field(default=None, validator=validators.optional(_text))
    encrypted: bool = field(default=True, validator=_yes)
    heartbeat_period: int = field(default=2, validator=_count)
    heartbeat_threshold: int = field(default=30, validator=_count)
    run_dir: str | None = field(default=None, validator=validators.optional(_text))
    chunk_time: float = field(default=0.2, validator=_seconds)
    idle_timeout: float = field(default=60, validator=_seconds)
    _traffic: Traffic = field(factory=Traffic, init=False)
    _shared: Pool | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.heartbeat_threshold <= self.heartbeat_period:
            raise ValueError(
                f"heartbeat_threshold = {self.heartbeat_threshold} must be above "
                f"heartbeat_period = {self.heartbeat_period}."
            )
        if self.provider == "local" and self.nodes > 1:
            raise ValueError(f"nodes = {self.nodes} must be 1 where provider is 'local', which has no other.")

    @property
    def elsewhere(self) -> bool:
        """Whether fragments run on other machines, as far as anyone can tell before they do."""
        return self.provider != "local" or self.config is not None

    @property
    def bytes_moved(self) -> tuple[int, int]:
        """To workers, and from them."""
        return self._traffic.sent, self._traffic.received

    @hookimpl
    def submit_level(self, level: Level, work: Work) -> Iterator[TaskResult]:
        """Send chunks of tasks to workers as they become free."""
        if not len(level) or level.draining:
            return
        key = self._key()
        pool, ours = self._leased(key, work)
        flow = Flow(level, work, pool, self.chunk_time, self._traffic)
        try:
            yield from flow.results()
        except BaseException:
            if ours:
                discard(pool)  # and with it what runs
            raise
        if ours:
            give_back(pool, key, self.idle_timeout)

    def _key(self) -> Hashable:
        """What pools of one kind have in common."""
        own = (self.provider, self.blocks, self.nodes, self.workers_per_node, self.walltime, self.partition)
        more = (self.account, self.scheduler_options, self.exclusive, self.worker_init, self.address, self.encrypted)
        given = self.config if isinstance(self.config, str) else id(self.config)
        return given, self.label, self.run_dir, self.heartbeat_period, self.heartbeat_threshold, *own, *more

    def _leased(self, key: Hashable, work: Work) -> tuple[Pool, bool]:
        """A pool, and whether it is ours to end."""
        from parsl import DataFlowKernel

        if isinstance(self.config, DataFlowKernel):
            if self._shared is None:
                self._shared = Pool(of_config(self.config, self.label))
                note = "fragments that run when the run is cancelled go on there to their end"
                self._tell("parsl_shared", where=self._shared.site.where, note=note)
            return self._shared, False
        return lease(key, work.workers, partial(self._site, work), self._folder), True

    def _site(self, work: Work) -> Site:
        ncores = work.context.task.ncores
        site = of_config(self.config, self.label) if self.config is not None else of_table(self, work.workers, ncores)
        self._tell("parsl_started", where=site.where, workers=site.most or "as many as nodes have cores for")
        if site.most is not None and site.most > work.workers + self.blocks:
            self._tell("parsl_workers_idle", workers=site.most, note=f"run.workers = {work.workers} at once; raise it")
        return site

    def _folder(self) -> Any:
        return new_folder(self.run_dir, cluster=self.provider == "slurm" or self.config is not None)

    @staticmethod
    def _tell(event: str, **told: Any) -> None:
        with suppress(Exception):  # where logging fails, the run goes on
            structlog.get_logger("mbexec").info(event, **told)
