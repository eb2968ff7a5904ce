"""The commands about stores: what they show of a file, what they write, and what they take out of it."""

from __future__ import annotations

import csv
import importlib
import json
import os
import re
import sqlite3
import subprocess
import time

import attrs
import numpy as np
import pytest

import mbexec
from mbexec import Task, TaskError, TaskResult
from mbexec.plugins.sqlite import Sqlite
from mbexec.plugins.sqlite.care import Pruning
from tests.commands import BAD_INPUT, COMMAND, DONE, FAILED, mbexec_, process
from tests.stores import asked, fill, keep, locked, made

JOB = """
[molecule]
geometry = "Ar 0 0 0\\n--\\nAr 0 0 4\\n--\\nAr 0 4 0"
[mbe]
max_nbody = 2
bsse_type = "nocp"
[program]
program = "model-potential"
method = "lj"
[run]
executor = "serial"
"""


@pytest.fixture
def jobfile(tmp_path):
    """A job of 6 calculations, and nothing in its store."""
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    return path


@pytest.fixture
def done(jobfile):
    """The store of the job when it has run."""
    assert mbexec_("run", jobfile, "-q").exit_code == DONE
    return jobfile.with_suffix(".store")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "some.store"


def words(text):
    return " ".join(text.split())


def spoil(path, key):
    """Change a row behind its checksum's back."""
    connection = sqlite3.connect(path)
    connection.execute("UPDATE results SET worker = 'elsewhere' WHERE key = ?", (key,))
    connection.commit()
    connection.close()


# Which store


@pytest.mark.parametrize("command", ["ls", "verify"])
def test_a_job_names_its_store(jobfile, done, command):
    """The one beside it; the file itself does as well."""
    by_job, by_file = mbexec_("store", command, jobfile), mbexec_("store", command, done)
    assert by_job.exit_code == DONE
    assert by_job.stdout == by_file.stdout
    assert f"{done}: 6 results" in by_job.stdout


def test_a_job_may_say_where_its_store_is(jobfile, done):
    """Its run.store, from its folder."""
    done.rename(done.with_name("other.store"))
    jobfile.write_text(JOB + 'store = "other.store"\n')
    assert "other.store: 6 results" in mbexec_("store", "ls", jobfile).stdout


def test_a_job_without_a_store(jobfile):
    """There is nothing to look into."""
    jobfile.write_text(JOB + "store = false\n")
    found = mbexec_("store", "ls", jobfile)
    assert found.exit_code == BAD_INPUT
    assert found.stderr == "Error: There is no store to look into: run.store is false; give its path.\n"


def test_a_store_may_be_called_like_a_job(done):
    """What it is counts, not its name."""
    odd = done.rename(done.with_name("odd.json"))
    assert f"{odd}: 6 results" in mbexec_("store", "ls", odd).stdout


commands = importlib.import_module("mbexec.cli.store")  # whose name in the package is the group's
COMMANDS = (["ls"], ["show", "00"], ["export", "out.csv"], ["prune", "--failures", "-y"], ["verify"])


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_store_that_is_not_there(path, command):
    """None is made; an empty file is none."""
    for _ in range(2):
        found = mbexec_("store", command[0], path, *command[1:])
        assert found.exit_code == BAD_INPUT
        assert found.stderr == (
            f"Error: There is no store {path}. A run makes one; give its path, or that of the job.\n"
        )
        path.write_bytes(b"")
    assert path.read_bytes() == b""


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_what_is_no_store(path, tmp_path, command):
    """It stays as it is."""
    path.write_text("buy milk")
    found = mbexec_("store", command[0], path, *command[1:])
    assert found.exit_code == BAD_INPUT
    assert f"Error: The file {path} is no store of mbexec, and is left as it is" in found.stderr
    assert path.read_text() == "buy milk"
    found = mbexec_("store", command[0], tmp_path, *command[1:])
    assert (
        found.stderr
        == f"Error: The store {tmp_path} is no file but a folder or a device; give the store another name.\n"
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_store_that_is_locked(path, command, monkeypatch):
    """By a process that lets nobody read: nothing is done to it, and it is said why."""
    monkeypatch.setattr(commands, "_PATIENCE", 0.01)
    fill(path, 10)
    asked(path, "PRAGMA journal_mode = DELETE")
    with locked(path):
        found = mbexec_("store", command[0], path, *command[1:])
    assert found.exit_code == BAD_INPUT
    assert found.stderr == (
        f"Error: The store {path} can't be used: another process held it locked for more than 0.01 s.\n"
    )
    assert asked(path, "SELECT count(*) FROM results") == [(10,)]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_store_that_is_being_written_to(path, command, monkeypatch):
    """By a run, with the log: whoever wants to read can."""
    monkeypatch.setattr(commands, "_PATIENCE", 0.01)
    _, keys, _ = fill(path, 10)
    with locked(path):
        found = mbexec_("store", command[0], path, *[keys[0] if word == "00" else word for word in command[1:]])
    assert found.exit_code == (BAD_INPUT if command[0] == "prune" else DONE)
    assert asked(path, "SELECT count(*) FROM results") == [(10,)]


@pytest.mark.parametrize("command", COMMANDS[:4], ids=lambda command: command[0])
def test_a_torn_store(path, command):
    """It is neither mended nor changed, and it is said what to do."""
    fill(path, 500)
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(4096 * 3))
    before = path.read_bytes()
    found = mbexec_("store", command[0], path, *command[1:])
    assert found.exit_code == BAD_INPUT
    assert re.match(rf"Error: The store {path} is damaged: .*\. `mbexec store verify` says how much", found.stderr)
    assert path.read_bytes() == before
    assert not path.with_name("out.csv").exists()


@pytest.mark.parametrize("command", COMMANDS[:4], ids=lambda command: command[0])
@pytest.mark.parametrize(("place", "bits"), [(0, b"\0" * 100), (16, b"\xff\xff"), (18, b"\x09\x09")])
def test_a_store_whose_beginning_is_gone(path, command, place, bits):
    """The same."""
    fill(path, 50)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bits)
    found = mbexec_("store", command[0], path, *command[1:])
    assert found.exit_code == BAD_INPUT
    assert re.match(rf"Error: The store {path} is damaged: .*\. `mbexec store verify` says how much", found.stderr)


def test_nothing_is_left_beside_it(done):
    """Neither log nor shared memory."""
    for command in ("ls", "verify"):
        mbexec_("store", command, done)
    assert [each.name for each in done.parent.glob("job.store*")] == ["job.store"]


def test_a_store_that_may_only_be_read(done, monkeypatch):
    """Looking into it takes no right to write."""
    before = done.read_bytes()
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    for command in (["ls"], ["verify"]):
        assert mbexec_("store", *command, done).exit_code == DONE
    assert mbexec_("status", done.with_suffix(".toml")).exit_code == DONE
    assert done.read_bytes() == before
    assert [each.name for each in done.parent.glob("job.store*")] == ["job.store"]


# ls


def test_ls_counts_by_model_chemistry_and_order(path):
    """Results, failures, time and dates."""
    tasks, keys, results = made(10)
    tasks = [attrs.evolve(task, mc="high" if task.index < 3 else "low") for task in tasks]
    tasks[0] = Task(0, "high", (1,), (1,))
    results = [
        attrs.evolve(result, started=1e9, ended=1e9 + 60 * 86400 * (i == 9) + i) for i, result in enumerate(results)
    ]
    with Sqlite(path) as store:
        keep(store, tasks, keys, results)
    lines = [line.split() for line in mbexec_("store", "ls", path).stdout.splitlines()]
    assert ["high", "1", "1", "0", "0.00", "s", "2001-09-09", "2001-09-09"] in lines
    assert ["high", "2", "2", "0", "3.00", "s", "2001-09-09", "2001-09-09"] in lines
    assert ["low", "2", "7", "2", f"{42 + 60 * 86400:.2f}", "s", "2001-09-09", "2001-11-08"] in lines
    assert lines[-1] == [f"{path}:", "10", "results,", f"{path.stat().st_size / 1024:.1f}", "KiB"]


def test_ls_of_an_empty_store(path):
    """Says so."""
    fill(path, 0)
    assert re.fullmatch(rf"{path}: 0 results, [\d.]+ KiB\n", mbexec_("store", "ls", path).stdout)


def test_ls_by_fragment(path):
    """A line each, with what a key begins with, and energies."""
    tasks, keys, results = fill(path, 10)
    shown = mbexec_("store", "ls", path, "--fragments").stdout
    for task, key, result in zip(tasks, keys, results, strict=True):
        ending = f"{result.values['energy']:.10f}" if result.error is None else ""
        told = "done" if result.error is None else "convergence_error"
        assert f"{task.label} {key[:10]} {told} {result.wall_time:.2f} s {ending}".rstrip() in words(shown)


def test_ls_by_fragment_is_limited(path):
    """What is not shown is counted."""
    tasks, _, _ = fill(path, 10)
    shown = mbexec_("store", "ls", path, "--fragments", "--limit", 4).stdout
    assert [task.label in shown for task in tasks] == [True] * 4 + [False] * 6
    assert "... and 6 more; --limit N shows more, `mbexec store export` writes all.\n" in shown


def test_ls_tells_damaged_rows(path):
    """It shows none of their numbers."""
    tasks, keys, results = fill(path, 3)
    spoil(path, keys[1])
    shown = mbexec_("store", "ls", path, "--fragments").stdout
    assert f"{tasks[1].label} {keys[1][:10]} damaged" in words(shown)
    assert f"{results[1].values['energy']:.10f}" not in shown


def test_a_damaged_row_may_have_no_label(path):
    """It is shown by its key."""
    _, keys, _ = fill(path, 3)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE results SET frag = '[1, ' WHERE key = ?", (keys[1],))
    connection.commit()
    connection.close()
    assert f"{keys[1][:10]} damaged" in words(mbexec_("store", "ls", path, "--fragments").stdout)


def on_a_terminal_of_80(*given):
    """A command whose standard output is a terminal of 80 columns: exit code and what was shown."""
    ours, theirs = os.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen([*COMMAND, *map(str, given)], stdout=theirs, env=variables) as running:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 4096):
                seen += chunk
        except OSError:  # how a terminal ends on Linux
            pass
        os.close(ours)
    return running.returncode, re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).decode()


def test_ls_fits_a_terminal(path):
    """Of 80 columns; keys and energies are whole."""
    _, keys, results = fill(path, 3)
    code, shown = on_a_terminal_of_80("store", "ls", path, "--fragments")
    assert code == DONE
    assert keys[0][:10] in shown
    assert f"{results[0].values['energy']:.10f}" in shown
    code, shown = on_a_terminal_of_80("store", "ls", path)
    assert "2023-11-14   2023-11-14" in shown


# show


def test_show_tells_everything(path):
    """Times, worker, and each number to its last bit or twelfth decimal, with its unit."""
    gradient, dipole = np.array([[0.1, 0.2, 0.3], [-0.1, -0.2, -0.3]]), np.array([0.0, 0.5, 1.0])
    values = {"energy": -1 / 3, "gradient": gradient, "hessian": np.eye(6), "scf_dipole_moment": dipole}
    values["scf_total_energy"] = -0.25
    result = TaskResult(0, values, None, 1.7e9, 1.7e9 + 1.5, 0.75, "here:1:2", notes=("a note",), output="said", step=2)
    with Sqlite(path) as store:
        store.keep_result(Task(0, "high", (2,), (1, 2)), "3f9a", result)
    shown = mbexec_("store", "show", path, '["high", [2], [1, 2]]').stdout
    told = dict(re.findall(r"^(\w[-\w ]*?) {2,}(.*)$", shown, re.MULTILINE))
    assert told["label"] == '["high", [2], [1, 2]]'
    assert (told["key"], told["n-body"], told["result"], told["step"]) == ("3f9a", "1", "done", "2")
    assert (told["wall time"], told["cpu time"], told["worker"]) == ("1.500000 s", "0.750000 s", "here:1:2")
    assert told["started"].startswith("2023-11-1")
    assert (told["note"], told["body"]) == ("a note", "-")
    assert f"energy     {-1 / 3!r} E_h\n" in shown
    assert "scf_total_energy -0.25 E_h\n" in shown
    assert "gradient / E_h/a0\n     0.100000000000      0.200000000000      0.300000000000\n    -0.1" in shown
    assert "hessian / E_h/a0^2\n     1.000000000000      0.000000000000" in shown
    assert "scf_dipole_moment / e a0\n     0.000000000000      0.500000000000      1.000000000000\n" in shown
    assert shown.endswith("\noutput\nsaid\n")


def test_show_tells_what_went_wrong(path):
    """The whole message, but nothing that a terminal would obey."""
    with Sqlite(path) as store:
        store.keep_result(
            Task(0, "(auto)", (1,), (1,)), "3f9a", TaskResult(0, error=TaskError("unknown_error", "a\nb\x1b[2Jc"))
        )
    shown = mbexec_("store", "show", path, "3f").stdout
    assert "result     unknown_error\n" in shown
    assert shown.endswith("\nerror message\na\nb\N{REPLACEMENT CHARACTER}[2Jc\n")


def test_show_takes_a_job_and_a_label_however_it_is_spaced(jobfile, done):
    """Labels are JSON."""
    shown = mbexec_("store", "show", jobfile, '["(auto)",[1,2],[1,2]]').stdout
    energy = mbexec.run(jobfile).contributions["nocp"][1, 2]
    assert f"energy     {energy!r} E_h\n" in shown


@pytest.mark.parametrize("name", ["zz", '["(auto)", [1]]', '"(auto)"', '["(auto)", 1, 2]'])
def test_show_refuses_what_is_no_name(done, name):
    """It says what names look like."""
    found = mbexec_("store", "show", done, name)
    assert found.exit_code == BAD_INPUT
    assert f"Error: {name!r} is neither a label, such as" in found.stderr


@pytest.mark.parametrize("name", ["00ff00ff", '["(auto)", [7], [7]]'])
def test_show_what_is_not_there(done, name):
    """It says how to find what is."""
    assert mbexec_("store", "show", done, name).stderr == (
        f"Error: The store {done} has no result {name!r}; `mbexec store ls --fragments` lists them.\n"
    )


@pytest.mark.parametrize(("count", "rest"), [(2, ""), (11, ", ...")])
def test_show_wants_one(path, count, rest):
    """Several of one label are told apart by their keys."""
    keys = [f"{i:x}0123456789" for i in range(count)]
    with Sqlite(path) as store:
        for key in keys:
            store.keep_result(Task(0, "(auto)", (1,), (1,)), key, TaskResult(0, {"energy": 1.0}))
    found = mbexec_("store", "show", path, '["(auto)", [1], [1]]')
    assert found.exit_code == BAD_INPUT
    shown = ", ".join(key[:10] for key in keys[:10])
    assert found.stderr.endswith(f"; name one by its key: {shown}{rest}.\n")


def test_show_of_a_damaged_result(path):
    """No number of it is shown."""
    _, keys, _ = fill(path, 1)
    spoil(path, keys[0])
    found = mbexec_("store", "show", path, keys[0])
    assert (found.exit_code, found.stdout) == (BAD_INPUT, "")
    assert found.stderr == (
        f"Error: The result {keys[0]} is damaged, and counts for nothing; the next run computes it again.\n"
    )


def test_show_the_body(jobfile):
    """The AtomicResult as JSON and nothing else."""
    mbexec_("run", jobfile, "-q", "--set", "plugin.sqlite.bodies=true")
    found = mbexec_("store", "show", jobfile, '["(auto)", [1, 2], [1, 2]]', "--body")
    body = json.loads(found.stdout)
    assert body["return_result"] == mbexec.run(jobfile).contributions["nocp"][1, 2]
    assert "KiB; --body prints it" in mbexec_("store", "show", jobfile, '["(auto)", [1, 2], [1, 2]]').stdout


def test_show_a_body_that_was_not_kept(done):
    """It says what keeps it."""
    found = mbexec_("store", "show", done, '["(auto)", [1], [1]]', "--body")
    assert found.exit_code == BAD_INPUT
    assert re.fullmatch(
        r"Error: The result \w+ has no body; only runs with plugin\.sqlite\.bodies = true keep them\.\n", found.stderr
    )


# export


def test_export_as_lines_of_json(path, tmp_path):
    """QCSchema's names; numbers to the last bit; bodies where there are some."""
    tasks, keys, results = made(5)
    results[0] = attrs.evolve(results[0], body=b'{"success": true}', notes=("a note",), output="said")
    with Sqlite(path) as store:
        keep(store, tasks, keys, results)
    done = mbexec_("store", "export", path, "out.jsonl")
    assert (done.exit_code, done.stdout) == (DONE, "5 results written to out.jsonl.\n")
    entries = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    for entry, task, key, result in zip(entries, tasks, keys, results, strict=True):
        assert (entry["label"], entry["key"], entry["nbody"]) == (task.label, key, 2)
        assert (entry["mc"], entry["frag"], entry["bas"]) == (task.mc, list(task.frag), list(task.bas))
        assert (entry["cpu_time"], entry["worker"], entry["step"]) == (0.25, "here:1:2", 0)
        assert entry["wall_time"] == result.ended - result.started
        assert entry["success"] == (result.error is None)
    assert entries[0]["properties"] == {
        "return_energy": results[0].values["energy"],
        "return_gradient": results[0].values["gradient"].tolist(),
    }
    assert entries[4]["error"] == {"error_type": "convergence_error", "error_message": "no luck\n" * 3}
    assert (entries[0]["body"], entries[0]["notes"], entries[0]["output"]) == ({"success": True}, ["a note"], "said")
    assert "body" not in entries[1]
    assert entries[1]["started"] == "2023-11-14T22:13:21.000+00:00"


def test_export_as_a_table(path, tmp_path):
    """Energies to the last bit; messages with line ends in them are one cell."""
    tasks, keys, results = fill(path, 5)
    mbexec_("store", "export", path, "out.CSV")
    with (tmp_path / "out.CSV").open(newline="") as file:
        entries = list(csv.DictReader(file))
    assert [entry["label"] for entry in entries] == [task.label for task in tasks]
    assert [entry["key"] for entry in entries] == keys
    assert [float(entry["energy"]) for entry in entries[:4]] == [each.values["energy"] for each in results[:4]]
    assert (entries[4]["energy"], entries[4]["error_message"]) == ("", "no luck\n" * 3)
    assert entries[0]["ended"].startswith("2023-11-14T22:13:2")


def test_export_replaces_nothing_unasked(done, tmp_path):
    """Only with --force."""
    (tmp_path / "out.csv").write_text("mine")
    found = mbexec_("store", "export", done, "out.csv")
    assert found.exit_code == BAD_INPUT
    assert "'out.csv' is there already; give another name, or --force." in found.stderr
    assert (tmp_path / "out.csv").read_text() == "mine"
    assert mbexec_("store", "export", done, "out.csv", "--force").exit_code == DONE
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 7


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("out.txt", "'out.txt' must end in .jsonl or .csv."),
        ("no/out.csv", "the folder of 'no/out.csv' does not exist."),
    ],
)
def test_export_to_where_it_can_not(done, name, problem):
    """It says why before anything is read."""
    found = mbexec_("store", "export", done, name)
    assert found.exit_code == BAD_INPUT
    assert f"Invalid value for FILE: {problem}" in words(found.stderr)


def test_export_leaves_out_what_is_damaged(path, tmp_path):
    """It says how many, and the exit code tells."""
    _, keys, _ = fill(path, 5)
    spoil(path, keys[2])
    found = mbexec_("store", "export", path, "out.csv")
    assert found.exit_code == FAILED
    assert found.stdout == "4 results written to out.csv.\n"
    assert found.stderr == "Left out: 1 that are damaged.\n"
    assert keys[2] not in (tmp_path / "out.csv").read_text()


# prune


def left(path):
    return {key for (key,) in asked(path, "SELECT key FROM results")}


def test_prune_failures(path):
    """Nothing else goes, and the file gets smaller."""
    _, keys, _ = fill(path, 1000)
    before = path.stat().st_size
    found = mbexec_("store", "prune", path, "--failures", "--yes")
    assert found.exit_code == DONE
    size = path.stat().st_size
    assert found.stdout == f"200 results removed; {path} has {size / 1024:.1f} KiB now.\n"
    assert left(path) == {key for index, key in enumerate(keys) if index % 5 != 4}
    assert size < before
    assert asked(path, "PRAGMA integrity_check") == [("ok",)]


def test_prune_what_is_old(path):
    """By days since it ended; together with another option only what both speak of goes."""
    tasks, keys, results = made(10)
    now = time.time()
    results = [attrs.evolve(each, ended=now - 86400 * index - 3600) for index, each in enumerate(results)]
    with Sqlite(path) as store:
        keep(store, tasks, keys, results)
    mbexec_("store", "prune", path, "--older-than", 3, "--failures", "-y")
    assert left(path) == set(keys) - {keys[4], keys[9]}
    mbexec_("store", "prune", path, "--older-than", 3, "-y")
    assert left(path) == set(keys[:3])


def test_prune_what_a_job_does_not_need(jobfile, done):
    """What it asks for stays, of each job named; the next run of those finds everything."""
    other = jobfile.with_name("other.toml")
    other.write_text(JOB.replace("4 0", "5 0"))
    mbexec_("run", other, "-q", "--store", done)
    mbexec_("run", jobfile, "-q", "--set", "program.method=lj-atm")
    assert len(left(done)) == 6 + 3 + 6
    assert mbexec_("store", "prune", done, "--not-needed-by", jobfile, "--not-needed-by", other, "-y").exit_code == DONE
    assert len(left(done)) == 6 + 3
    assert mbexec_("store", "prune", jobfile, "--not-needed-by", jobfile, "-y").exit_code == DONE
    assert len(left(done)) == 6
    assert "0 fragment calculations run, 6 known before" in mbexec_("run", jobfile, "-q").stdout


def test_what_answers_a_job_stays(jobfile, done):
    """Gradients answer a job of energies, and failures are what came of all that may be tried."""
    done.unlink()
    mbexec_("run", jobfile, "-q", "--set", "mbe.driver=gradient", "--set", "mbe.return_total_data=false")
    count = len(left(done))
    assert "There is nothing to remove." in mbexec_("store", "prune", done, "--not-needed-by", jobfile).stdout
    assert len(left(done)) == count
    mbexec_("store", "prune", done, "--not-needed-by", jobfile, "-y")
    other = ("--set", "mbe.driver=gradient")
    assert mbexec_("status", jobfile, *other).exit_code == DONE


@pytest.mark.parametrize(("answer", "rows", "code"), [("y\n", 8, DONE), ("n\n", 10, FAILED), ("", 10, FAILED)])
def test_prune_asks(path, answer, rows, code):
    """It says what it would remove; without an answer nothing goes."""
    fill(path, 10)
    done = process("store", "prune", path, "--failures", input=answer)
    assert done.returncode == code
    assert done.stdout.startswith(f"Remove 2 results, 2 of them failures, from {path}? [y/N]: ")
    assert len(left(path)) == rows


def test_prune_wants_to_be_told_what(path):
    """Without an option nothing is removed."""
    fill(path, 5)
    found = mbexec_("store", "prune", path, "-y")
    assert found.exit_code == BAD_INPUT
    assert "Say what to remove: --failures, --older-than DAYS or --not-needed-by JOB." in found.stderr
    assert len(left(path)) == 5


def test_nothing_to_prune(done):
    """It doesn't ask."""
    found = mbexec_("store", "prune", done, "--failures")
    assert (found.exit_code, found.stdout) == (DONE, "There is nothing to remove.\n")


def test_a_store_that_can_not_be_made_smaller(path, monkeypatch):
    """The results go all the same, and it is said why the room stays."""
    monkeypatch.setattr(commands, "_PATIENCE", 0.01)
    fill(path, 10)
    reader = sqlite3.connect(path, isolation_level=None)
    remove = Pruning.remove

    def then_read(self):
        found = remove(self)
        reader.execute("BEGIN IMMEDIATE")
        return found

    monkeypatch.setattr(Pruning, "remove", then_read)
    found = mbexec_("store", "prune", path, "--failures", "-y")
    reader.close()
    assert found.exit_code == DONE
    assert found.stdout.startswith("2 results removed; ")
    assert found.stderr == "It was not made smaller: another process held it locked for more than 0.01 s.\n"
    assert len(left(path)) == 8


# verify


def test_verify_a_good_store(path):
    """Everything is as it was written."""
    fill(path, 10)
    found = mbexec_("store", "verify", path)
    assert (found.exit_code, found.stdout) == (DONE, f"{path}: 10 results as written.\n")


def test_verify_finds_damaged_rows(path):
    """By their checksums; the first are named."""
    _, keys, _ = fill(path, 30)
    for key in keys[:12]:
        spoil(path, key)
    found = mbexec_("store", "verify", path)
    assert found.exit_code == FAILED
    assert re.findall(r"^Damaged: (\w+)$", found.stdout, re.MULTILINE) == keys[:10]
    assert found.stdout.endswith(
        f"... and 2 more.\n{path}: 18 results as written, 12 damaged.\n"
        "Runs that need what is damaged compute it again.\n"
    )


def test_verify_shows_no_damage_that_a_terminal_would_obey(path):
    """Keys may be damaged too."""
    _, keys, _ = fill(path, 3)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE results SET key = char(27) || '[2J' WHERE key = ?", (keys[1],))
    connection.commit()
    connection.close()
    assert "Damaged: \N{REPLACEMENT CHARACTER}[2J\n" in mbexec_("store", "verify", path).stdout


def test_verify_counts_what_can_be_saved_of_a_torn_store(path):
    """As many as the next run finds."""
    tasks, keys, _ = fill(path, 500)
    with path.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(os.urandom(4096 * 4))
    before = path.read_bytes()
    found = mbexec_("store", "verify", path)
    assert found.exit_code == FAILED
    assert found.stdout.startswith("SQLite: ")
    assert path.read_bytes() == before
    count = int(re.search(r": (\d+) results as written\.\n", found.stdout)[1])
    assert 0 < count < 500
    assert found.stdout.endswith("The next run saves what can be read in a new file, and sets this one aside.\n")
    with Sqlite(path) as store:
        assert len(store.recall_results(tasks, keys)) == count


@pytest.mark.parametrize(("place", "bits"), [(0, b"\0" * 100), (16, b"\xff\xff"), (18, b"\x09\x09")])
def test_verify_a_store_whose_beginning_is_gone(path, place, bits):
    """Rows are found without it."""
    fill(path, 50)
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bits)
    before = path.read_bytes()
    found = mbexec_("store", "verify", path)
    assert found.exit_code == FAILED
    assert found.stdout.startswith("SQLite: ")
    assert f"{path}: 50 results as written.\n" in found.stdout
    assert path.read_bytes() == before


# What a job needs


def test_status_leaves_a_damaged_store_as_it_is(jobfile, done):
    """Nothing runs, so nothing is mended; it says what does."""
    done.write_bytes(done.read_bytes()[:4096] + os.urandom(4096 * 3))
    before = done.read_bytes()
    found = mbexec_("status", jobfile)
    assert found.exit_code == BAD_INPUT
    assert f"The store {done} is damaged" in found.stderr
    assert not list(done.parent.glob("*.damaged*"))
    assert done.read_bytes() == before


def test_a_run_may_take_results_and_keep_none(jobfile, done):
    """A store that others have made: what is not there runs, and the file stays as it is."""
    before = done.read_bytes()
    jobfile.write_text(JOB.replace("max_nbody = 2", "max_nbody = 3") + "[plugin.sqlite]\nread_only = true\n")
    found = mbexec_("run", jobfile)
    assert f"Store {done.name}: 6 results, read only" in found.stderr
    assert found.exit_code == DONE
    assert done.read_bytes() == before
    done.unlink()
    assert f"There is no store {done}." in mbexec_("run", jobfile).stderr


def test_status_counts_what_alternatives_gave(tmp_path):
    """The executor of the job has them, so its keys know of them."""
    text = JOB.replace('"serial"', '"asyncio"') + (
        '[plugin.asyncio]\nmerge = "first_success"\nalternatives = [{method = "lj-atm"}]\n'
    )
    path = tmp_path / "job.toml"
    path.write_text(text.replace("Ar 0 4 0", "U 0 4 0"))
    assert mbexec_("run", path, "-q").exit_code == FAILED
    shown = mbexec_("status", path).stdout
    assert re.search(r"all +6 +3 +3 +0\b", shown)
