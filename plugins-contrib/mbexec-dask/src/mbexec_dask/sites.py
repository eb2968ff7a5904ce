"""Where Dask runs: threads of this process, a scheduler that is there, or jobs of a batch system."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit

import structlog
from attrs import define, field
from distributed import Client, Scheduler, Security, SpecCluster, Worker

from mbexec import ConfigError, ExecutorError

__all__ = ["CLASSES", "Site"]

CLASSES = ("HTCondor", "LSF", "Moab", "OAR", "PBS", "SGE", "SLURM")


@define(eq=False)
class Site:
    """A connection to Dask, made when it is first needed.

    Attributes
    ----------
    address, scheduler_file
        Of a scheduler that is there.
    client
        One that is connected.
    jobqueue
        Of a batch system: "class", "jobs", and arguments of dask-jobqueue's class.
    tls
        Files: "ca", "cert" and "key".
    connect_timeout
        Seconds to try to reach the scheduler.
    """

    address: str | None
    scheduler_file: str | None
    client: Client | None
    jobqueue: Mapping[str, Any] | None
    tls: Mapping[str, str] | None
    connect_timeout: float
    _stack: ExitStack = field(factory=ExitStack, init=False)
    _client: Client | None = field(default=None, init=False)
    _threads: int = field(default=0, init=False)

    def connected(self, workers: int) -> Client:
        """A client; where Dask runs in this process, with as many workers."""
        if self.client is not None:
            return self.client
        if self._client is not None and self._is_local() and self._threads < workers:
            self.close()
        if self._client is None:
            self._client = self._connect(workers)
        return self._client

    def close(self) -> None:
        """End what was begun here."""
        self._client = None
        self._stack.close()

    def _is_local(self) -> bool:
        return self.address is None and self.scheduler_file is None and self.jobqueue is None

    def _connect(self, workers: int) -> Client:
        if self._is_local():
            self._threads = workers
            return self._opened(self._local(workers))
        if self.jobqueue is not None:
            return self._opened(self.cluster())
        if self.scheduler_file is not None and not Path(self.scheduler_file).is_file():
            raise ExecutorError(
                f"plugin.dask.scheduler_file = {self.scheduler_file!r} is not there; "
                "`dask scheduler --scheduler-file FILE` writes it when it starts."
            )
        where = {"address": self.address} if self.scheduler_file is None else {"scheduler_file": self.scheduler_file}
        return self._opened(**where)

    def _local(self, workers: int) -> SpecCluster:
        """Scheduler and worker in this process; fragments run in children of it."""
        both = {"dashboard": False, "dashboard_address": "127.0.0.1:0"}  # without it, it would be open to all
        scheduler = {"cls": Scheduler, "options": {"protocol": "inproc://", **both}}
        worker = {"cls": Worker, "options": {"nthreads": workers, "memory_limit": 0, **both}}  # our memory isn't theirs
        quiet = logging.ERROR  # a level that is closed early leaves messages to a worker that is ending
        cluster = SpecCluster(scheduler=scheduler, workers={0: worker}, silence_logs=quiet)
        self._stack.enter_context(cluster)
        return cluster

    def _opened(self, address: Any = None, **given: Any) -> Client:
        security = {} if self.tls is None else {"security": self.security()}
        try:
            client = Client(address, set_as_default=False, timeout=self.connect_timeout, **given, **security)
        except (OSError, TimeoutError, ValueError, TypeError) as error:
            self._stack.close()
            what = self.scheduler_file if address is None else address
            raise ExecutorError(
                f"No Dask scheduler can be reached at {what!r}: {type(error).__name__}: {error}. "
                "Is it running, and are plugin.dask.address and plugin.dask.tls its own?"
            ) from error
        self._stack.enter_context(client)
        _warn_if_open(client.scheduler.address)
        return client

    def security(self) -> Security:
        """Encryption with these files on all sides; nothing goes unencrypted."""
        assert self.tls is not None
        for what, file in self.tls.items():
            if not Path(file).is_file():
                raise ConfigError(f"plugin.dask.tls.{what} = {file!r} is not there; give a file in PEM.")
        sides = {
            f"tls_{side}_{kind}": self.tls[kind]
            for side in ("client", "scheduler", "worker")
            for kind in ("cert", "key")
        }
        return Security(tls_ca_file=self.tls["ca"], require_encryption=True, **sides)

    def cluster(self) -> Any:
        """The cluster that the table `jobqueue` describes; its jobs are submitted."""
        assert self.jobqueue is not None
        try:
            # It takes Ctrl-C for itself as it is imported: Python forbids that to threads, and it is for the run.
            with mock.patch("signal.signal"):
                import dask_jobqueue
        except ImportError as missing:
            raise ConfigError(
                "[plugin.dask.jobqueue] needs dask-jobqueue, which is not installed. "
                "Install it with: pip install 'mbexec-dask[jobqueue]'"
            ) from missing
        given = {key: value for key, value in self.jobqueue.items() if key not in ("class", "jobs")}
        given["scheduler_options"] = {"dashboard_address": "127.0.0.1:0", **given.get("scheduler_options", {})}
        if self.tls is not None:
            given |= {"security": self.security(), "protocol": "tls://"}
        name = f"{self.jobqueue['class']}Cluster"
        try:
            cluster = self._stack.enter_context(getattr(dask_jobqueue, name)(**given))
        except Exception as error:  # of many kinds, for what is missing and for what can't be
            raise ConfigError(f"[plugin.dask.jobqueue] is not accepted by dask-jobqueue's {name}: {error}") from error
        cluster.scale(jobs=self.jobqueue.get("jobs", 1))
        return cluster


def _warn_if_open(address: str) -> None:
    """Tell of a scheduler that runs code for whoever can reach it."""
    parts = urlsplit(address)
    try:
        inside = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        inside = parts.hostname == "localhost"
    if parts.scheme == "tcp" and not inside:
        structlog.get_logger("mbexec").warning(
            "scheduler_without_tls", address=address, why="it runs code for whoever can reach that port"
        )
