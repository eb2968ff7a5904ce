"""What Parsl's workers call: they watch over a child process that runs the fragments, and answer for it.

Messages and answers are plain dicts of plain values, which any version can read.
"""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import sys
import tempfile
import time
import traceback
from collections import OrderedDict
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe
from typing import Any

from attrs import define, field

from mbexec import TaskError, TaskResult
from mbexec.processes import ending, kill_tree, last_words, packed
from mbexec_parsl.runner import DONE, RETRY, Runner, scratch_of

__all__ = ["Worker", "execute"]

_OF_TASKS = ("tasks", "timeouts", "budget")
_KEPT = 4  # contexts, as many as run_chunk remembers
_MANY = 8
_REST = 0.002  # s


def execute(message: bytes) -> bytes:
    """Answer a message; what Parsl calls in its worker process."""
    return pickle.dumps(_worker.answer(pickle.loads(message)), pickle.HIGHEST_PROTOCOL)


@define(eq=False)
class Worker:
    """A worker of Parsl's, and its child process."""

    _contexts: OrderedDict[str, dict[str, Any]] = field(factory=OrderedDict, init=False)
    _child: _Child | None = field(default=None, init=False)

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Get ready for a context if it is there, run tasks if there are any; without its context a worker says so.

        Returns
        -------
        dict
            ``worker``, a name; ``versions``, when it got ready; ``need``, whether the context is missing;
            ``results``, pickled one by one; ``left``, places of tasks that were not begun; ``took``, seconds.
        """
        start, key = time.monotonic(), message["key"]
        given: dict[str, Any] = {"worker": f"{socket.gethostname()}:{os.getpid()}", "need": False, "results": []}
        if "blob" in message:
            self._contexts[key] = {name: value for name, value in message.items() if name not in _OF_TASKS}
            while len(self._contexts) > _KEPT:
                self._contexts.popitem(last=False)
            given["versions"] = self._ready(key)
        if key not in self._contexts:
            given["need"] = True
        elif "tasks" in message:
            given["results"] = self._run(message)
            given["left"] = list(range(len(given["results"]), len(message["tasks"])))
        return {**given, "took": time.monotonic() - start}

    def _ready(self, key: str) -> dict[str, str]:
        """Have a child that knows the context; the versions that it finds there."""
        context, child = self._contexts[key], self._child
        if child is not None and key in child.known and child.lives:
            return child.known[key]
        if child is not None and (len(child.known) == _KEPT or not child.lives):  # it would forget the first
            child.kill()
            self._child = None
        if self._child is None:
            self._child = _Child.started(context["scratch"])
        try:
            self._child.send(context)
            versions: dict[str, str] = pickle.loads(self._child.connection.recv_bytes())
        except (EOFError, OSError):
            child, self._child = self._child, None
            return {"problem": f"the process {ending(child.kill())} {child.said}".strip()}
        self._child.known[key] = versions
        return versions

    def _run(self, message: dict[str, Any]) -> list[bytes]:
        """Results of the tasks that were begun; one that its process died of, or that took too long, has an error."""
        results: list[bytes] = []
        tasks, end = message["tasks"], time.monotonic() + message["budget"]
        while len(results) < len(tasks) and (not results or time.monotonic() < end):
            problem = self._ready(message["key"]).get("problem")
            if self._child is None:
                raise RuntimeError(f"No process for fragments can be started: {problem}")
            left = {"key": message["key"], "tasks": tasks[len(results) :], "timeouts": message["timeouts"]}
            left["budget"] = end - time.monotonic()
            ran, failure = self._child.run(left)
            results += ran
            if failure is None:
                break
            results.append(packed(failure))
            self._child = None
        return results


_worker = Worker()


@define(eq=False)
class _Child:
    """The process that runs fragments, as Parsl's worker sees it.

    Attributes
    ----------
    pid
        Of the process, which leads a group of its own.
    connection
        To it.
    known
        Contexts that it has, and the versions that it found for them.
    said
        The last that it printed, once it is dead.
    """

    pid: int
    connection: Connection
    known: dict[str, dict[str, str]] = field(factory=dict, init=False)
    said: str = field(default="", init=False)
    _temporary: str
    _scratch: str | None

    @classmethod
    def started(cls, base: str | None) -> _Child:
        """Fork: what Parsl's worker has imported need not be imported again, and it computes nothing itself."""
        temporary = tempfile.mkdtemp(prefix="mbexec-parsl-")
        ours, theirs = Pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                ours.close()
                Runner(theirs, temporary).serve()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        theirs.close()
        return cls(pid, ours, temporary, scratch_of(temporary, base))

    @property
    def lives(self) -> bool:
        """Whether it has not ended while it had nothing to do, when there is nothing to read but an end."""
        return not self.connection.poll()

    def send(self, message: dict[str, Any]) -> None:
        """To a dead process, it is lost."""
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

    def run(self, message: dict[str, Any]) -> tuple[list[bytes], TaskResult | None]:
        """Results of tasks, and what comes of one that ended the process, if any."""
        results: list[bytes] = []
        tasks, timeouts = message["tasks"], message["timeouts"]
        self.send(message)
        began, since = time.time(), time.monotonic()
        while True:
            timeout = timeouts[len(tasks[len(results)][2])] if len(results) < len(tasks) else None
            patience = None if timeout is None else max(0.0, since + timeout - time.monotonic())
            if not self.connection.poll(patience):
                assert timeout is not None
                return results, self._blamed(tasks[len(results)], began, timeout)
            try:
                answer = self.connection.recv_bytes()
            except (EOFError, OSError):
                return results, self._blamed(tasks[len(results)], began, None) if len(results) < len(tasks) else None
            if answer == DONE:
                return results, None
            if answer != RETRY:
                results.append(answer)
                if len(tasks) > _MANY and not self.connection.poll():
                    time.sleep(_REST)  # to wake up for each of many short fragments takes time from them
            began, since = time.time(), time.monotonic()

    def kill(self) -> int:
        """Kill it with all that it started, and remove its files; its exit code."""
        kill_tree(self.pid, os.path.basename(self._temporary))
        _, status = os.waitpid(self.pid, 0)
        self.said = last_words(self._temporary)
        self.connection.close()
        for directory in (self._temporary, self._scratch):
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)
        return os.waitstatus_to_exitcode(status)

    def _blamed(self, task: tuple[Any, ...], began: float, timeout: float | None) -> TaskResult:
        """What comes of the task that the process died over: a failure, random unless it took too long."""
        code = self.kill()
        if timeout is not None:
            error_type = "resource_error"
            what = f"This fragment took longer than task.timeout = {timeout:g} s and was killed."
        else:
            error_type, what = "random_error", f"The process that ran this fragment {ending(code)}."
        if self.said:
            what += f" The last that it printed:\n{self.said}"
        return TaskResult(
            index=task[0],
            error=TaskError(error_type, what),
            started=began,
            ended=time.time(),
            worker=f"{socket.gethostname()}:{self.pid}:{self.pid}",
        )
