"""What crosses a process boundary arrives unchanged, whatever it holds: plain pickle of every public data class."""

import pickle
import struct
from collections.abc import Mapping

import attrs
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from qcelemental.models.v2 import FailedOperation

import mbexec
from mbexec.core.context import Cluster, Context
from tests.systems import argon, job

NOT_DATA = {"ArraySum", "Level", "RunResult", "Work"}  # tools of a run; RunResult travels in tests/test_public.py

text = st.text(max_size=20)
numbers = st.floats(allow_nan=True, allow_infinity=True)
counts = st.integers(0, 10**9)
names = st.text(min_size=1, max_size=10)


def same(one, other):
    """Equal in type and content, floats to the last bit: NaN is NaN, -0.0 is not 0.0."""
    assert type(one) is type(other)
    if attrs.has(type(one)):
        for field in attrs.fields(type(one)):
            same(getattr(one, field.name), getattr(other, field.name))
    elif isinstance(one, np.ndarray):
        assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    elif isinstance(one, Mapping):
        assert list(one) == list(other)
        for key in one:
            same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            same(a, b)
    elif isinstance(one, float):
        assert struct.pack("d", one) == struct.pack("d", other)
    else:
        assert one == other


def values():
    """What a program may give for a fragment of a few atoms."""
    return st.integers(1, 3).flatmap(
        lambda nat: st.fixed_dictionaries(
            {"energy": numbers},
            optional={
                "gradient": arrays(np.float64, (nat, 3), elements=numbers),
                "hessian": arrays(np.float64, (3 * nat, 3 * nat), elements=numbers),
            },
        )
    )


def expansions():
    """Expansions of up to four fragments."""
    return st.builds(
        lambda nfr, share, bsse, total: mbexec.expand(
            mbexec.FragmentSets.full(nfr, max(1, int(share * nfr))),
            bsse_type=bsse,
            levels=dict.fromkeys(range(1, max(1, int(share * nfr)) + 1), "(auto)"),
            return_total_data=total,
        ),
        st.integers(2, 4),
        st.floats(0, 1),
        st.lists(st.sampled_from(["nocp", "cp", "vmfc"]), min_size=1, unique=True),
        st.booleans(),
    )


def clusters():
    """The arrays of a parent molecule, whatever they say."""
    return st.integers(1, 4).flatmap(
        lambda nat: st.builds(
            Cluster,
            name=text,
            symbols=arrays(np.dtype("<U2"), nat, elements=st.sampled_from(["H", "He", "Ar"])),
            geometry=arrays(np.float64, (nat, 3), elements=numbers),
            masses=arrays(np.float64, nat, elements=numbers),
            fragments=st.just((np.arange(nat, dtype=np.int32),)),
            charges=st.tuples(numbers),
            multiplicities=st.tuples(numbers),
            fix_symmetry=st.sampled_from([None, "c1"]),
        )
    )


def symmetries():
    """Two atoms a task, the last of which stand for none of their own."""
    return st.integers(1, 4).flatmap(
        lambda m: st.builds(
            mbexec.Symmetry,
            numbers,
            st.just(np.array([0] * (m + 1), dtype=np.int64)),
            arrays(np.float64, (m, 3, 3), elements=numbers),
            arrays(np.int32, 2 * m, elements=st.integers(0, 1)),
            st.just(2 * np.arange(m + 1)),
            arrays(np.float64, m, elements=numbers),
        )
    )


@pytest.fixture(scope="module")
def spec():
    return mbexec.plan(job(argon(4))).spec


fragments = st.lists(counts, min_size=1, max_size=5).map(tuple)
tasks = st.builds(mbexec.Task, counts, text, fragments, fragments)
failures = st.builds(mbexec.TaskError, text, text)
results = st.builds(
    mbexec.TaskResult,
    counts,
    values(),
    st.none() | failures,
    *(numbers for _ in range(3)),
    text,
    st.none() | st.binary(),
    lost=st.none() | numbers,
    peak_memory=counts,
)
run_settings = st.builds(
    mbexec.RunSettings, names, names, st.lists(names).map(tuple), st.none() | names, counts, st.sampled_from(["cost"])
)
task_settings = st.builds(mbexec.TaskSettings, counts, numbers, st.none() | numbers, counts, st.none() | text, counts)
levels = st.builds(
    mbexec.LevelReport,
    *(counts for _ in range(5)),
    *(numbers for _ in range(2)),
    *(st.none() | numbers for _ in range(4)),
)
reports = st.builds(
    mbexec.RunReport,
    text,
    text,
    counts,
    numbers,
    numbers,
    st.lists(levels).map(tuple),
    *(st.none() | numbers for _ in range(7)),
    counts,
    numbers,
    *(st.none() | counts for _ in range(2)),
    st.none() | st.tuples(counts, counts),
)
configs = st.builds(
    mbexec.RunConfig,
    run_settings,
    task_settings,
    plugin=st.dictionaries(names, st.dictionaries(names, counts | numbers | text)),
    sources=st.dictionaries(names, text),
)


def failed_operation(error):
    return FailedOperation(input_data={}, error=attrs.asdict(error))


DATA = {
    "Contribution": st.builds(mbexec.Contribution, text, counts, text, st.booleans()),
    "Expansion": expansions(),
    "FragmentDone": st.builds(mbexec.FragmentDone, tasks, results, st.booleans(), numbers, numbers, numbers),
    "FragmentHeld": st.builds(mbexec.FragmentHeld, tasks, results, numbers, numbers),
    "FragmentStarted": st.builds(mbexec.FragmentStarted, tasks, numbers),
    "FragmentSets": st.builds(mbexec.FragmentSets.full, st.integers(1, 6), st.integers(1, 3)),
    "LevelDone": st.builds(mbexec.LevelDone, levels),
    "LevelReport": levels,
    "LevelStarted": st.builds(mbexec.LevelStarted, counts, counts),
    "NeedContext": st.builds(mbexec.NeedContext, text),
    "Plan": expansions(),
    "PlannedLevel": st.builds(mbexec.PlannedLevel, counts, counts, counts),
    "RunConfig": configs,
    "RunDone": st.builds(mbexec.RunDone, reports, st.builds(failed_operation, failures)),
    "RunReport": reports,
    "RunSettings": run_settings,
    "RunStarted": st.builds(
        mbexec.RunStarted,
        text,
        text,
        counts,
        st.lists(st.tuples(counts, counts)).map(tuple),
        expansions(),
        configs,
        arrays(np.float64, 3, elements=numbers),
        text,
        st.dictionaries(text, text),
    ),
    "Symmetry": symmetries(),
    "Task": tasks,
    "TaskError": failures,
    "TaskResult": results,
    "TaskSettings": task_settings,
    "TasksLeftOut": st.builds(mbexec.TasksLeftOut, arrays(np.int64, 3), st.lists(st.tuples(counts, counts)).map(tuple)),
}


def test_every_public_data_class_is_here():
    """A new one needs its strategy."""
    classes = {name for name in mbexec.__all__ if attrs.has(getattr(mbexec, name, None))}
    assert set(DATA) == classes - NOT_DATA


@pytest.mark.parametrize("name", DATA)
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_data_arrives_unchanged(name, data, spec):
    """Every field, to the last bit."""
    thing = data.draw(DATA[name])
    if name == "Plan":
        thing = mbexec.Plan(spec, thing)
    if name == "RunStarted":
        thing = attrs.evolve(thing, plan=mbexec.Plan(spec, thing.plan))
    same(pickle.loads(pickle.dumps(thing)), thing)


@settings(deadline=None, max_examples=50)
@given(cluster=clusters(), task=task_settings, bodies=st.booleans(), stripped=st.frozensets(names))
def test_contexts_arrive_unchanged(cluster, task, bodies, stripped):
    """What a worker gets once: cluster, settings and all."""
    context = Context(cluster, {}, {"mine": "mine:Mine"}, task, bodies, stripped)
    same(pickle.loads(pickle.dumps(context)), context)
