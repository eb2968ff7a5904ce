"""What tests of stores have in common: results as from workers, and a store opened as a run opens it."""

from __future__ import annotations

import hashlib
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager

import attrs
import numpy as np

from mbexec import Task, TaskError, TaskResult
from mbexec.plugins.sqlite import Sqlite

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


def made(count, nat=3):
    """Tasks, their keys, and results of them: every fifth one failed."""
    random = np.random.default_rng(7)
    tasks = [Task(index, "(auto)", (1, index + 2), (1, index + 2)) for index in range(count)]
    keys = [hashlib.blake2b(str(index).encode(), digest_size=20).hexdigest() for index in range(count)]
    results = [_result(index, nat, random) for index in range(count)]
    return tasks, keys, results


def _result(index, nat, random):
    told = {"started": 1.7e9 + index, "ended": 1.7e9 + index + random.random(), "cpu_time": 0.25, "worker": "here:1:2"}
    if index % 5 == 4:
        return TaskResult(index, error=TaskError("convergence_error", "no luck\n" * 3), **told)
    return TaskResult(index, {"energy": random.normal(), "gradient": random.normal(size=(nat, 3))}, **told)


def bits(result):
    """All of a result that counts, to the last bit."""
    values = {name: (np.shape(value), np.asarray(value).tobytes()) for name, value in result.values.items()}
    return values, attrs.astuple(attrs.evolve(result, values={}))


def keep(store, tasks, keys, results):
    for task, key, result in zip(tasks, keys, results, strict=True):
        store.keep_result(task, key, result)


def fill(path, count, **settings):
    """A store with results in it, and those."""
    given = made(count, **settings)
    with Sqlite(path) as store:
        keep(store, *given)
    return given


def check(store, tasks, keys, results):
    """Places of the results that a store gives, each of which is what was kept."""
    found = {result.index: result for result in store.recall_results(tasks, keys)}
    for index, result in found.items():
        assert bits(result) == bits(results[index])
    return set(found)


def events(logs, name):
    return [entry for entry in logs if entry["event"] == name]


def asked(path, query):
    """What a person gets who queries a file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


@contextmanager
def locked(path):
    """Another process has the file locked."""
    command = [sys.executable, "-c", HOLD, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        yield
        process.stdin.close()
        process.wait()
