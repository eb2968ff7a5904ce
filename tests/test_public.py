"""What is public: the names, their documentation, and what of it travels between processes."""

import ast
import copy
import copyreg
import importlib
import inspect
import pickle
import pkgutil

import attrs
import numpy as np
import pytest

import mbexec
from mbexec import NeedContext, Task, TaskError, TaskResult, hookspecs
from mbexec.core import errors
from mbexec.core.config import Layer
from mbexec.core.engine import make_plan, read_job
from mbexec.core.prepare import context_of
from mbexec.core.program import Programs, run_task
from tests.systems import WATER_TRIMER, job

MODULES = sorted(module.name for module in pkgutil.walk_packages(mbexec.__path__, "mbexec."))
ERRORS = [value for value in map(vars(errors).get, errors.__all__) if inspect.isclass(value)]


def public(module):
    """Functions and classes that a module defines itself, unless their names begin with an underscore."""
    return {
        name
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
        and not name.startswith("_")
    }


def commands(module):
    """Commands of the command line, which are called by their names there."""
    import click

    return {name for name, value in vars(module).items() if isinstance(value, click.Command)}


# Names


@pytest.mark.parametrize("name", ["mbexec", *MODULES])
def test_all_is_what_a_module_defines(name):
    """Every public function and class is listed, what is listed is there, and constants stand first; sorted."""
    module = importlib.import_module(name)
    source = ast.parse(inspect.getsource(module))
    empty = len(source.body) == 1  # nothing but a docstring
    listed = getattr(module, "__all__", [])
    assert empty or "__all__" in vars(module)
    assert listed == sorted(listed, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert len(listed) == len(set(listed))
    assert [missing for missing in listed if not hasattr(module, missing)] == []
    assert public(module) <= set(listed)


def test_the_package_lists_what_it_imports():
    """`from mbexec import *` gives each name that the package offers, and no module."""
    names = {name for name, value in vars(mbexec).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert names == set(mbexec.__all__)


def test_every_error_is_public():
    """Whoever catches one can import it."""
    assert {error.__name__ for error in ERRORS} <= set(mbexec.__all__)


def test_every_error_is_one_of_ours():
    """MbexecError catches them all; the tree is the one drawn in the docstring."""
    assert all(issubclass(error, errors.MbexecError) for error in ERRORS)
    for error in ERRORS:
        assert f" {error.__name__}" in errors.__doc__ or error is errors.MbexecError


# Documentation


@pytest.mark.parametrize("name", ["mbexec", *MODULES])
def test_modules_are_documented(name):
    """A sentence that says what the module is for."""
    assert importlib.import_module(name).__doc__.strip().endswith((".", '"'))


def documented():
    """Public functions and classes, and the public methods of the classes."""
    for name in ["mbexec", *MODULES]:
        module = importlib.import_module(name)
        for attribute in public(module):
            value = getattr(module, attribute)
            yield f"{name}.{attribute}", value
            if inspect.isclass(value):
                for method, function in vars(value).items():
                    if not method.startswith("_") and (inspect.isfunction(function) or isinstance(function, property)):
                        yield f"{name}.{attribute}.{method}", function


def test_public_things_are_documented():
    """Functions, classes, methods and properties."""
    assert [name for name, value in documented() if not (inspect.getdoc(value) or "").strip()] == []


def test_data_classes_document_their_attributes():
    """Each field of a public data class stands in its docstring."""
    missing = [
        f"{name}.{field.name}"
        for name in mbexec.__all__
        if inspect.isclass(cls := getattr(mbexec, name)) and attrs.has(cls)
        for field in attrs.fields(cls)
        if not field.name.startswith("_") and field.name not in cls.__doc__
    ]
    assert missing == []


def test_functions_document_their_parameters():
    """Each parameter of a public function of the package stands in its docstring, or in that of the one it is like."""
    for function in (mbexec.run, mbexec.expand, mbexec.exact_dot, mbexec.run_chunk, mbexec.worker_versions):
        doc = inspect.getdoc(function)
        assert [name for name in inspect.signature(function).parameters if name not in doc] == []


@pytest.mark.parametrize(
    "hook",
    [
        *("build_tasks", "choose_tasks", "submit_level", "merge_results"),
        *("report_metrics", "recall_results", "keep_result"),
    ],
)
def test_hooks_document_their_arguments(hook):
    """Each argument stands in the docstring, under Parameters."""
    specification = getattr(hookspecs, hook)
    _, parameters = inspect.getdoc(specification).split("Parameters\n----------\n")
    assert [name for name in inspect.signature(specification).parameters if f"{name}\n    " not in parameters] == []


def test_there_are_seven_hooks():
    """The five of a run and the two of a store."""
    hooks = {name for name, value in vars(hookspecs).items() if hasattr(value, "mbexec_spec")}
    assert hooks == set(hookspecs.__all__) - {"hookimpl", "hookspec"}
    assert len(hooks) == 7


# What travels


def travelled(thing):
    """As it arrives in another process."""
    return pickle.loads(pickle.dumps(thing))


TASK = Task(7, "(auto)", (2,), (1, 2, 3))


@pytest.mark.parametrize(
    "thing",
    [
        TASK,
        TaskError("convergence_error", "SCF did not converge"),
        NeedContext("0123abc"),
        Layer("job.toml", {"run": {"workers": 2}}),
        mbexec.RunSettings(executor="loky", reporters=("progress",)),
        mbexec.TaskSettings(ncores=2, memory=1.5),
        mbexec.Contribution("cp", 2, "(auto)"),
        mbexec.PlannedLevel(2, 3, 6),
    ],
    ids=lambda thing: type(thing).__name__,
)
def test_data_pickles(thing):
    """By plain pickle, and comes back equal."""
    assert travelled(thing) == thing


def test_a_task_keeps_its_name(tables):
    """Label and n-body follow from what travels."""
    task = travelled(TASK)
    assert (task.label, task.nbody) == ('["(auto)", [2], [1, 2, 3]]', 1)


def test_settings_pickle(tables):
    """All of them, with their sources."""
    config = read_job({**tables, "plugin": {"loky": {"chunk_time": 1}}}, {"workers": 2})[1]
    assert travelled(config) == config


def test_results_pickle():
    """Numbers to the last bit, errors, times and bodies."""
    gradient = np.random.default_rng(3).normal(size=(4, 3))
    result = TaskResult(3, {"energy": 1 / 3, "gradient": gradient}, None, 1.5, 2.5, 0.25, "here:1:2", b"{}")
    again = travelled(result)
    assert attrs.asdict(again, filter=attrs.filters.exclude("values")) == attrs.asdict(
        result, filter=attrs.filters.exclude("values")
    )
    assert again.values["energy"] == 1 / 3
    assert again.values["gradient"].tobytes() == gradient.tobytes()
    failed = TaskResult(3, error=TaskError("random_error", "a cosmic ray"))
    assert travelled(failed).error == failed.error


def test_values_of_a_result_can_not_be_replaced():
    """The store, reporters and the merger get the same one."""
    result = TaskResult(0, {"energy": 1.0})
    for one in (result, travelled(result), copy.deepcopy(result), result.noted("a note")):
        with pytest.raises(TypeError):
            one.values["energy"] = 2.0
        assert one.values == {"energy": 1.0}


def test_contexts_pickle():
    """What arrives runs the same fragments to the same bits."""
    tables = job(WATER_TRIMER, bsse="cp", driver="gradient")
    spec, config = read_job(tables, {})
    plan = make_plan(spec, config)
    context = context_of(plan, config)
    here, there = Programs(context), Programs(travelled(context))
    for task in plan:
        ours, theirs = run_task(task, here), run_task(travelled(task), there)
        assert theirs.values["energy"] == ours.values["energy"]
        assert theirs.values["gradient"].tobytes() == ours.values["gradient"].tobytes()


def test_plans_pickle(tables):
    """Arrays, input and all."""
    plan = mbexec.plan(tables)
    again = travelled(plan)
    assert list(again) == list(plan)
    assert again.expansion.coefficients.tobytes() == plan.expansion.coefficients.tobytes()
    assert again.spec == plan.spec


def test_run_results_pickle(tables):
    """A notebook may keep them."""
    found = mbexec.run(tables)
    again = travelled(found)
    assert again.contributions == found.contributions
    assert again.report == found.report
    assert again.result.return_result == found.result.return_result


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_errors_pickle(kind):
    """Type, message and attributes."""
    error = kind("what happened")
    error.add_note("on a Monday")
    again = travelled(error)
    assert type(again) is kind
    assert again.args == ("what happened",)
    assert again.__notes__ == ["on a Monday"]
    assert again.__cause__ is None


def raised(cause):
    """An error of ours with a cause."""
    try:
        raise mbexec.ProgramError("It broke.") from cause
    except mbexec.ProgramError as error:
        return error


def test_causes_travel_with_errors():
    """An error from another process says why, all the way down."""
    again = travelled(raised(raised(KeyError("ncores"))))
    assert type(again.__cause__) is mbexec.ProgramError
    assert type(again.__cause__.__cause__) is KeyError
    assert again.__cause__.__cause__.args == ("ncores",)


class Unreadable(Exception):  # noqa: N818 - what strangers raise is named as they like
    """Pickles, and can't be read back: it takes more than one argument."""

    def __init__(self, where, why):
        super().__init__(f"{why} in {where}")

    def __reduce__(self):
        return type(self), self.args  # as exceptions do, unless tblib is imported and does better


class Unwritable(Exception):  # noqa: N818 - what strangers raise is named as they like
    """Can't be pickled."""

    def __reduce__(self):
        raise TypeError("no")


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        (Unreadable("the basement", "flood"), "Unreadable: flood in the basement"),
        (Unwritable("flood"), "Unwritable: flood"),
    ],
    ids=["unreadable", "unwritable"],
)
def test_causes_that_cannot_travel_send_their_words(cause, words):
    """An error never fails to arrive because of what caused it."""
    again = travelled(raised(cause))
    assert str(again) == "It broke."
    assert str(again.__cause__) == words


def foreign(error):
    """What tblib does of all exceptions, once Dask is imported: the cause goes as it is."""
    make, args, *_ = error.__reduce__()
    return put_together, (make, args, error.__cause__)


def put_together(make, args, cause):
    error = make(*args)
    error.__cause__ = cause
    return error


def test_nobody_else_pickles_our_errors(monkeypatch):
    """Whoever tells pickle how to treat all exceptions does not undo that ours always arrive."""
    monkeypatch.setitem(copyreg.dispatch_table, mbexec.ProgramError, foreign)
    again = travelled(raised(Unwritable("flood")))
    assert str(again.__cause__) == "Unwritable: flood"
