"""The Dask executor: fragments on one machine or many."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self

import attrs
from attrs import define, field, validators
from distributed import Client

from mbexec import Level, TaskResult, Work, hookimpl
from mbexec_dask.flow import Flow, Traffic
from mbexec_dask.queue import Settings
from mbexec_dask.sites import CLASSES, Site

__all__ = ["Dask"]

_positive: Any = [validators.instance_of((int, float)), validators.gt(0)]
_text: Any = validators.optional(validators.instance_of(str))
_WAYS = ("address", "scheduler_file", "client", "jobqueue")


def _is_tls(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    keys = ("ca", "cert", "key")
    if value is not None and (not isinstance(value, Mapping) or sorted(value) != sorted(keys)):
        raise ValueError(f"{attribute.name} = {value!r:.80} must be a table with the files ca, cert and key.")


def _is_jobqueue(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, Mapping) or value.get("class") not in CLASSES:
        raise ValueError(
            f"{attribute.name} = {value!r:.80} must be a table whose class is one of {', '.join(CLASSES)}."
        )
    jobs = value.get("jobs", 1)
    if isinstance(jobs, bool) or not isinstance(jobs, int) or jobs < 1:
        raise ValueError(f"{attribute.name}.jobs = {jobs!r:.80} must be a whole number from 1 up.")


def _are_resources(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    good = isinstance(value, Mapping) and all(
        amount in ("ncores", "memory")
        or (isinstance(amount, (int, float)) and not isinstance(amount, bool) and amount > 0)
        for amount in value.values()
    )
    if not good:
        raise ValueError(f'{attribute.name} = {value!r:.80} must be a table of "ncores", "memory" or numbers above 0.')


@define(eq=False)
class Dask:
    """Runs fragments in processes that Dask workers start and watch over.

    Attributes
    ----------
    address
        Of a scheduler, such as "tls://login1:8786".
    scheduler_file
        A file that tells where the scheduler is.
    client
        A ``distributed.Client``, from Python.
    jobqueue
        A batch system, and what its jobs are like.
    tls
        Files with which both sides show who they are: ca, cert, key.
    resources
        What a fragment takes of its worker's resources.
    chunk_time
        Seconds of work in a message; by default it follows the number of workers.
    patience
        Seconds to wait for a worker when there is none; with a batch system, as long as it takes.
    connect_timeout
        Seconds to try to reach the scheduler, at the start and when the connection is lost.
    idle_timeout
        Seconds that worker processes without work are kept.
    """

    isolates_processes: ClassVar[bool] = True
    can_kill: ClassVar[bool] = True
    survives_worker_death: ClassVar[bool] = True

    address: str | None = field(default=None, validator=_text)
    scheduler_file: str | None = field(default=None, validator=_text)
    client: Client | None = field(default=None, validator=validators.optional(validators.instance_of(Client)))
    jobqueue: Mapping[str, Any] | None = field(default=None, validator=_is_jobqueue)
    tls: Mapping[str, str] | None = field(default=None, validator=_is_tls)
    resources: Mapping[str, Any] = field(factory=dict, validator=_are_resources)
    chunk_time: float | None = field(default=None, validator=validators.optional(_positive))
    patience: float | None = field(default=None, validator=validators.optional(_positive))
    connect_timeout: float = field(default=30, validator=_positive)
    idle_timeout: float = field(default=60, validator=_positive)
    _site: Site = field(init=False)
    _traffic: Traffic = field(factory=Traffic, init=False)

    def __attrs_post_init__(self) -> None:
        given = [way for way in _WAYS if getattr(self, way) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given; one of them says where Dask is.")
        if self.tls is not None and (not given or given == ["client"]):
            raise ValueError("tls is for a scheduler elsewhere: give its address too, scheduler_file or jobqueue.")
        if self.resources and not given:
            raise ValueError(
                "resources are those of workers elsewhere: give an address too, scheduler_file or jobqueue."
            )
        self._site = Site(self.address, self.scheduler_file, self.client, self.jobqueue, self.tls, self.connect_timeout)

    @property
    def elsewhere(self) -> bool:
        """Whether fragments run on other machines, as far as is known here."""
        return any(getattr(self, way) is not None for way in _WAYS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._site.close()

    @property
    def bytes_moved(self) -> tuple[int, int]:
        """To workers, and from them."""
        return self._traffic.sent, self._traffic.received

    @hookimpl
    def submit_level(self, level: Level, work: Work) -> Iterator[TaskResult]:
        """Send tasks as workers become free, a few ahead of each."""
        patience = 300.0 if self.patience is None and self.jobqueue is None else self.patience
        settings = Settings(self.chunk_time, self.resources, patience, self.idle_timeout)
        return Flow(level, work, self._site.connected(work.workers), settings, self._traffic).results()
