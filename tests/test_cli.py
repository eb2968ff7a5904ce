"""The command line: what it shows, what it writes, and how it ends."""

import json
import os
import re
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import qcelemental as qcel
from click.testing import CliRunner
from qcelemental.models.v2 import FailedOperation
from qcmanybody.models.v2 import ManyBodyResult

import mbexec
from mbexec import cli, hookimpl
from mbexec.core.manager import installed_plugins
from tests.commands import BAD_INPUT, COMMAND, DONE, FAILED, mbexec_, process, trimer_job
from tests.systems import WATER_TRIMER, argon, job

JOB = trimer_job()


@pytest.fixture
def jobfile(tmp_path):
    path = tmp_path / "job.toml"
    path.write_text(JOB)
    return path


@pytest.fixture
def failing(tmp_path):
    """A job with a fragment that the model potential has no parameters for."""
    path = tmp_path / "failing.toml"
    path.write_text(
        JOB.replace('geometry = """', 'geometry = """\nU 9 9 9\n--').replace("max_nbody = 3", "max_nbody = 1")
    )
    return path


# run


def test_run_shows_the_energies_of_the_result(jobfile):
    """Every n-body energy of every treatment, to the digits shown, in three units."""
    shown = mbexec_("run", jobfile).stdout
    properties = mbexec.run(jobfile).result.properties.model_dump()
    energies = {key: value for key, value in properties.items() if re.search(r"energy_through|body_contribution", key)}
    assert len(energies) == 3 * (3 + 3 + 2)
    for key, energy in energies.items():
        if not key.endswith("interaction_energy_through_1_body"):
            kcal, kj = energy * qcel.constants.hartree2kcalmol, energy * qcel.constants.hartree2kJmol
            assert re.search(rf"{energy:.10f} +{kcal:.4f} +{kj:.4f}", shown), key
    for treatment in ("counterpoise corrected (cp)", "no counterpoise correction (nocp)", "counterpoise (vmfc)"):
        assert f"{treatment}" in shown


def test_run_shows_what_it_cost(jobfile):
    """How many fragments ran, where, and for how long."""
    shown = mbexec_("run", jobfile).stdout
    assert re.search(r"\d+ fragment calculations run on serial, 1 worker: \d+\.\d\d s", shown)
    assert f"{len(mbexec.plan(jobfile))} fragment calculations run" in shown


@pytest.mark.parametrize("driver", ["gradient", "hessian"])
def test_run_shows_the_gradient_of_the_result(jobfile, driver):
    """Three numbers an atom."""
    shown = mbexec_("run", jobfile, "--set", f"mbe.driver={driver}").stdout
    gradient = mbexec.run(jobfile, **{"mbe.driver": driver}).result.properties.return_gradient
    symbols = ["O", "H", "H"] * 3
    for number, (symbol, row) in enumerate(zip(symbols, np.reshape(gradient, (-1, 3)), strict=True), start=1):
        assert re.search(rf"{number} {symbol} +" + " +".join(f"{value:.10f}" for value in row), shown)


def test_run_keeps_to_itself_what_a_large_gradient_would_flood(tmp_path):
    """Forty atoms are shown; the rest is counted."""
    atoms = "\n--\n".join(f"Ar 0 0 {4 * i}" for i in range(45))
    path = tmp_path / "chain.toml"
    path.write_text(JOB.replace(WATER_TRIMER, atoms).replace("max_nbody = 3", 'max_nbody = 1\ndriver = "gradient"'))
    shown = mbexec_("run", path).stdout
    assert "40 Ar" in shown
    assert "41 Ar" not in shown
    assert "... and 5 more atoms; -o writes them all" in shown


def test_run_writes_the_result(jobfile, tmp_path):
    """QCSchema JSON that loads back as the same ManyBodyResult."""
    mbexec_("run", jobfile, "-o", "result.json")
    written = json.loads((tmp_path / "result.json").read_text())
    expected = mbexec.run(jobfile).result
    loaded = ManyBodyResult(**written)
    assert loaded.serialize("json") == expected.serialize("json")
    assert written == json.loads(expected.serialize("json"))
    assert loaded.return_result == expected.return_result
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_run_writes_what_failed(failing, tmp_path):
    """A FailedOperation that lists every failed fragment."""
    assert mbexec_("run", failing, "-o", "result.json").exit_code == FAILED
    written = FailedOperation(**json.loads((tmp_path / "result.json").read_text()))
    assert not written.success
    assert [entry["label"] for entry in written.error.extras["failed"]] == ['["(auto)", [1], [1]]']


def test_run_shows_what_failed(failing):
    """Exit code 1; label, type and message of each failed fragment; no energies."""
    done = mbexec_("run", failing)
    assert done.exit_code == FAILED
    shown = " ".join(done.stdout.split())
    assert "1 fragment calculation failed" in shown
    assert '["(auto)", [1], [1]]' in shown
    assert "input_error model-potential lj: The model potential lacks parameters for element 'U'." in shown
    assert "interaction" not in shown


def metals(tmp_path, *symbols):
    """A job whose every fragment fails: the model potential has no parameters for metals."""
    atoms = "\n--\n".join(f"{symbol} 0 0 {4 * i}" for i, symbol in enumerate(symbols))
    path = tmp_path / "metals.toml"
    text = JOB.replace(WATER_TRIMER, atoms).replace("max_nbody = 3", "max_nbody = 1")
    path.write_text(text.replace('["cp", "nocp", "vmfc"]', '"nocp"'))
    return path


def test_failures_of_one_kind_are_shown_once(tmp_path):
    """With the first label and the number of the others."""
    shown = mbexec_("run", metals(tmp_path, *["U"] * 25)).stdout
    assert "25 fragment calculations failed" in shown
    assert shown.count("input_error") == 1
    assert '["(auto)", [1], [1]]' in shown
    assert "and 24 more" in shown
    assert "-o FILE writes every message in full." in shown


def test_kinds_of_failures_that_are_not_shown_are_counted(tmp_path):
    """Twenty are shown."""
    elements = "Be B Mg Al Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Rb Sr Y Zr"
    shown = mbexec_("run", metals(tmp_path, *elements.split())).stdout
    assert "23 fragment calculations failed" in shown
    assert shown.count("input_error") == 20
    assert "... and 3 more kinds of failure" in shown


def test_run_reports_progress_on_standard_error(jobfile):
    """A first and a last line where there is no terminal."""
    done = mbexec_("run", jobfile)
    count = len(mbexec.plan(jobfile))
    assert done.stderr == (
        "Store job.store: 0 results\n"
        f"{count} fragment calculations on serial, workers: 1\n{count} of {count} fragment calculations done\n"
    )


def test_tables_in_a_pipe_end_where_their_lines_end(jobfile):
    """No spaces stand at the ends of lines."""
    shown = mbexec_("run", jobfile).stdout + mbexec_("plan", jobfile).stdout
    assert "contribution" in shown
    assert [line for line in shown.splitlines() if line.endswith(" ")] == []


def test_progress_counts_failures(failing):
    """While the run goes on."""
    assert mbexec_("run", failing).stderr.endswith("4 of 4 fragment calculations done, 1 failed\n")


def test_progress_speaks_now_and_then(jobfile):
    """As often as its setting says."""
    lines = mbexec_("run", jobfile, "--set", "plugin.progress.interval=0").stderr.splitlines()
    count = len(mbexec.plan(jobfile))
    words = r"(\d+) of (\d+) fragment calculations done \((\d+)% of the time\); about \d+ s left(; running: .*)?"
    found = [re.fullmatch(words, line).groups() for line in lines[2:-2]]
    assert [(int(done), int(total)) for done, total, *_ in found] == [(done, count) for done in range(1, count)]
    assert all(0 < int(share) < 100 for *_, share, _ in found)
    assert lines[-2:] == [f"{count} of {count} fragment calculations done"] * 2


@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_run_quietly(jobfile, option):
    """Nothing but the result."""
    done = mbexec_("run", jobfile, option)
    assert done.stderr == ""
    assert "Energies" in done.stdout


def on_a_terminal(*words):
    """Run a command whose standard error is a terminal: its exit code, and what was written there."""
    ours, theirs = os.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen([*COMMAND, *words], stderr=theirs, stdout=subprocess.PIPE, env=variables) as running:
        os.close(theirs)
        seen = b""
        try:
            while chunk := os.read(ours, 4096):
                seen += chunk
        except OSError:  # how a terminal ends on Linux
            pass
        os.close(ours)
    assert seen.count(b"\x1b[?25h") == seen.count(b"\x1b[?25l") > 0  # the cursor is shown as often as hidden
    return running.returncode, re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", seen).decode()


def test_progress_on_a_terminal(jobfile):
    """A bar for each n-body, complete at the end, and a terminal that is as it was."""
    code, seen = on_a_terminal("run", jobfile)
    assert code == DONE
    for level in mbexec.plan(jobfile).levels:
        assert re.search(rf"{level.nbody}-body .* 100% +{len(level)}/{len(level)}\b", seen)


def test_failures_on_a_terminal(failing):
    """They have a column of their own."""
    code, seen = on_a_terminal("run", failing)
    assert code == FAILED
    assert re.search(r"share +done +failed", seen)
    assert re.search(r"1-body .* 100% +4/4 +1\b", seen)


def test_numbers_are_whole_in_a_narrow_terminal(jobfile):
    """A terminal breaks lines that are too long by itself; a table would break numbers into pieces."""
    ours, theirs = os.openpty()
    variables = {**os.environ, "TERM": "xterm", "COLUMNS": "30", "NO_COLOR": "1"}
    command = [*COMMAND, "run", "-q", "--no-record", "--no-store", jobfile]
    with subprocess.Popen(command, stdout=theirs, env=variables) as running:
        os.close(theirs)
        seen = b""
        with suppress(OSError):  # how a terminal ends on Linux
            while chunk := os.read(ours, 4096):
                seen += chunk
        os.close(ours)
    assert running.returncode == DONE
    energy = mbexec.run(jobfile).result.return_result
    assert f" {energy:.10f} " in seen.decode()


def test_the_options_of_run_override_the_job(jobfile):
    """-e and -w are short for settings."""
    shown = mbexec_("run", jobfile, "-e", "threads", "-w", "3").stdout
    assert "run on threads, 3 workers" in shown


def test_set_takes_any_setting(jobfile):
    """Values as TOML writes them, or text."""
    options = ("--set", "mbe.max_nbody=1", "--set", 'mbe.bsse_type=["nocp"]', "--set", " run.executor = threads ")
    shown = mbexec_("run", jobfile, "-w", 1, *options).stdout
    assert "3 fragment calculations run on threads, 1 worker:" in shown


def test_options_win_over_set(jobfile):
    """The more special says more."""
    assert "run on serial" in mbexec_("run", jobfile, "-e", "serial", "--set", "run.executor=threads").stdout


def test_the_structlog_reporter_writes_events(jobfile):
    """A line of JSON each, on standard error, where there is no terminal."""
    done = process("run", jobfile, "--set", "run.reporters=structlog")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert events[0]["event"] == "run_started"
    assert {event["event"] for event in events} == {"run_started", "level_started", "level_done", "run_done"}
    assert events[-1]["ntasks"] == len(mbexec.plan(jobfile))


def test_a_user_file_may_turn_progress_off(jobfile, tmp_path):
    """The command line's default gives way to every file."""
    (tmp_path / "mbexec.toml").write_text("[run]\nreporters = []\n")
    assert mbexec_("run", jobfile).stderr == ""


def test_warnings_are_lines(jobfile):
    """No source lines of ours."""
    done = process("run", jobfile, "-q", "--set", "task.timeout=60")
    assert done.returncode == DONE
    assert done.stderr == (
        "Warning: task.timeout = 60 has no effect: the executor 'serial' cannot stop a fragment that runs.\n"
    )


# plan


def test_plan_counts_the_calculations(jobfile):
    """By n-body and model chemistry, with the largest basis; nothing runs."""
    shown = mbexec_("plan", jobfile).stdout
    plan = mbexec.plan(jobfile)
    for level in plan.levels:
        assert re.search(rf"{level.nbody} +model-potential lj +{len(level)} +3 fragments, 9 atoms", shown)
    assert re.search(rf"all +{len(plan)}\b", shown)


def test_plan_shows_where_the_cost_falls(tmp_path):
    """Three monomers of 9 functions and three dimers of 18, cubed: one part in nine, eight in nine."""
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job(argon(3), max_nbody=2)))
    shown = mbexec_("plan", path).stdout
    assert re.search(r"1 +model-potential lj-atm +3 +1 fragment, 1 atom +11 %", shown)
    assert re.search(r"2 +model-potential lj-atm +3 +2 fragments, 2 atoms +89 %", shown)


def test_plan_tells_how_far_energies_converge(tmp_path):
    """What is known of the keywords, that nothing is known, and a warning where it is not enough."""
    programs = {
        "fine": {"program": "pyscf", "method": "hf", "basis": "6-31g"},
        "loose": {"program": "nwchem", "method": "hf", "basis": "6-31g", "keywords": {"scf__thresh": 0.01}},
        "strange": {"program": "cfour", "method": "hf", "basis": "6-31g"},
    }
    levels = {"1": "fine", "2": "loose", "3": "strange"}
    path = tmp_path / "job.json"
    path.write_text(json.dumps(job(argon(4), program=programs, levels=levels)))
    done = process("plan", path)
    assert "Energies of 'fine: pyscf hf/6-31g' are good to about 1e-12 E_h (conv_tol = 1e-10" in done.stdout
    assert "How far energies of 'strange: cfour hf/6-31g' converge is not known here." in done.stdout
    assert "Warning: Energies of 'loose: nwchem hf/6-31g' are good to about 1e-04 E_h (scf__th" in done.stderr
    assert done.stderr.count("Warning") == 1


def test_plan_tells_model_chemistries_apart(tmp_path):
    """By label, program, method and basis."""
    labels = (
        '[mbe]\nlevels = {1 = "high", 2 = "low"}\nbsse_type = "nocp"\n'
        '[program.high]\nprogram = "pyscf"\nmethod = "mp2"\nbasis = "cc-pvdz"\n'
        '[program.low]\nprogram = "model-potential"\nmethod = "lj"\n'
    )
    path = tmp_path / "levels.toml"
    path.write_text(JOB.split("[mbe]")[0] + labels)
    shown = mbexec_("plan", path).stdout
    assert re.search(r"1 +high: pyscf mp2/cc-pvdz +3 +1 fragment, 3 atoms", shown)
    assert re.search(r"1 +low: model-potential lj +3 +1 fragment, 3 atoms", shown)
    assert re.search(r"2 +low: model-potential lj +3 +2 fragments, 6 atoms", shown)


def test_show_config_tells_values_and_sources(jobfile, tmp_path, monkeypatch):
    """Each setting, its value, and where it is from."""
    (tmp_path / "mbexec.toml").write_text("[task]\nretries = 2\n[plugin.loky]\nchunk_time = 0.5\n")
    monkeypatch.setenv("MBEXEC_RUN__SCHEDULE", "nbody")
    monkeypatch.setenv("QCENGINE_MEMORY", "1.5")
    shown = mbexec_("plan", jobfile, "--show-config", "--set", "task.ncores=2").stdout
    for key, value, source in [
        ("run.executor", "serial", str(jobfile)),
        ("run.planner", "manybody", "default"),
        ("run.reporters", "progress, jsonl", "default"),
        ("run.store", "sqlite", "default"),
        ("run.schedule", "nbody", "MBEXEC_RUN__SCHEDULE"),
        ("task.ncores", "2", "argument"),
        ("task.memory", "1.5", "QCENGINE_MEMORY"),
        ("task.retries", "2", str(tmp_path / "mbexec.toml")),
        ("plugin.loky.chunk_time", "0.5", str(tmp_path / "mbexec.toml")),
    ]:
        unwrapped = re.sub(r"\n {30,}", "", shown)
        assert re.search(rf"{re.escape(key)} +{re.escape(value)} +{re.escape(source[:40])}", unwrapped), key


def test_show_config_shows_every_setting(jobfile):
    """None is left out."""
    shown = mbexec_("plan", jobfile, "--show-config").stdout
    config = mbexec.run(jobfile).config
    assert [key for key in config.sources if key not in shown] == []


# plugins


def test_plugins_lists_what_is_installed():
    """Name, roles, distribution and version; which are active by default."""
    shown = mbexec_("plugins").stdout
    for plugin in installed_plugins():
        active = "yes" if plugin.name in ("threads", "manybody", "progress", "jsonl", "sqlite") else ""
        roles = ", ".join(plugin.roles)
        assert re.search(rf"{plugin.name} +{roles} +{active} +{plugin.distribution} +{plugin.version}\b", shown)


def test_plugins_of_a_job(jobfile):
    """Those are active that the job names."""
    shown = mbexec_("plugins", jobfile).stdout
    assert re.search(r"serial +executor +yes", shown)
    assert not re.search(r"threads +executor +yes", shown)


def test_plugins_lists_what_cannot_be_imported(install):
    """Its error is shown, the others are listed, and the command succeeds."""
    install("strange-things", {"mine": "Mine"}, source="import a_module_that_is_not_there")
    done = mbexec_("plugins")
    assert done.exit_code == DONE
    shown = " ".join(done.stdout.split())
    assert "mine strange-things 1.0" in shown
    assert "a_module_that_is_not_there" in shown
    assert "serial executor" in shown


# How it ends

USAGE = " for help.\n\nError: "


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run"], f"{USAGE}Missing argument 'JOB'."),
        (["run", "JOB", "more"], f"{USAGE}Got unexpected extra argument (more)"),
        (["run", "JOB", "--set", "=3"], f"{USAGE}Invalid value for '--set': '=3' is not KEY=VALUE, for"),
        (["run", "JOB", "--set", "workers"], f"{USAGE}Invalid value for '--set': 'workers' is not KEY=VALUE, for"),
        (["run", "JOB", "-w", "many"], f"{USAGE}Invalid value for '-w' / '--workers': 'many' is not a valid integer."),
        (["run", "JOB", "--store", ""], f"{USAGE}Invalid value for '--store': '' is no name of a file."),
        (["run", "JOB", "--record", ""], f"{USAGE}Invalid value for '--record': '' is no name of a file."),
        (["run", "JOB", "--no-store", "--store", "x"], "--store 'x' and --no-store contradict each other; leave one"),
        (["run", "JOB", "--record", "x", "--no-record"], "--record 'x' and --no-record contradict each other; leave"),
        (["run", "JOB", "-o", "no/such/place.json"], "the folder of 'no/such/place.json' does not exist."),
        (["run", "JOB", "-o", "."], "'.' is a folder; give the name of a file."),
        (["run", "nowhere.toml"], "Error: nowhere.toml: can't be read: No such file or directory."),
        (["plan", "nowhere.toml"], "Error: nowhere.toml: can't be read: No such file or directory."),
        (["plugins", "nowhere.toml"], "Error: nowhere.toml: can't be read: No such file or directory."),
        (["run", "JOB", "-w", "0"], "Error: argument: run.workers = 0 must be a whole number from 1 up."),
        (["run", "JOB", "-e", "thread"], "Error: No executor named 'thread' is installed. Did you mean threads?"),
        (
            ["run", "JOB", "--set", "task.ncore=1"],
            "Error: argument: unknown setting task.ncore. Did you mean task.ncores?",
        ),
        (["run", "JOB", "--set", "mbe.max_nbody=9"], "Error: max_nbody = 9 must lie between 1 and the 3 fragments"),
        (["plan", "JOB", "--set", "mbe.max_nbody=9"], "Error: max_nbody = 9 must lie between 1 and the 3 fragments"),
        (["run", "JOB", "--set", "program.program=nonesuch"], "Error: No program named 'nonesuch' is known."),
        (["nonesuch"], "No such command 'nonesuch'"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_bad_input(jobfile, words, sentence):
    """Exit code 2, one sentence on standard error, nothing else anywhere."""
    done = mbexec_(*[jobfile if word == "JOB" else word for word in words])
    assert done.exit_code == BAD_INPUT
    assert sentence in done.stderr
    assert done.stdout == ""


def test_an_error_is_one_line(jobfile):
    """Of a real process."""
    done = process("run", jobfile, "--executor", "quantum-cloud")
    assert done.returncode == BAD_INPUT
    assert re.fullmatch(r"Error: No executor named 'quantum-cloud' is installed\. .*\n", done.stderr)
    assert done.stderr.endswith("To add it: pip install mbexec-quantum-cloud\n")
    assert done.stdout == ""


def test_an_output_that_cannot_be_written(jobfile, tmp_path, monkeypatch):
    """It is found out before anything runs."""
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    done = mbexec_("run", jobfile, "-o", "result.json")
    assert done.exit_code == BAD_INPUT
    assert "the folder of 'result.json' can't be written to." in done.stderr
    assert done.stdout == ""


def test_an_output_that_fails_to_be_written(jobfile):
    """The energies are shown all the same."""
    done = mbexec_("run", jobfile, "-q", "-o", "/dev/full")
    assert done.exit_code == BAD_INPUT
    assert done.stderr == "Error: The result can't be written to /dev/full: No space left on device.\n"
    assert "Energies" in done.stdout


def test_an_executor_that_breaks(jobfile, install):
    """Exit code 1, and one sentence."""

    class Broken:
        @hookimpl
        def submit_level(self, level, work):
            raise OSError("the cable is cut")

    install("strange-things", {"broken": Broken})
    done = mbexec_("run", jobfile, "-q", "-e", "broken")
    assert done.exit_code == FAILED
    assert done.stderr == "Error: The executor 'broken' broke: OSError: the cable is cut\n"


def test_done(jobfile):
    """A real process: exit code 0, tables on standard output, progress on standard error."""
    done = process("run", jobfile)
    assert done.returncode == DONE
    assert "Energies, counterpoise corrected (cp)" in done.stdout
    assert "fragment calculations done" in done.stderr


def test_the_installed_command():
    """The distribution brings a command, which knows its version."""
    from importlib.metadata import entry_points, version

    (script,) = entry_points(group="console_scripts", name="mbexec")
    assert script.load() is cli.main
    assert mbexec_("--version").stdout == f"mbexec, version {version('mbexec')}\n"


@pytest.mark.parametrize(
    "words", [["--help"], ["-h"], ["run", "--help"], ["plan", "-h"], ["plugins", "-h"]], ids=" ".join
)
def test_help(words):
    """Each command says what it does."""
    done = mbexec_(*words)
    assert done.exit_code == DONE
    assert done.stdout.startswith("Usage: mbexec")


def test_help_does_not_wait_for_chemistry():
    """Nor does completion: QCElemental alone takes longer to import than all that they need."""
    code = "import sys, mbexec.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"qcelemental", "qcmanybody", "qcengine", "pydantic", "scipy", "matplotlib"}


def test_help_names_the_exit_codes():
    """For those who call it from scripts."""
    shown = " ".join(mbexec_("run", "--help").stdout.split())
    assert "Exit codes: 0 done, 1 fragments failed or the executor broke, 2 bad input, 130 interrupted." in shown


def test_output_follows_a_link_and_keeps_the_mode(jobfile, tmp_path):
    """The file that a link leads to is written, with the permissions it had."""
    target = tmp_path / "real.json"
    target.write_text("old")
    target.chmod(0o640)
    link = tmp_path / "link.json"
    link.symlink_to(target)
    mbexec_("run", jobfile, "-q", "-o", link)
    assert link.is_symlink()
    assert target.stat().st_mode & 0o777 == 0o640
    assert json.loads(target.read_text())["success"] is True
    assert not list(tmp_path.glob(".*partial"))


def test_output_into_a_pipe_goes_through_it(jobfile, tmp_path):
    """What is no file stays what it is."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received = []
    reader = threading.Thread(target=lambda: received.append(pipe.read_text()))
    reader.start()
    mbexec_("run", jobfile, "-q", "-o", pipe)
    reader.join(timeout=30)
    assert pipe.is_fifo()
    assert json.loads(received[0])["success"] is True


def test_nothing_to_run(jobfile):
    """Interaction data of monomers needs no fragment calculation, and the summary says so."""
    words = ["run", "-q", str(jobfile), "--set", "mbe.bsse_type=cp", "--set", "mbe.max_nbody=1"]
    done = CliRunner().invoke(cli.main, words)
    assert done.exit_code == 0
    assert "0 fragment calculations run on serial" in done.stdout


@pytest.mark.parametrize("output", ["job.toml", "./job.toml", "link.toml"])
def test_output_is_not_written_over_the_job(jobfile, tmp_path, output):
    """By whatever name: it is refused before anything runs."""
    (tmp_path / "link.toml").symlink_to(jobfile)
    done = mbexec_("run", jobfile, "-q", "-o", output)
    assert done.exit_code == BAD_INPUT
    assert f"{str(Path(output))!r} is the job itself; give the result a file of its own." in done.stderr
    assert done.stdout == ""
    assert jobfile.read_text() == JOB


@pytest.mark.parametrize("words", [["-o", "job.store"], ["--store", "mine", "-o", "mine"]], ids=" ".join)
def test_output_is_not_written_over_the_store(jobfile, tmp_path, words):
    """Whether it is there already or not."""
    done = mbexec_("run", jobfile, "-q", *[f"{tmp_path}/{word}" if word == "mine" else word for word in words])
    assert done.exit_code == BAD_INPUT
    assert "is the store itself; give the result a file of its own." in done.stderr
    assert not (tmp_path / words[-1]).exists()


@pytest.mark.parametrize(
    "words", [["run", "JOB"], ["run", "JOB", "-o", "result.json"], ["run", "job.toml"], ["plugins"]]
)
def test_a_working_directory_that_is_gone(jobfile, tmp_path, monkeypatch, words):
    """One sentence, exit code 2."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = mbexec_(*[jobfile if word == "JOB" else word for word in words])
    monkeypatch.chdir(tmp_path)
    assert done.exit_code == BAD_INPUT
    assert (
        done.stderr
        == "Error: The working directory is gone (No such file or directory); change to one that is there.\n"
    )
    assert done.stdout == ""
