"""Plugins: found by name, built, checked; and for each thing that can be wrong, one clear sentence."""

import importlib.metadata
import pickle
import re
import subprocess
import sys

import pytest
from attrs import define, field, validators

import mbexec
from mbexec import ConfigError, HookError, PluginError, PluginNotFoundError, hookimpl
from mbexec.core import manager
from mbexec.core.manager import InstalledPlugin, installed_plugins
from mbexec.core.settings import RunConfig, RunSettings, TaskSettings
from tests.systems import argon, job

ADVICE = "choose another plugin in [run]."


def executor(**extra):
    """An executor that runs one fragment after the other, and whatever else is given."""

    @hookimpl
    def submit_level(self, level, work):
        for task in level:
            yield work(task)

    return type("Mine", (), {"submit_level": submit_level, **extra})


def listed(role):
    """What is installed for a role, as messages say it."""
    return ", ".join(f"{each.name} ({each.distribution})" for each in installed_plugins() if role in each.roles)


# Finding


@pytest.mark.parametrize(
    ("setting", "role"),
    [("executor", "executor"), ("planner", "planner"), ("reporters", "reporter"), ("store", "store")],
    ids=lambda word: word,
)
def test_a_name_nobody_offers(tables, setting, role):
    """The sentence lists what is installed and gives the line that would install it."""
    with pytest.raises(PluginNotFoundError) as error:
        mbexec.run(tables, **{f"run.{setting}": "quantum-cloud"})
    assert str(error.value) == (
        f"No {role} named 'quantum-cloud' is installed. Installed: {listed(role)}. "
        "To add it: pip install mbexec-quantum-cloud"
    )


def test_a_name_nearly_right(tables):
    """A near match is offered, and no package whose name would be made up."""
    with pytest.raises(PluginNotFoundError) as error:
        mbexec.run(tables, executor="thread")
    assert str(error.value) == (
        f"No executor named 'thread' is installed. Did you mean threads? Installed: {listed('executor')}."
    )


def test_a_table_for_no_plugin(tables):
    """It changes nothing, which is said where a name is misspelt; otherwise it may be for another machine."""
    tables["plugin"] = {"jsnl": {"path": "x.jsonl"}, "quantum-cloud": {}}
    told = r"^\[plugin\.jsnl\] changes nothing: no plugin of that name is installed\. Did you mean jsonl\?$"
    with pytest.warns(UserWarning, match=told):
        mbexec.run(tables)


def test_an_installed_plugin_is_found_by_its_name(tables, install):
    """Another distribution's entry point is all that it takes."""
    install("strange-things", {"mine": executor()})
    found = mbexec.run(tables, executor="mine")
    assert found.result.success
    assert found.report.executor == "mine"


def test_two_distributions_with_one_name(tables, install):
    """Neither wins; both are named."""
    install("strange-things", {"mine": executor()})
    install("stranger-things", {"mine": executor()})
    with pytest.raises(PluginError) as error:
        mbexec.run(tables, executor="mine")
    assert sorted(re.findall(r"stranger?-things", str(error.value))) == ["strange-things", "stranger-things"]
    assert re.fullmatch(
        r"Two distributions offer a plugin named 'mine': \S+ and \S+; uninstall one of them\.", str(error.value)
    )


def test_two_distributions_with_one_name_do_not_matter_to_others(tables, install):
    """Who does not ask for the name is not troubled."""
    install("strange-things", {"mine": executor()})
    install("stranger-things", {"mine": executor()})
    assert mbexec.run(tables).result.success


def test_two_distributions_with_one_name_are_both_listed(install):
    """Each with what is wrong; the others with nothing."""
    install("strange-things", {"mine": executor()})
    install("stranger-things", {"mine": executor()})
    listed = installed_plugins()
    assert sorted(plugin.distribution for plugin in listed if plugin.name == "mine") == [
        "strange-things",
        "stranger-things",
    ]
    assert {plugin.name for plugin in listed if plugin.error} == {"mine"}
    assert all("Two distributions offer a plugin named 'mine'" in plugin.error for plugin in listed if plugin.error)


def test_two_distributions_with_one_program(tables, install):
    """Programs follow the same rule as plugins."""
    for name in ("strange-things", "stranger-things"):
        install(name, {"toy": "Toy"}, source="class Toy: pass", group="mbexec.programs")
    tables["program"]["program"] = "toy"
    with pytest.raises(PluginError, match=r"Two distributions offer a program named 'toy': stranger?-things and"):
        mbexec.run(tables)


def test_one_distribution_twice_on_the_path(tables, install):
    """An editable install beside a wheel, or a folder listed twice, counts once."""
    mine = executor()
    install("strange-things", {"mine": mine}, folder="first")
    install("strange-things", {"mine": mine}, folder="second")
    assert [plugin.distribution for plugin in installed_plugins() if plugin.name == "mine"] == ["strange-things"]
    assert mbexec.run(tables, executor="mine").result.success


def test_only_named_plugins_are_imported(tmp_path):
    """A serial run does not import the other executors."""
    tables = job(argon(3), max_nbody=2)
    script = (
        "import sys, mbexec\n"
        f"assert mbexec.run({tables!r}, executor='serial').result.success\n"
        "print([name for name in ('mbexec.plugins.serial', 'mbexec.plugins.threads', 'mbexec.plugins.structlog',"
        " 'mbexec.plugins.progress', 'mbexec_loky', 'loky') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "['mbexec.plugins.serial']\n"


# Importing


def test_importing_mbexec_imports_little():
    """Scripts, commands and worker processes start often; what takes long comes when it is needed."""
    dear = ["asyncio", "pydantic", "qcelemental", "qcengine", "qcmanybody", "rich", "scipy", "structlog", "yaml"]
    script = f"import sys, mbexec; print([name for name in {dear} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_plugin_that_fails_to_import(tables, install):
    """The sentence names the distribution, the error, and what to do."""
    install("strange-things", {"mine": "Mine"}, source="import a_module_that_is_not_there")
    with pytest.raises(PluginError) as error:
        mbexec.run(tables, executor="mine")
    assert str(error.value) == (
        "The plugin 'mine' of the distribution strange-things can't be imported: "
        "ModuleNotFoundError: No module named 'a_module_that_is_not_there'. "
        "Mend, upgrade or uninstall strange-things."
    )
    assert isinstance(error.value.__cause__, ModuleNotFoundError)


def test_a_plugin_that_fails_to_import_does_not_hide_the_others(tables, install):
    """It is listed with its error; everything else is listed and works."""
    before = installed_plugins()
    install("strange-things", {"mine": "Mine"}, source="1 / 0")
    after = installed_plugins()
    assert [plugin for plugin in after if plugin.name != "mine"] == before
    (broken,) = [plugin for plugin in after if plugin.name == "mine"]
    assert (broken.distribution, broken.version, broken.roles) == ("strange-things", "1.0", ())
    assert "can't be imported: ZeroDivisionError: division by zero" in broken.error
    assert mbexec.run(tables).result.success


def test_an_entry_point_whose_class_is_gone(tables, install):
    """A module without the name that the entry point promises is a plugin that can't be imported."""
    install("strange-things", {"mine": "Mine"}, source="")
    with pytest.raises(PluginError, match=r"'mine' of the distribution strange-things can't be imported: Attribute"):
        mbexec.run(tables, executor="mine")


def test_an_entry_point_that_is_no_class(tables, install):
    """An instance or a function is not built for a run, so it is refused."""
    install("strange-things", {"mine": "mine"}, source="mine = 5")
    with pytest.raises(PluginError) as error:
        mbexec.run(tables, executor="mine")
    assert str(error.value) == (
        "The plugin 'mine' of the distribution strange-things is 5; "
        "its entry point 'strange_things:mine' must name a class."
    )


def test_installed_plugins_say_what_they_can_be():
    """Name, distribution, version and roles, without being asked to run."""
    version = next(plugin.version for plugin in installed_plugins() if plugin.name == "serial")
    built_in = {plugin for plugin in installed_plugins() if plugin.distribution == "mbexec"}
    assert built_in >= {
        InstalledPlugin("manybody", "mbexec", version, ("planner",)),
        InstalledPlugin("serial", "mbexec", version, ("executor",)),
        InstalledPlugin("structlog", "mbexec", version, ("reporter",)),
        InstalledPlugin("threads", "mbexec", version, ("executor",)),
    }


# Hooks


@pytest.mark.parametrize(
    ("plugin", "role", "hook", "roles"),
    [
        ("manybody", "executor", "submit_level", "planner"),
        ("serial", "planner", "build_tasks", "executor"),
        ("serial", "reporter", "report_metrics", "executor"),
        ("structlog", "store", "recall_results", "reporter"),
    ],
    ids=["executor", "planner", "reporter", "store"],
)
def test_a_plugin_that_lacks_the_hook_of_its_role(tables, plugin, role, hook, roles):
    """The sentence names the hook, and what the plugin can be."""
    with pytest.raises(HookError) as error:
        mbexec.run(tables, **{f"run.{'reporters' if role == 'reporter' else role}": plugin})
    assert str(error.value) == (
        f"The plugin {plugin!r} is no {role}: it does not implement {hook}. Its roles: {roles}; {ADVICE}"
    )


def test_half_a_planner(tables, install):
    """A planner that plans and can't merge is refused before anything runs."""

    class Half:
        @hookimpl
        def build_tasks(self, spec, config):
            raise AssertionError("planned")

    install("strange-things", {"half": Half})
    with pytest.raises(HookError) as error:
        mbexec.run(tables, planner="half")
    assert str(error.value) == (
        f"The plugin 'half' is no planner: it does not implement merge_results. Its roles: none; {ADVICE}"
    )


def test_two_owners_of_a_hook(tables, install):
    """An executor that plans too, beside a planner: both are named."""

    @hookimpl
    def build_tasks(self, spec, config):
        raise AssertionError("planned")

    install("strange-things", {"greedy": executor(build_tasks=build_tasks)})
    with pytest.raises(HookError) as error:
        mbexec.run(tables, executor="greedy")
    assert str(error.value) == (
        "2 plugins implement build_tasks: greedy, manybody; exactly one may. Choose other plugins in [run]."
    )


def test_no_owner_of_a_hook(tables, install):
    """A wrapper alone has nothing to wrap."""

    class Wrapper:
        @hookimpl(wrapper=True)
        def submit_level(self, level, work):
            return (yield)

    install("strange-things", {"wrapper": Wrapper})
    with pytest.raises(HookError) as error:
        mbexec.run(tables, executor="wrapper")
    assert str(error.value) == (
        "No plugin implements submit_level, but for wrappers; exactly one must. Choose one in [run]."
    )


@pytest.mark.parametrize("style", ["wrapper", "hookwrapper"])
def test_a_wrapper_is_no_owner(tables, install, style):
    """A reporter may wrap the executor's hook, and sees what it is called with."""
    seen = []

    class Watcher:
        @hookimpl
        def report_metrics(self, event):
            pass

        @hookimpl(**{style: True})
        def submit_level(self, level, work):
            seen.append(len(level))
            return (yield)

    install("strange-things", {"watcher": Watcher})
    assert mbexec.run(tables, reporters=["watcher"]).result.success
    assert seen == [6]


def test_a_misspelt_hook(tables, install):
    """A hook that nobody would ever call is refused, with the name that was meant."""

    class Mine:
        @hookimpl
        def submit_levl(self, level, work):
            raise AssertionError("called")

    install("strange-things", {"mine": Mine})
    with pytest.raises(HookError) as error:
        mbexec.run(tables, executor="mine")
    assert str(error.value) == (
        "The plugin 'mine' has an unknown hook submit_levl. Did you mean submit_level? Known: "
        "build_tasks, choose_tasks, keep_result, merge_results, recall_results, report_metrics, submit_level."
    )
    assert [plugin.error for plugin in installed_plugins() if plugin.name == "mine"] == [str(error.value)]


def test_a_hook_of_a_later_version(tables, install):
    """A hook marked optional may be unknown: the plugin serves several versions of mbexec."""

    @hookimpl(optionalhook=True)
    def forecast_weather(self, place):
        raise AssertionError("called")

    install("strange-things", {"mine": executor(forecast_weather=forecast_weather)})
    assert mbexec.run(tables, executor="mine").result.success


def test_a_hook_with_a_wrong_argument(tables, install):
    """The sentence shows the hook as the plugin has it, and the arguments that there are."""

    class Mine:
        @hookimpl
        def submit_level(self, tasks, work):
            raise AssertionError("called")

    install("strange-things", {"mine": Mine})
    with pytest.raises(HookError) as error:
        mbexec.run(tables, executor="mine")
    assert str(error.value) == (
        "The plugin 'mine' has a hook submit_level(tasks, work) that can't be called: "
        "submit_level has no argument 'tasks'. Known: level, work."
    )


def test_a_hook_with_fewer_arguments(tables, install):
    """A hook takes only what it needs."""
    told = []

    class Mine:
        @hookimpl
        def report_metrics(self):
            told.append(True)

    install("strange-things", {"mine": Mine})
    mbexec.run(tables, reporters=["mine"])
    assert len(told) >= 1 + 6 + 2 * 2 + 1  # a run and two levels begin and end, six fragments end


def test_a_wrapper_that_never_yields(tables, install):
    """What pluggy has against a hook comes as one line."""

    class Mine:
        @hookimpl(wrapper=True)
        def submit_level(self, level, work):
            raise AssertionError("called")

    install("strange-things", {"mine": Mine})
    with pytest.raises(HookError, match=r"^The plugin 'mine' has a hook that can't be called: .*generator") as error:
        mbexec.run(tables, executor="mine")
    assert "\n" not in str(error.value)


async def _coroutine(self, level, work):
    raise AssertionError("called")


async def _generator(self, level, work):
    yield


@pytest.mark.parametrize("hook", [_coroutine, _generator], ids=["coroutine", "generator"])
def test_an_async_hook(tables, install, hook):
    """Nobody would await it, so it is refused with what to do instead."""
    install("strange-things", {"mine": type("Mine", (), {"submit_level": hookimpl(hook)})})
    with pytest.raises(HookError) as error:
        mbexec.run(tables, executor="mine")
    assert str(error.value) == (
        "The plugin 'mine' has an async hook, submit_level, which would never be awaited; "
        "make it a plain method and run a loop inside."
    )


def test_an_unhashable_plugin(tables, install):
    """Classes that attrs defines are unhashable unless told otherwise; the sentence tells how."""

    @define
    class Mine:
        @hookimpl
        def submit_level(self, level, work):
            raise AssertionError("called")

    install("strange-things", {"mine": Mine})
    with pytest.raises(HookError) as error:
        mbexec.run(tables, executor="mine")
    assert str(error.value) == (
        "The plugin 'mine' can't be registered: it is not hashable; use attrs.define(eq=False)."
    )


def test_a_wrapper_fills_no_role(install):
    """Whoever looks at what the planner does, a store say, is no planner."""

    class Watching:
        @hookimpl(wrapper=True)
        def build_tasks(self, spec):
            return (yield)

        @hookimpl
        def report_metrics(self, event):
            pass

    install("strange-things", {"mine": Watching})
    (found,) = [plugin for plugin in installed_plugins() if plugin.name == "mine"]
    assert found.roles == ("reporter",)


def test_a_plugin_of_two_roles_is_built_once(tables, install):
    """One instance executes and reports."""
    built = []

    class Both(executor()):
        def __init__(self):
            built.append(self)

        @hookimpl
        def report_metrics(self, event):
            assert built == [self]

    install("strange-things", {"both": Both})
    mbexec.run(tables, executor="both", reporters=["both"])
    assert len(built) == 1


# Settings


@define(eq=False)
class Fussy:
    """An executor with settings."""

    chunk: int = field(default=1, validator=[validators.instance_of(int), validators.gt(0)])
    colour: str = "red"

    def __attrs_post_init__(self):
        if self.colour == "green":
            raise KeyError("green")

    @hookimpl
    def submit_level(self, level, work):
        assert self.colour == "blue"
        for task in level:
            yield work(task)


def test_settings_reach_the_plugin(tables, install):
    """[plugin.NAME] is what the class is called with."""
    install("strange-things", {"fussy": Fussy})
    tables["plugin"] = {"fussy": {"colour": "blue"}}
    assert mbexec.run(tables, executor="fussy").result.success


def test_an_unknown_setting_of_a_plugin(tables, install):
    """The known ones are listed, the nearest is offered, and where it is from is said."""
    install("strange-things", {"fussy": Fussy})
    with pytest.raises(ConfigError) as error:
        mbexec.run(tables, executor="fussy", **{"plugin.fussy.color": "blue"})
    assert str(error.value) == (
        "argument: unknown setting plugin.fussy.color. Did you mean plugin.fussy.colour? "
        "Known: plugin.fussy.chunk, plugin.fussy.colour."
    )


def test_a_setting_of_a_plugin_without_settings(tables):
    """Nothing is known, and that is said."""
    tables["plugin"] = {"serial": {"speed": "high"}}
    with pytest.raises(ConfigError) as error:
        mbexec.run(tables)
    assert str(error.value) == "the input: unknown setting plugin.serial.speed. Known: none."


@pytest.mark.parametrize(
    ("plugin", "table", "words"),
    [
        ("loky", {"chunk_time": "x"}, "chunk_time = 'x' must be a number."),
        ("loky", {"recycle_after": "x"}, "recycle_after = 'x' must be a whole number."),
        ("loky", {"recycle_memory": []}, "recycle_memory = [] must be a number."),
        ("asyncio", {"repeat": 1.5}, "repeat = 1.5 must be a whole number."),
        ("progress", {"interval": "x"}, "interval = 'x' must be a number."),
        ("sqlite", {"path": "x.store", "bodies": 1}, "bodies = 1 must be true or false."),
        ("sqlite", {"path": 3}, "path = 3 must be text."),
        ("strange", {"pair": 1}, "pair = 1 must be a list or a table or Fussy."),
    ],
    ids=lambda given: next(reversed(given)) if isinstance(given, dict) else "",
)
def test_kinds_of_settings_are_named_in_words(install, plugin, table, words):
    """As people know them, whoever's plugin it is."""

    @define(eq=False)
    class Strange:
        pair: object = field(default=None, validator=validators.instance_of((list, dict, Fussy)))

    install("strange-things", {"strange": Strange})
    config = RunConfig(RunSettings(), TaskSettings(), plugin={plugin: table})
    with pytest.raises(ConfigError) as error:
        manager._build(plugin, manager.find_plugin(plugin, "plugin"), config)
    assert str(error.value) == f"[plugin.{plugin}] {table!r} is not accepted: {words}"


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"chunk": -1}, "'chunk' must be > 0: -1"),
        ({"chunk": "x"}, "chunk = 'x' must be a whole number."),
        ({"colour": "green"}, "KeyError: green"),
    ],
    ids=["value", "type", "own"],
)
def test_a_setting_that_the_class_refuses(tables, install, setting, words):
    """The class's own words, after the table that it refuses."""
    install("strange-things", {"fussy": Fussy})
    tables["plugin"] = {"fussy": setting}
    with pytest.raises(ConfigError) as error:
        mbexec.run(tables, executor="fussy")
    assert str(error.value) == f"[plugin.fussy] {setting!r} is not accepted: {words}"


@pytest.mark.parametrize("kind", [ConfigError, HookError, PluginError, PluginNotFoundError])
def test_the_errors_pickle(kind):
    """They can be raised in one process and read in another."""
    error = pickle.loads(pickle.dumps(kind("what happened")))
    assert type(error) is kind
    assert str(error) == "what happened"


def test_distributions_are_looked_through_once(tables, install, monkeypatch):
    """Looking takes 10 ms; but what is installed meanwhile is found."""
    looked = []
    monkeypatch.setattr(
        manager, "entry_points", lambda **given: looked.append(given) or importlib.metadata.entry_points(**given)
    )
    install("another", {"another": executor()})
    for _ in range(3):
        mbexec.run(tables, executor="another")
    assert sorted(each["group"] for each in looked) == ["mbexec", "mbexec.programs"]
    install("one-more", {"one_more": executor()})
    assert mbexec.run(tables, executor="one_more").result.success
