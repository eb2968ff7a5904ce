"""Executors that the conformance kit is tried on: good ones, and for each rule some that break it and nothing else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import wait as wait_for_connections

import attrs
import numpy as np
import psutil

from mbexec import TaskError, TaskResult, hookimpl, run_chunk

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["mbexec", "qcelemental.models.v2"])


class Serial:
    """Good, and the start of many bad ones: results pass through `changed`."""

    max_workers = 1

    def changed(self, result, work):
        return [result]

    @hookimpl
    def submit_level(self, level, work):
        for task in level:
            yield from self.changed(work(task), work)


class Pool:
    """Good, and the start of those that are bad with threads."""

    window = 2

    def size(self, work):
        return work.workers

    def stop(self, pool):
        pool.shutdown(cancel_futures=True)

    @hookimpl
    def submit_level(self, level, work):
        pool, running = ThreadPoolExecutor(self.size(work)), set()
        try:
            while True:
                more = islice(level, self.window * work.workers - len(running))
                running.update(pool.submit(work, task) for task in more)
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        finally:
            self.stop(pool)


def _work(connection, key, task, blob):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection.send(run_chunk(key, [task], blob)[0])


class OneEach:
    """Good, slow and able: each task in a process of its own, which is killed when its time is up."""

    isolates_processes = can_kill = survives_worker_death = True

    def start(self, task, work):
        here, there = _processes.Pipe(duplex=False)
        process = _processes.Process(target=_work, args=(there, work.key, task, work.blob))
        process.start()
        there.close()
        timeout = work.settings(task).timeout
        return here, (process, task, None if timeout is None else time.monotonic() + timeout)

    def kill(self, process):
        with suppress(psutil.NoSuchProcess):
            for each in psutil.Process(process.pid).children(recursive=True):
                each.kill()
        process.kill()
        process.join()

    def result(self, connection, task):
        try:
            return connection.recv()
        except EOFError:
            return TaskResult(task.index, error=TaskError("unknown_error", "its worker died"))

    @hookimpl
    def submit_level(self, level, work):
        running = {}
        try:
            while True:
                running.update(self.start(task, work) for task in islice(level, work.workers - len(running)))
                if not running:
                    return
                for connection in wait_for_connections(running, timeout=0.1):
                    process, task, _ = running.pop(connection)
                    yield self.result(connection, task)
                    process.join()
                for connection in self.overdue(running):
                    process, task, _ = running.pop(connection)
                    self.kill(process)
                    yield TaskResult(task.index, error=TaskError("resource_error", "its time was up"))
        finally:
            for process, _, _ in running.values():
                self.kill(process)

    def overdue(self, running):
        now = time.monotonic()
        return [c for c, (_, _, end) in running.items() if end is not None and now > end]


# What it says of itself


class Vague(Serial):
    can_kill = "perhaps"


class Idle(Serial):
    max_workers = 0


class Boastful(Serial):
    can_kill = True


class InsideAfterAll(Serial):
    isolates_processes = True


class Secretive(OneEach):
    isolates_processes = can_kill = survives_worker_death = False


# Results


class Twice(Serial):
    def changed(self, result, work):
        return [result, result]


class Forgetful(Serial):
    def changed(self, result, work):
        return [result] if result.index % 7 else []


class Strange(Serial):
    def changed(self, result, work):
        return [attrs.evolve(result, index=result.index + 1000)]


class Nothing(Serial):
    def changed(self, result, work):
        return [None]


class Swapping(Serial):
    @hookimpl
    def submit_level(self, level, work):
        while tasks := list(islice(level, 2)):
            for task, other in zip(tasks, reversed(tasks), strict=True):
                yield attrs.evolve(work(task), index=other.index)


class Rounding(Pool):
    """Only with many workers."""

    @hookimpl
    def submit_level(self, level, work):
        for task in level:
            result = work(task)
            if work.workers == 8 and "gradient" in result.values:
                rounded = np.asarray(result.values["gradient"], dtype=np.float32).astype(np.float64)
                result = attrs.evolve(result, values={**result.values, "gradient": rounded})
            yield result


# Failures


class Nervous(Serial):
    def changed(self, result, work):
        if result.error is not None:
            raise RuntimeError(result.error.error_message)
        return [result]


class InOwnWords(Serial):
    def changed(self, result, work):
        return [result if result.error is None else attrs.evolve(result, error=TaskError("unknown_error", "oh"))]


class GivesUp(Serial):
    @hookimpl
    def submit_level(self, level, work):
        for task in level:
            result = work(task)
            yield result
            if result.error is not None:
                return


# Levels


class Presuming(Serial):
    @hookimpl
    def submit_level(self, level, work):
        yield work(next(level))
        for task in level:
            yield work(task)


class Counting(Serial):
    """Takes a level's length for a promise."""

    @hookimpl
    def submit_level(self, level, work):
        for _ in range(len(level)):
            yield work(next(level))


class Expecting(Serial):
    """Waits for as many results as there were to be tasks."""

    @hookimpl
    def submit_level(self, level, work):
        missing = len(level)
        for task in level:
            yield work(task)
            missing -= 1
        if missing and not level.draining:
            threading.Event().wait()


class Inventive(Serial):
    @hookimpl
    def submit_level(self, level, work):
        yield TaskResult(0)


class Greedy(Serial):
    @hookimpl
    def submit_level(self, level, work):
        yield from map(work, list(level))


class PullsElsewhere(Serial):
    @hookimpl
    def submit_level(self, level, work):
        tasks = []
        thread = threading.Thread(target=lambda: tasks.extend(level))
        thread.start()
        thread.join()
        yield from map(work, tasks)


class Crowded(Pool):
    def size(self, work):
        return 4 * work.workers

    window = 8


class InOrder(Pool):
    @hookimpl
    def submit_level(self, level, work):
        with ThreadPoolExecutor(work.workers) as pool:
            yield from pool.map(work, level)


class InBatches(Pool):
    @hookimpl
    def submit_level(self, level, work):
        with ThreadPoolExecutor(work.workers) as pool:
            while tasks := list(islice(level, 4)):
                yield from list(pool.map(work, tasks))


class Hasty(Pool):
    @hookimpl
    def submit_level(self, level, work):
        pool, running = ThreadPoolExecutor(work.workers), set()
        while True:
            running.update(pool.submit(work, task) for task in islice(level, 4 - len(running)))
            if level.draining or not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


class Stubborn(Pool):
    window = 8

    def stop(self, pool):
        pool.shutdown()


class FirstLast(Serial):
    """Good: begins with the task that it pulls last."""

    @hookimpl
    def submit_level(self, level, work):
        while tasks := list(islice(level, 2)):
            yield from map(work, reversed(tasks))


class Absent(Pool):
    """Leaves what it began to itself."""

    window = 8

    def stop(self, pool):
        pool.shutdown(wait=False)


class Deaf(Serial):
    @hookimpl
    def submit_level(self, level, work):
        for task in level:
            try:
                yield work(task)
            except BaseException:
                yield TaskResult(task.index, error=TaskError("unknown_error", "interrupted"))


class Faithful(Serial):
    """To its first work."""

    first = None

    @hookimpl
    def submit_level(self, level, work):
        self.first = self.first or work
        yield from map(self.first, level)


class OnceOnly(Serial):
    """Whatever instance it is."""

    keys = set()  # noqa: RUF012 - shared by intention

    @hookimpl
    def submit_level(self, level, work):
        if work.key in self.keys:
            raise RuntimeError("This work has been done.")
        self.keys.add(work.key)
        yield from map(work, level)


class Redecorating(Serial):
    """Changes what the process shares: `thing` says what."""

    thing = staticmethod(lambda: None)

    @hookimpl
    def submit_level(self, level, work):
        self.thing()
        yield from map(work, level)


def redecorating(thing):
    return type("Redecorating", (Redecorating,), {"thing": staticmethod(thing)})


# Processes


class Waiting(OneEach):
    """For workers that are dead."""

    def result(self, connection, task):
        try:
            return connection.recv()
        except EOFError:
            threading.Event().wait()


class Indifferent(OneEach):
    """To workers that are dead."""

    def result(self, connection, task):
        try:
            return connection.recv()
        except EOFError:
            return TaskResult(task.index, {"energy": 0.0})


class Unjust(OneEach):
    """Lets the next task pay for a dead worker too, or the first where that was the last."""

    @hookimpl
    def submit_level(self, level, work):
        results = list(super().submit_level(level, work))
        for place, result in enumerate(results):
            guilty = results[place - 1].error is not None
            yield attrs.evolve(result, error=TaskError("unknown_error", "guilt by association")) if guilty else result


class Dropping(OneEach):
    """What a dead worker ran."""

    @hookimpl
    def submit_level(self, level, work):
        yield from (result for result in super().submit_level(level, work) if result.error is None)


class Patient(OneEach):
    """Has no clock, and waits for what runs."""

    def overdue(self, running):
        return []

    def kill(self, process):
        process.join()


class Childless(OneEach):
    """Kills workers and forgets what they started."""

    def kill(self, process):
        process.kill()
        process.join()


class Leisurely(OneEach):
    """Begins a task when its result is asked for, so that nothing runs when it is closed."""

    @hookimpl
    def submit_level(self, level, work):
        for task in level:
            yield from super().submit_level(iter([task]), work)


class Late(OneEach):
    """Gives what it killed a result like any other."""

    @hookimpl
    def submit_level(self, level, work):
        for result in super().submit_level(level, work):
            yield result if result.error is None else TaskResult(result.index, {"energy": 0.0})


class Haunted(Serial):
    """Starts something that outlives the run."""

    @hookimpl
    def submit_level(self, level, work):
        subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(5)"], stdout=subprocess.DEVNULL)
        yield from map(work, level)


def change_environment():
    os.environ["MBEXEC_TESTED"] = "yes"


def change_folder():
    os.chdir("/")


def change_handler():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def change_start_method():
    multiprocessing.set_start_method("spawn", force=True)
