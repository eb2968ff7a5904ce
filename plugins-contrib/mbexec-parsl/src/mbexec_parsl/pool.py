"""Parsl's executor while it runs: started without a DataFlowKernel, kept warm between runs, ended without a trace."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field

from mbexec import ConfigError, ExecutorError
from mbexec.processes import kill_marked
from mbexec_parsl.groups import kill_group
from mbexec_parsl.sites import STARTED, Site, command

__all__ = ["Pool", "discard", "give_back", "lease", "new_folder"]

_EXECUTE = {"task_executor": {"f": "mbexec_parsl.worker.execute"}}
_URGENT = {"resource_spec": {"priority": 0}}
_PATIENCE = 5.0
_ANSWER = 60.0  # s


@define(eq=False)
class Pool:
    """Workers, as far as a run sees them.

    Attributes
    ----------
    site
        What runs them.
    known
        Names of the workers that have each context, by its key.
    folder
        Where Parsl writes; None where someone else has started it.
    """

    site: Site
    known: dict[str, set[str]] = field(factory=dict, init=False)
    folder: Path | None = None
    _keeps: bool = False
    _poller: Any = field(default=None, init=False)
    _looked: float = field(default=0.0, init=False)
    _workers: int = field(default=0, init=False)
    _pid: int = field(factory=os.getpid, init=False)

    def start(self) -> None:
        """Start the interchange, and what asks for blocks; workers come when they come."""
        htex = self.site.htex
        htex.run_dir, htex.run_id, htex.log_config = str(self.folder), str(uuid.uuid4()), None
        scripts = os.path.join(htex.run_dir, "submit_scripts")
        os.makedirs(scripts, exist_ok=True)
        os.makedirs(htex.logdir, exist_ok=True)
        htex.provider.script_dir = scripts
        if list(htex.interchange_launch_cmd) == ["interchange.py"]:
            said = os.path.join(htex.run_dir, "interchange.out")
            folder = "-" if self._keeps else htex.run_dir
            htex.interchange_launch_cmd = command("interchange", said, folder, parent=os.getpid())
        htex.start()
        self._poller = _keeper(self.site)

    def workers(self) -> int:
        """How many workers are connected; asked once a second at most."""
        if time.monotonic() - self._looked > 1:
            self.check()
            managers = _managers(self.site.htex)
            self._workers = sum(each["worker_count"] for each in managers if each["active"] and not each["draining"])
            self._looked = time.monotonic()
        return self._workers

    def submit(self, message: bytes, *, urgent: bool = False) -> Future[bytes]:
        """Send a message to whichever worker is free."""
        self.check()
        future: Future[bytes] = self.site.htex.submit_payload(_EXECUTE | (_URGENT if urgent else {}), message)
        return future

    def check(self) -> None:
        """Raise an ExecutorError if no answer can come any more."""
        htex = self.site.htex
        if htex.bad_state_is_set:
            why = " ".join(str(htex.executor_exception).split())
            raise ExecutorError(f"Parsl gave up on its blocks: {why}.{self._logs()}")
        if htex.interchange_proc is None or htex.interchange_proc.poll() is not None:
            raise ExecutorError(f"Parsl's interchange has ended, without which no worker can be reached.{self._logs()}")

    def _logs(self) -> str:
        """Where to read more; it is left there."""
        self._keeps = True
        return f" Its logs are in {str(self.folder)!r}." if self.folder is not None else ""

    def stop(self) -> None:
        """End the blocks with all that runs there, the interchange and what was started for them here."""
        if self.site.running or self._pid != os.getpid():
            return
        from parsl.utils import Timer

        htex = self.site.htex
        with suppress(Exception):  # what can be ended, is
            Timer.close(self._poller, _PATIENCE)
        for job in list(htex.blocks_to_job_id.values()):
            with suppress(Exception):
                self._end(job)
        with suppress(Exception):
            htex._result_queue_thread_exit.set()
            if not self._poller._thread.is_alive():  # it waits for an interchange that will not answer
                htex.outgoing_q.zmq_socket.linger = 0
                htex.shutdown(_PATIENCE)
        if self.site.mark is not None:  # of a block that was killed, something may be left
            kill_marked(self.site.mark)
        if self.folder is not None and not self._keeps:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, job: str) -> None:
        """End a block; on this machine, see to it that its processes are gone."""
        provider = self.site.htex.provider
        found = provider.resources.get(job, {})
        if "remote_pid" in found:
            found["cancelled"] = True
            kill_group(found["remote_pid"], STARTED, _PATIENCE)
        elif not found.get("status") or not found["status"].terminal:
            provider.cancel([job])


def _managers(htex: Any) -> list[dict[str, Any]]:
    """What the interchange knows of managers, each of which has workers on a node."""
    try:
        found: list[dict[str, Any]] = htex.command_client.run("MANAGERS", timeout_s=_ANSWER)
    except Exception as error:
        raise ExecutorError(f"Parsl's interchange does not answer: {type(error).__name__}: {error}") from error
    return found


def _keeper(site: Site) -> Any:
    """Parsl's poller, which starts blocks, and gives up blocks that are still there when their workers are lost."""
    from parsl.jobs.job_status_poller import JobStatusPoller
    from parsl.jobs.states import JobState

    class Keeper(JobStatusPoller):
        """Gives up blocks whose workers are lost, and then does what Parsl's own does."""

        seen: set[str] = set()  # noqa: RUF012 - of this class's only instance

        def poll(self) -> None:
            """Look at all blocks."""
            if site.htex.interchange_proc.poll() is not None:
                return
            connected = {each["block_id"] for each in _managers(site.htex)}
            for block in self.seen - connected:
                job = site.htex.blocks_to_job_id.get(block)
                status = site.htex.status_facade.get(block)
                if job is not None and status is not None and status.state == JobState.RUNNING:
                    site.htex.provider.cancel([job])
                    site.htex._status[block].state = JobState.CANCELLED
            self.seen.clear()
            self.seen.update(connected)
            super().poll()

    keeper = Keeper(strategy=site.strategy, max_idletime=site.idle, strategy_period=site.period)
    keeper.add_executors([site.htex])
    return keeper


class _Kept:
    """The pool that waits for the next run, and what ends it when none comes."""

    pool: Pool | None = None
    key: Hashable = None
    timer: threading.Timer | None = None
    lock = threading.RLock()
    leased: set[Pool] = set()  # noqa: RUF012 - of the process


def lease(key: Hashable, workers: int, make: Callable[[], Site], folder: Callable[[], tuple[Path, bool]]) -> Pool:
    """A pool for one run: the one that waits, if it is of that kind and has workers enough, else a new one.

    Parameters
    ----------
    key
        The kind.
    workers
        How many the run may use.
    make
        Describes a new one.
    folder
        Gives a new one a folder, and says whether it is to be kept.
    """
    with _Kept.lock:
        pool = _Kept.pool
        if pool is not None:
            _let_go()
            most = pool.site.most
            if _Kept.key == key and (most is None or most >= workers) and _is_well(pool):
                _Kept.leased.add(pool)
                return pool
            pool.stop()
        pool = Pool(make(), *folder())
        _Kept.leased.add(pool)
    try:
        pool.start()
    except BaseException:
        discard(pool)
        raise
    return pool


def _is_well(pool: Pool) -> bool:
    try:
        pool.check()
    except ExecutorError:
        return False
    return True


def _let_go() -> None:
    if _Kept.timer is not None:
        _Kept.timer.cancel()
    _Kept.pool = _Kept.timer = None


def give_back(pool: Pool, key: Hashable, idle_timeout: float) -> None:
    """Keep a pool that has nothing to do for the next run, for a time."""
    with _Kept.lock:
        _Kept.leased.discard(pool)
        if _Kept.pool is not None:
            pool.stop()
            return
        _Kept.pool, _Kept.key = pool, key
        _Kept.timer = threading.Timer(idle_timeout, _idle, [pool])
        _Kept.timer.daemon = True
        _Kept.timer.start()


def _idle(pool: Pool) -> None:
    with _Kept.lock:
        if _Kept.pool is pool:
            _let_go()
            pool.stop()


def discard(pool: Pool) -> None:
    """End a pool, and what runs in it."""
    with _Kept.lock:
        _Kept.leased.discard(pool)
    pool.stop()


def new_folder(run_dir: str | None, cluster: bool) -> tuple[Path, bool]:
    """A folder for one pool, and whether it is to be kept: where the user says, else where all its workers see it."""
    try:
        if run_dir is not None:
            Path(run_dir).mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=os.path.abspath(run_dir))), True
        base = Path.home() / ".cache" / "mbexec" if cluster else None
        if base is not None:
            base.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="mbexec-parsl-run-", dir=base)), False
    except OSError as error:
        raise ConfigError(
            f"Parsl's folder can't be made in {run_dir or str(Path.home() / '.cache')!r}: {error.strerror}. "
            "Set plugin.parsl.run_dir to a directory that can be written to, and that all nodes see."
        ) from error


@atexit.register
def _end() -> None:
    with _Kept.lock:
        waiting = [] if _Kept.pool is None else [_Kept.pool]
        _let_go()
        for pool in [*_Kept.leased, *waiting]:
            pool.stop()
        _Kept.leased.clear()


def _forget() -> None:
    """In a forked child: the pools are its parent's."""
    _Kept.lock = threading.RLock()
    _Kept.pool = _Kept.timer = None
    _Kept.leased.clear()


os.register_at_fork(after_in_child=_forget)
