"""Jobs on the command line, in processes that may be killed, whose fragments are counted."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import chdir, closing, suppress
from inspect import signature
from pathlib import Path

import psutil
from attrs import define, field
from click.testing import CliRunner

from mbexec.cli import main
from mbexec.reports import list_runs, read_record
from tests.commands import COMMAND
from tests.systems import argon

MARK = "RESTARTS_OF"
PATIENCE = 120  # s; on a busy machine
JOB = '''
[molecule]
geometry = """
{geometry}
"""
[mbe]
bsse_type = {bsse}
max_nbody = {max_nbody}
driver = "{driver}"
[program]
{program}
[run]
workers = 2
reporters = ["progress", "ledger"]
{run}
'''
COUNTED = 'program = "counted"\nmethod = "lj-atm"'
PROGRAM = """
    import json
    import os
    import random
    import time

    from mbexec.core.potential import ModelPotential

    class DidNotConverge(Exception):
        error_type = "convergence_error"

    def place(name):
        return name[name.rindex("(") + 1 : -1]

    def note(what, name):
        with open(os.environ["NOTES"], "a") as notes:
            notes.write(f"{what};{time.time()};{place(name)}\\n")

    def begun(name):
        with open(os.environ["NOTES"]) as notes:
            lines = [line.split(";") for line in notes.read().splitlines()]
        return sum(what == "began" and where == place(name) for what, _, where in lines)

    class Counted(ModelPotential):
        \"\"\"The model potential, which notes what it computes, and is as MOOD says.

        No keyword says so: runs in any mood are the same to a store.
        \"\"\"

        name = "counted"

        def compute(self, input_data, config):
            mood = json.loads(os.environ["MOOD"])
            given = input_data.specification
            name = input_data.molecule.name
            frag = place(name).split("],")[0] + "]"
            note("began", name)
            time.sleep(mood.get("pause", 0.0))
            if frag in mood.get("stubborn", []) and "damping" not in given.keywords:
                raise DidNotConverge(f"{frag} needs damping.")
            if frag in mood.get("broken", []) or begun(name) > mood.get("most", 1_000_000):
                raise ValueError(f"{frag} is broken.")
            keywords = {key: value for key, value in given.keywords.items() if key != "damping"}
            change = {"keywords": keywords, "model": given.model.model_copy(update={"basis": None})}
            plain = input_data.model_copy(update={"specification": given.model_copy(update=change)})
            found = super().compute(plain, config)
            energy = found.properties.return_energy + mood.get("noise", 0.0) * random.random()
            energy += mood.get("shift", 0.0) if frag in mood.get("shifted", [frag]) else 0.0
            properties = found.properties.model_copy(update={"return_energy": energy})
            answer = energy if given.driver == "energy" else found.return_result
            note("ended", name)
            return found.model_copy(
                update={"input_data": input_data, "properties": properties, "return_result": answer}
            )
"""
REPORTER = """
    import os
    import signal
    import time

    from mbexec import FragmentDone, RunStarted, hookimpl

    class Ledger:
        \"\"\"Notes each result that was taken, which is after it was kept; dies where DIE says.\"\"\"

        def __init__(self):
            self.seen = {"reused": 0, "new": 0}
            self.die = os.environ.get("DIE")

        @hookimpl
        def report_metrics(self, event):
            if isinstance(event, RunStarted):
                self.at("started")
            elif isinstance(event, FragmentDone):
                kind = "reused" if event.reused else "new"
                with open(os.environ["LEDGER"], "a") as ledger:
                    task = event.task
                    ledger.write(f"{kind};{event.result.ended};{time.time()};{list(task.frag)};{list(task.bas)}\\n")
                self.seen[kind] += 1
                self.at(f"{kind} {self.seen[kind]}")

        def at(self, place):
            if place == self.die:
                os.kill(os.getpid(), signal.SIGKILL)
"""


def install_all(install):
    """Install the program and the reporter; what is to be on the path for them."""
    program = install("counted-program", {"counted": "Counted"}, source=PROGRAM, group="mbexec.programs")
    return [program, install("ledger-reporter", {"ledger": "Ledger"}, source=REPORTER)]


def processes(mark):
    """Those that were started, by whomever, for what has the mark, and still run."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def soon(condition):
    """Whether it becomes true."""
    end = time.monotonic() + PATIENCE
    while not (true := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return true


def _lines(path):
    """Whole lines of a file, split."""
    return [line.split(";") for line in path.read_text().splitlines()] if path.exists() else []


def _fragment(told):
    """Fragments and basis, as stores write them, from a molecule's name: 0-based fragments, then ghosts."""
    frag, ghosts = json.loads(f"[{told}]")
    return str([i + 1 for i in frag]), str(sorted(i + 1 for i in frag + ghosts))


@define
class Job:
    """A job file in a folder of its own, and what became of its fragments.

    Attributes
    ----------
    folder
        Where job and store are.
    sites
        To be on the path.
    """

    folder: Path
    sites: list[Path]
    count: int = field(default=0, init=False)

    def __attrs_post_init__(self):
        self.temporary.mkdir(parents=True)

    @property
    def temporary(self):
        return self.folder / "tmp"

    @property
    def store(self):
        return self.folder / "job.store"

    @property
    def output(self):
        return self.folder / "result.json"

    def write(self, nfr=4, **given):
        """Write the job file: argon atoms unless a `geometry` is given; `program` and `run` are lines of its tables."""
        asked = {"geometry": argon(nfr), "max_nbody": 2, "driver": "energy", "program": COUNTED, "run": "", **given}
        asked["bsse"] = json.dumps(given.get("bsse", "nocp"))
        (self.folder / "job.toml").write_text(JOB.format(**asked))

    def environ(self, die="", **mood):
        """What a run of the job is given."""
        told = {"NOTES": self.folder / "notes", "LEDGER": self.folder / "ledger", "MOOD": json.dumps(mood), "DIE": die}
        told |= {MARK: self.folder, "TMPDIR": self.temporary, "PYTHONPATH": os.pathsep.join(map(str, self.sites))}
        return {name: str(value) for name, value in told.items()}

    def words(self, command, *words):
        """Of the command line."""
        output = ["-o", "result.json"] if command == "run" else []
        return [command, "job.toml", *output, *map(str, words)]

    def start(self, *words, **mood):
        """Start the command line on the job, as the leader of a session."""
        self.count += 1
        with self.said("out").open("w") as out, self.said("err").open("w") as err:
            settings = {"cwd": self.folder, "stdout": out, "stderr": err, "start_new_session": True}
            environ = {**os.environ, **self.environ(**mood)}
            return subprocess.Popen([*COMMAND, *self.words(*words)], env=environ, **settings)

    def call(self, *words, **mood):
        """Run the command line on the job in this process; exit code, and what it says on its two streams."""
        separate = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
        environ = {name: value for name, value in self.environ(**mood).items() if name != "PYTHONPATH"}
        with chdir(self.folder):
            done = CliRunner(**separate).invoke(main, self.words(*words), env=environ)
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return done.exit_code, done.stdout, done.stderr

    def status(self, *words):
        """What ``mbexec status`` says: exit code, and by level calculations, done, failed, to do. Nothing may run."""
        before = self.begun()
        code, out, errors = self.call("status", *words)
        assert errors == ""
        assert self.begun() == before
        rows = [line.split() for line in out.splitlines() if re.fullmatch(r"\s+(\d|all)(\s+\d+){4}\s*", line)]
        return code, {row[0]: tuple(map(int, row[1:])) for row in rows}

    def said(self, stream):
        """The file with what the last command says."""
        return self.folder / f"{self.count}.{stream}"

    def notes(self, what="began"):
        """Fragments that the program began, or ended, in order, and when."""
        return [(_fragment(told), float(when)) for kind, when, told in _lines(self.folder / "notes") if kind == what]

    def begun(self):
        """How many fragments were begun in all."""
        path = self.folder / "notes"
        return path.read_bytes().count(b"began") if path.exists() else 0

    def counts(self, since=0):
        """How often each fragment was begun, after so many others."""
        return Counter(fragment for fragment, _ in self.notes()[since:])

    def ledger(self):
        """Of each result that was computed and taken: fragment, when it ended, and when it had been kept."""
        lines = [line for line in _lines(self.folder / "ledger") if line[0] == "new"]
        return [((frag, bas), float(ended), float(kept)) for _, ended, kept, frag, bas in lines]

    def kept(self):
        """Fragments with a result in the store; the store's files are left as they are."""
        if not self.store.exists():
            return set()
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            for path in self.folder.glob("job.store*"):
                if not path.name.endswith("-shm"):
                    shutil.copy(path, place)
            with closing(sqlite3.connect(Path(place, "job.store"))) as connection:
                if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'results'").fetchone():
                    return set()
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                return set(connection.execute("SELECT frag, bas FROM results WHERE error_type IS NULL"))

    def recorded(self):
        """How many fragments the record of the last run has a result of; none if it was killed before it had a line."""
        path = self.folder / "job.jsonl"
        runs = list_runs(path) if path.exists() else []
        return sum(line["error"] is None for line in read_record(path).fragments) if runs else 0

    def litter(self):
        """Files that no ended run should have left; a result that was being written when it was killed may be."""
        ours = {"job.toml", "job.store", "job.jsonl", "result.json", "notes", "ledger", "tmp"}
        ours |= {f"{i}.{stream}" for i in range(self.count + 1) for stream in ("out", "err")}
        found = {path.name for path in self.folder.iterdir()} - ours
        return {name for name in found if not re.fullmatch(r"\.result\.json\.\d+\.partial", name)}


def kill(process, way):
    """End a run, with SIGKILL, and wait until the process is gone; whether it was this that ended it.

    The ways are "parent": the process alone; "group": its whole process group; "draining": the process, a moment after
    it was told to stop.
    """
    if way == "draining":
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        time.sleep(random.uniform(0, 0.02))
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL) if way == "group" else process.kill()
    return process.wait() == -signal.SIGKILL
