"""Settings: which source wins, where each value is from, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import psutil
import pytest

import mbexec
from mbexec import ConfigError, RunSettings, TaskSettings
from mbexec.core.config import nested, parse_value
from mbexec.core.engine import read_job

SETTINGS = {"run": RunSettings, "task": TaskSettings}


def config_of(tables, defaults=None, **settings):
    return read_job(tables, settings, defaults)[1]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def user():
    """The user's file: one worker."""
    return write(Path(os.environ["XDG_CONFIG_HOME"]) / "mbexec" / "mbexec.toml", "[run]\nworkers = 11\n")


@pytest.fixture
def project(tmp_path):
    """The project's file: two workers."""
    return write(tmp_path / "mbexec.toml", "[run]\nworkers = 12\n")


@pytest.fixture
def jobfile(tmp_path):
    """A job file that asks for three workers."""
    text = '[molecule]\ngeometry = "Ar 0 0 0\\n--\\nAr 0 0 4"\n[program]\nprogram = "model-potential"\nmethod = "lj"\n'
    return write(tmp_path / "job.toml", f"{text}[run]\nworkers = 13\n")


# Which source wins


def test_defaults(tables):
    """What nobody says is the library's default, or a share of the machine."""
    del tables["run"]
    config = config_of(tables)
    assert config.run == attrs.evolve(RunSettings(), workers=config.run.workers)
    assert config.sources["run.executor"] == "default"
    assert config.sources["run.workers"] == "split of the machine"


def test_the_caller_of_the_library_may_have_defaults(tables):
    """The command line's own defaults replace the library's."""
    config = config_of(tables, {"run.reporters": ["progress"]})
    assert config.run.reporters == ("progress",)
    assert config.sources["run.reporters"] == "default"


def test_the_user_file_wins_over_defaults(tables, user):
    """A setting in the user's folder holds for every run."""
    config = config_of(tables, {"run.workers": 10})
    assert (config.run.workers, config.sources["run.workers"]) == (11, str(user))


def test_the_project_file_wins_over_the_user_file(tables, user, project):
    """mbexec.toml in the working directory."""
    config = config_of(tables)
    assert (config.run.workers, config.sources["run.workers"]) == (12, str(project))


def test_a_project_file_above_the_working_directory_counts(tables, user, project, tmp_path, monkeypatch):
    """mbexec.toml is looked for upwards."""
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    config = config_of(tables)
    assert (config.run.workers, config.sources["run.workers"]) == (12, str(project))


def test_the_nearest_project_file_counts_alone(tables, project, tmp_path, monkeypatch):
    """The first one upwards is the project's; those above are not looked at."""
    write(project, "[run]\nworkers = 12\nschedule = 'nbody'\n")
    nearest = write(tmp_path / "a" / "mbexec.toml", "[run]\nworkers = 9\n")
    monkeypatch.chdir(tmp_path / "a")
    config = config_of(tables)
    assert (config.run.workers, config.sources["run.workers"]) == (9, str(nearest))
    assert config.run.schedule == "cost"


def test_the_job_file_wins_over_the_project_file(jobfile, project):
    """What the job says of itself."""
    config = config_of(jobfile)
    assert (config.run.workers, config.sources["run.workers"]) == (13, str(jobfile))


def test_a_variable_wins_over_the_job_file(jobfile, monkeypatch):
    """MBEXEC_TABLE__KEY."""
    monkeypatch.setenv("MBEXEC_RUN__WORKERS", "14")
    config = config_of(jobfile)
    assert (config.run.workers, config.sources["run.workers"]) == (14, "MBEXEC_RUN__WORKERS")


def test_an_argument_wins_over_a_variable(jobfile, monkeypatch):
    """What the caller says last."""
    monkeypatch.setenv("MBEXEC_RUN__WORKERS", "14")
    config = config_of(jobfile, workers=15)
    assert (config.run.workers, config.sources["run.workers"]) == (15, "argument")


def test_sources_mix_key_by_key(jobfile, user, project, monkeypatch):
    """A higher source hides the keys that it has, and no others."""
    write(user, "[run]\nworkers = 11\nschedule = 'nbody'\n[task]\nretries = 2\n")
    write(project, "[run]\nworkers = 12\n[task]\nretries = 3\n[plugin.loky]\nchunk_time = 1\nidle_timeout = 5\n")
    monkeypatch.setenv("MBEXEC_PLUGIN__LOKY__CHUNK_TIME", "0.5")
    config = config_of(jobfile, executor="serial")
    found = {key: config.sources[key] for key in ("run.workers", "run.schedule", "task.retries", "run.executor")}
    assert found == {
        "run.workers": str(jobfile),
        "run.schedule": str(user),
        "task.retries": str(project),
        "run.executor": "argument",
    }
    assert config.plugin == {"loky": {"chunk_time": 0.5, "idle_timeout": 5}}
    assert config.sources["plugin.loky.chunk_time"] == "MBEXEC_PLUGIN__LOKY__CHUNK_TIME"
    assert config.sources["plugin.loky.idle_timeout"] == str(project)


def test_every_setting_has_a_source(tables):
    """Whether or not anybody has set it."""
    config = config_of(tables)
    keys = {f"{table}.{name}" for table, cls in SETTINGS.items() for name in attrs.fields_dict(cls)}
    assert keys <= config.sources.keys()


def test_the_result_knows_its_settings(tables):
    """RunResult.config is what the run used."""
    found = mbexec.run(tables, **{"task.retries": 4})
    assert found.config.task.retries == 4
    assert found.config.sources["task.retries"] == "argument"
    assert found.config.sources["run.executor"] == "the input"


def test_the_chemistry_can_be_set_too(tables, monkeypatch):
    """[molecule], [mbe] and [program] keys follow the same order: argument, variable, job."""
    monkeypatch.setenv("MBEXEC_MBE__MAX_NBODY", "1")
    monkeypatch.setenv("MBEXEC_PROGRAM__METHOD", "lj")
    spec = read_job(tables, {"mbe.max_nbody": 3})[0]
    assert spec.specification.keywords.max_nbody == 3
    assert spec.specification.specification["(auto)"].model.method == "lj"


def test_levels_are_replaced_as_a_whole(tables):
    """Labels of another set of levels do not mix with those given before."""
    tables["mbe"] = {"levels": {1: "low", 2: "high"}}
    tables["program"] = {"low": {"program": "model-potential", "method": "lj"}}
    settings = {"mbe.levels": {3: "low"}}
    assert read_job(tables, settings)[0].specification.keywords.levels == {3: "low"}


# What a task may use


def test_the_task_table_wins_over_qcengine_variables(tables, monkeypatch):
    """[task] > QCENGINE_*."""
    monkeypatch.setenv("QCENGINE_NCORES", "3")
    tables["task"] = {"ncores": 2}
    config = config_of(tables)
    assert (config.task.ncores, config.sources["task.ncores"]) == (2, "the input")


@pytest.mark.parametrize("place", ["DQM_CONFIG_PATH", "HOME"])
def test_qcengine_yaml_is_found_where_qcengine_looks(tables, node, place):
    """In the directory that a variable names and in the user's own for tools of MolSSI, as in the working directory."""
    elsewhere = node.parent / "elsewhere"
    there = elsewhere / ".qcarchive" if place == "HOME" else elsewhere
    there.mkdir(parents=True)
    node.rename(there / node.name)
    assert in_a_new_process(tables)["retries"][1] != "qcengine.yaml"
    assert in_a_new_process(tables, {place: str(elsewhere)})["retries"] == (2, "qcengine.yaml")


def test_qcengine_variables_win_over_the_split_of_the_machine(tables, monkeypatch):
    """QCENGINE_NCORES, QCENGINE_MEMORY, ... are taken where nobody says otherwise."""
    monkeypatch.setenv("QCENGINE_NCORES", "3")
    monkeypatch.setenv("QCENGINE_MEMORY", "1.5")
    monkeypatch.setenv("QCENGINE_SCRATCH_DIRECTORY", "/scratch")
    config = config_of(tables)
    assert config.task == TaskSettings(ncores=3, memory=1.5, scratch_directory="/scratch")
    assert config.sources["task.memory"] == "QCENGINE_MEMORY"


def in_a_new_process(tables, variables=()):
    """Task settings and their sources as a process finds them that has never imported QCEngine."""
    script = (
        "import json, attrs\n"
        "from mbexec.core.engine import read_job\n"
        f"config = read_job({tables!r}, {{}})[1]\n"
        "print(json.dumps([attrs.asdict(config.task), dict(config.sources)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **dict(variables)},
        capture_output=True,
        text=True,
        check=True,
    )
    task, sources = json.loads(done.stdout)
    return {name: (value, sources[f"task.{name}"]) for name, value in task.items()}


@pytest.fixture
def node(tmp_path):
    """A qcengine.yaml for this host: eight cores and 40 GiB for four tasks at once."""
    text = (
        "here: {hostname_pattern: '*', ncores: 8, memory: 40, jobs_per_node: 4, retries: 2, scratch_directory: /fast}"
    )
    return write(tmp_path / "qcengine.yaml", text)


def test_qcengine_yaml_wins_over_the_split_of_the_machine(tables, node):
    """A task gets its share of the node as QCEngine would give it."""
    found = in_a_new_process(tables)
    assert found["ncores"] == (2, "qcengine.yaml")
    assert found["memory"] == (9.0, "qcengine.yaml")
    assert found["retries"] == (2, "qcengine.yaml")
    assert found["scratch_directory"] == ("/fast", "qcengine.yaml")


def test_qcengine_variables_win_over_qcengine_yaml(tables, node):
    """QCENGINE_* > qcengine.yaml."""
    found = in_a_new_process(tables, {"QCENGINE_NCORES": "3"})
    assert found["ncores"] == (3, "QCENGINE_NCORES")
    assert found["memory"] == (9.0, "qcengine.yaml")


def test_the_machine_is_split_among_the_workers(tables):
    """One core a task, and nine tenths of the memory divided by the workers."""
    config = config_of(tables, workers=4)
    assert config.task.ncores == 1
    assert config.task.memory == pytest.approx(0.9 * psutil.virtual_memory().total / 2**30 / 4, rel=1e-3)
    assert config.sources["task.ncores"] == config.sources["task.memory"] == "split of the machine"


def test_there_are_as_many_workers_as_tasks_fit(tables, monkeypatch):
    """Cores granted, divided by the cores of a task; one at least."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert config_of(tables).run.workers == 8
    assert config_of(tables, **{"task.ncores": 3}).run.workers == 2
    assert config_of(tables, **{"task.ncores": 64}).run.workers == 1


def test_memory_is_never_split_into_nothing(tables):
    """However many workers are asked for."""
    assert config_of(tables, workers=10**6).task.memory > 0


# How values are written


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2),
        ("2.5", 2.5),
        ("true", True),
        ('"2"', "2"),
        ("threads", "threads"),
        ("/scratch/a b", "/scratch/a b"),
        ('["a", "b"]', ["a", "b"]),
        ("{Ar = 1.0}", {"Ar": 1.0}),
        ("", ""),
        ("[", "["),
        ("1\n[run]", "1\n[run]"),
    ],
    ids=repr,
)
def test_values_of_variables_are_toml(text, value):
    """What is not TOML is text."""
    assert parse_value(text) == value


def test_one_reporter_needs_no_list(tables):
    """A name alone is a list of one."""
    assert config_of(tables, reporters="structlog").run.reporters == ("structlog",)


def test_a_key_without_a_dot_belongs_to_run():
    """The arguments of run() are those of [run]; all others are dotted."""
    assert nested({"workers": 2, "task.ncores": 1, "plugin.loky.chunk_time": 3}) == {
        "run": {"workers": 2},
        "task": {"ncores": 1},
        "plugin": {"loky": {"chunk_time": 3}},
    }


# What is refused

REFUSED = {
    "run.executor": ["", 5, ["threads"]],
    "run.planner": ["", None],
    "run.reporters": [5, [1], [""]],
    "run.store": ["", 5, True],
    "run.retry_failed": ["yes", 1],
    "run.on_error": ["ignore", False],
    "run.workers": [0, -1, 2.0, True, "two"],
    "run.schedule": ["size", 1, ["cost"]],
    "run.grace": [-1, "25", True, float("inf")],
    "task.ncores": [0, 1.5, False, "all", {"x": 1}],
    "task.memory": [0, -1.0, float("inf"), float("nan"), "2 GB", True],
    "task.timeout": [0, "1 h", float("inf")],
    "task.retries": [-1, 0.5, None],
    "task.scratch_directory": ["", 5],
    "task.nnodes": [0, "1"],
}
ALLOWED = {
    "run.executor": "the name of an executor",
    "run.planner": "the name of a planner",
    "run.reporters": "the name of a reporter, or a list of names",
    "run.store": "a path, the name of a store, or false for none",
    "run.retry_failed": "true or false",
    "run.on_error": '"continue" or "stop"',
    "run.workers": "a whole number from 1 up",
    "run.schedule": '"cost" or "nbody"',
    "run.grace": "a number of seconds from 0 up",
    "task.ncores": "a whole number from 1 up",
    "task.memory": "a number of GiB above 0",
    "task.timeout": "a number of seconds above 0",
    "task.retries": "a whole number from 0 up",
    "task.scratch_directory": "a path",
    "task.nnodes": "a whole number from 1 up",
}


def test_every_setting_is_tried():
    """The table above leaves out none."""
    keys = {f"{table}.{name}" for table, cls in SETTINGS.items() for name in attrs.fields_dict(cls)}
    assert keys == REFUSED.keys() == ALLOWED.keys()


@pytest.mark.parametrize(
    ("key", "value"), [(k, v) for k, values in REFUSED.items() for v in values], ids=lambda word: str(word)
)
def test_a_value_that_is_not_allowed(tables, key, value):
    """Source, key, value, and what is allowed."""
    with pytest.raises(ConfigError) as error:
        config_of(tables, **{key: value})
    shown = [value] if key == "run.reporters" and isinstance(value, str) else value
    assert str(error.value) == f"argument: {key} = {shown!r} must be {ALLOWED[key]}."


def test_a_wrong_value_names_the_user_file(tables, user):
    """The path of the file."""
    write(user, "[task]\nncores = 0\n")
    with pytest.raises(ConfigError) as error:
        config_of(tables)
    assert str(error.value) == f"{user}: task.ncores = 0 must be a whole number from 1 up."


def test_a_wrong_value_names_the_project_file(tables, project):
    """The path of mbexec.toml, wherever it was found."""
    write(project, "[run]\nworkers = 'many'\n")
    with pytest.raises(ConfigError) as error:
        config_of(tables)
    assert str(error.value) == f"{project}: run.workers = 'many' must be a whole number from 1 up."


def test_a_wrong_value_names_the_job_file(jobfile):
    """The path as it was given."""
    write(jobfile, jobfile.read_text().replace("13", "0"))
    with pytest.raises(ConfigError) as error:
        config_of("job.toml")
    assert str(error.value) == "job.toml: run.workers = 0 must be a whole number from 1 up."


@pytest.mark.parametrize(
    ("variable", "key"), [("MBEXEC_TASK__NCORES", "task.ncores"), ("QCENGINE_NCORES", "task.ncores")]
)
def test_a_wrong_value_names_the_variable(tables, monkeypatch, variable, key):
    """Ours or QCEngine's."""
    monkeypatch.setenv(variable, "many")
    with pytest.raises(ConfigError) as error:
        config_of(tables)
    assert str(error.value) == f"{variable}: {key} = 'many' must be a whole number from 1 up."


def test_a_wrong_value_that_is_overridden_is_still_wrong(tables, project):
    """A file is right or wrong whatever else is said."""
    write(project, "[run]\nworkers = 0\n")
    with pytest.raises(ConfigError, match=r"run\.workers = 0"):
        config_of(tables, workers=1)


RUN = (
    "run.executor, run.planner, run.reporters, run.store, run.retry_failed, run.on_error, run.workers, run.schedule, "
    "run.grace"
)
TASK = "task.ncores, task.memory, task.timeout, task.retries, task.scratch_directory, task.nnodes"


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("run.executer", f"unknown setting run.executer. Did you mean run.executor? Known: {RUN}."),
        ("run.foo", f"unknown setting run.foo. Known: {RUN}."),
        ("ncores", f"unknown setting run.ncores. Did you mean task.ncores? Known: {RUN}."),
        ("task.core", f"unknown setting task.core. Did you mean task.ncores? Known: {TASK}."),
        ("", "'' names no setting; write TABLE.KEY, such as task.ncores."),
        ("task.", "'task.' names no setting; write TABLE.KEY, such as task.ncores."),
        (".x", "'.x' names no setting; write TABLE.KEY, such as task.ncores."),
        ("task.workers", f"unknown setting task.workers. Did you mean run.workers? Known: {TASK}."),
        (
            "runs.workers",
            "unknown table [runs]. Did you mean [run]? Known: [molecule], [mbe], [program], [run], [task], [plugin].",
        ),
    ],
    ids=["near", "far", "other table", "part", "nothing", "no key", "no table", "other way", "table"],
)
def test_an_unknown_setting(tables, key, sentence):
    """A near match, perhaps of another table, and all that are known."""
    with pytest.raises(ConfigError) as error:
        config_of(tables, **{key: 1})
    assert str(error.value).removeprefix("argument: ") == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[rum]\n", "unknown table [rum]. Did you mean [run]? Known: [molecule], [mbe], [program], [run], [task]"),
        ("[run]\nexecutr = 'x'\n", "unknown setting run.executr. Did you mean run.executor? Known: run.executor"),
        ("run = 5\n", "run = 5 must be a table: [run]."),
        ("[plugin]\nloky = 5\n", "plugin.loky must be a table: [plugin.loky]."),
        (
            "[mbe]\nmax_nbody = 2\n",
            "[mbe] belongs in a job file; mbexec.toml and the user's file hold [run], [task] and",
        ),
        ("[molecule]\n", "[molecule] belongs in a job file;"),
        ("[program]\n", "[program] belongs in a job file;"),
        ("[run]\nworkers = \n", "not valid TOML: Invalid value (at line 2, column 11)."),
    ],
    ids=["table", "key", "no table", "no plugin table", "mbe", "molecule", "program", "syntax"],
)
def test_a_project_file_that_is_wrong(tables, project, text, sentence):
    """The sentence begins with the file's path."""
    write(project, text)
    with pytest.raises(ConfigError) as error:
        config_of(tables)
    assert str(error.value).startswith(f"{project}: {sentence}")


def test_a_settings_file_that_is_no_text(tables, project):
    """Bytes that are not UTF-8."""
    project.write_bytes(b"[run]\n# caf\xe9\n")
    with pytest.raises(ConfigError) as error:
        config_of(tables)
    assert str(error.value) == f"{project}: can't be read: it is no text in UTF-8 (byte 11)."


def test_tables_of_plugins_that_take_no_part_are_ignored(tables):
    """So that --executor can override a job file that has settings for another one."""
    tables["plugin"] = {"loky": {"no_such_setting": 1}, "not-installed": {"x": 1}}
    assert mbexec.run(tables, executor="serial").result.success


def test_a_variable_that_names_no_table(tables, monkeypatch):
    """MBEXEC_FOO is more likely a slip than nothing."""
    monkeypatch.setenv("MBEXEC_EXECUTOR", "serial")
    with pytest.raises(ConfigError) as error:
        config_of(tables)
    assert str(error.value) == (
        "The variable MBEXEC_EXECUTOR names no setting; write MBEXEC_TABLE__KEY, for example MBEXEC_RUN__EXECUTOR."
    )


def test_a_table_given_as_a_setting(tables):
    """run(task={...}) is answered with how to write it."""
    with pytest.raises(ConfigError) as error:
        config_of(tables, task={"ncores": 2})
    assert str(error.value) == "task is a table; name the settings in it one by one, such as task.KEY."


def test_a_setting_in_a_setting(tables):
    """Keys that contradict each other."""
    with pytest.raises(ConfigError) as error:
        config_of(tables, **{"task.ncores": 1, "task.ncores.x": 2})
    assert str(error.value) == "task.ncores.x can't be set: ncores is given a value, 1, and is no table."


@pytest.mark.parametrize("made", [RunSettings(), TaskSettings()], ids=["run", "task"])
def test_defaults_are_allowed_themselves(made):
    """Settings made by hand, as for a test of a plugin, keep the checks that those of job files do."""
    for each in attrs.fields(type(made)):
        value = getattr(made, each.name)
        assert each.metadata["test"](value) or value is None, (
            f"{each.name} = {value!r} must be {each.metadata['allowed']}"
        )
