"""The Dask workers of a level: greeted when they come, to find out what they can run, and forgotten when gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from typing import Any

import structlog
from attrs import define, field
from distributed import Client, Future

from mbexec import ExecutorError, Work
from mbexec_dask.messages import Answer

__all__ = ["BEAT", "Crew", "tell"]

BEAT = 2.0  # s


def tell(event: str, **told: Any) -> None:
    """Log what people may want to know of."""
    with suppress(Exception):  # where logging fails, the run goes on
        structlog.get_logger("mbexec").warning(event, **told)


@define(eq=False)
class Crew:
    """Dask workers, and whether they have answered.

    Attributes
    ----------
    client, work
        Of the level.
    patience
        Seconds to wait for a worker when there is none.
    probe
        Asks a worker for its version of mbexec-dask: what is not installed there can't be sent there.
    greet
        Sends a worker a message without tasks, which tells what it has.
    threads
        Of workers that have answered, by address.
    """

    client: Client
    work: Work
    patience: float | None
    probe: Callable[[str], Future]
    greet: Callable[[str], Future]
    threads: dict[str, int] = field(factory=dict, init=False)
    _offers: dict[str, Mapping[str, float]] = field(factory=dict, init=False)
    _greetings: dict[str, Future] = field(factory=dict, init=False)
    _looked: float = field(default=0.0, init=False)
    _alone_since: float | None = field(default=None, init=False)
    _told_of_spare: bool = field(default=False, init=False)

    @property
    def size(self) -> int:
        """How many fragments it can run at once."""
        return sum(self.threads.values())

    def look(self) -> None:
        """Greet those that have come; forget those that have gone."""
        now = time.monotonic()
        if now - self._looked < BEAT:
            return
        self._looked = now
        try:
            there = self.client.nthreads()
        except OSError:  # the connection is lost, which pending tasks will tell
            return
        for worker in there.keys() - self._greetings.keys():
            self._greetings[worker] = self.probe(worker)
        for worker in self._greetings.keys() - there.keys():
            self._greetings.pop(worker).cancel()
            if self.threads.pop(worker, None) is not None:
                tell("worker_lost", worker=worker, left=len(self.threads))
        self._wait(now, bool(there))

    def _wait(self, now: float, there: bool) -> None:
        if there:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = now
            tell("waiting_for_workers", scheduler=self.client.scheduler.address)
        elif self.patience is not None and now - self._alone_since > self.patience:
            raise ExecutorError(
                f"The Dask scheduler {self.client.scheduler.address!r} has had no worker for {self.patience:g} s; "
                "start some, or raise plugin.dask.patience if they need longer."
            )

    def waiting(self) -> dict[Any, Future]:
        """Greetings that have not been answered, by key."""
        return {future.key: future for worker, future in self._greetings.items() if worker not in self.threads}

    def probed(self, key: Any, found: str) -> None:
        """A worker has told its version of mbexec-dask; another one would not understand what is sent."""
        worker = next(worker for worker, future in self._greetings.items() if future.key == key)
        if found != (own := version("mbexec-dask")):
            raise ExecutorError(
                f"The Dask worker {worker!r} has other versions than this process: mbexec-dask {found} (here {own}). "
                "Install the same versions in both environments."
            )
        self._greetings[worker] = self.greet(worker)

    def welcome(self, answer: Answer) -> None:
        """A worker has answered: it may have tasks."""
        self._offers[answer.worker] = answer.resources
        self.threads[answer.worker] = answer.threads
        if self.size > self.work.workers and not self._told_of_spare:
            self._told_of_spare = True
            tell("workers_unused", threads=self.size - self.work.workers, why=f"run.workers = {self.work.workers}")

    def offers(self, needs: Mapping[str, float]) -> bool:
        """Whether a worker has what is asked for, as Dask would wait for one; not yet, while some are being greeted."""
        for worker in self.threads:
            if all(self._offers[worker].get(name, 0.0) >= amount for name, amount in needs.items()):
                return True
        if self.waiting():
            return False
        raise ExecutorError(
            f"No Dask worker offers the resources {needs!r} that [plugin.dask.resources] asks for a fragment; "
            "start workers with, for example, --resources 'GPU=1', or ask for less."
        )
