"""Keys: whatever decides a result's numbers is in them, and nothing else is."""

from __future__ import annotations

import itertools
import re
from copy import deepcopy
from pathlib import Path

import attrs
import numpy as np
import pytest
from qcelemental.models.v2 import BasisSet

from mbexec import InputError, TaskResult
from mbexec.core.engine import make_plan, read_job
from mbexec.core.harness import surroundings
from mbexec.core.prepare import context_of, keys_of
from mbexec.core.program import Programs
from tests.systems import job

NEON = "0 1\nNe 0 0 0\n--\n0 1\nAr 0 0 3.9\n--\n1 2\nMg 0 4.2 0.3"
VERSIONS = {"pyscf": "2.14.0", "psi4": "1.3.2"}


def tables(**program):
    given = job(NEON, bsse="vmfc", max_nbody=2, program={"program": "pyscf", "method": "hf", "basis": "6-31g"})
    given["program"] |= program
    return given


def keys(spec, changed=lambda context: context, versions=VERSIONS, **settings):
    """The key of each task, by real fragments and basis."""
    plan = make_plan(*read_job(spec, settings))
    context = changed(context_of(plan, read_job(spec, settings)[1]))
    made = keys_of(plan, context, versions)
    return {(task.frag, task.bas): made.own(task, TaskResult(task.index)) for task in plan}


SHELL = {
    "angular_momentum": [0],
    "harmonic_type": "spherical",
    "exponents": [1.5],
    "coefficients": [[1.0]],
}
ONE = ((1,), (1,))
PAIR = ((1, 2), (1, 2))
GHOSTED = ((1,), (1, 2))


def moved(context, by):
    geometry = context.cluster.geometry.copy()
    geometry[0, 0] += by
    return attrs.evolve(context, cluster=attrs.evolve(context.cluster, geometry=geometry))


def cluster(**changes):
    return lambda context: attrs.evolve(context, cluster=attrs.evolve(context.cluster, **changes))


def specification(**changes):
    def changed(context):
        changes_of = {"model": {"basis", "method"} & changes.keys()}
        own = context.specifications["(auto)"]
        model = own.model.model_copy(update={name: changes[name] for name in changes_of["model"]})
        rest = {name: value for name, value in changes.items() if name not in changes_of["model"]}
        new = own.model_copy(update={"model": model, **rest})
        return attrs.evolve(context, specifications={"(auto)": new})

    return changed


def test_every_calculation_has_a_key_of_its_own():
    """Fragments, ghosts and all: nothing in a vmfc expansion is the same calculation as anything else in it."""
    found = keys(tables())
    assert len(set(found.values())) == len(found) == 12
    assert all(len(key) == 40 and int(key, 16) for key in found.values())


def test_keys_last():
    """The same today as when results were first kept under them: a change here makes every store useless."""
    found = keys(tables())
    assert found[ONE] == "6af3d2f8c44eb9451a68d7cd1105d49fd2c5b972"
    assert found[GHOSTED] == "7faa5b785777d4ba1e9f9f3c9a2ba48eaba9f65d"


DIFFERENT = {
    "an atom moved": lambda context: moved(context, 1e-8),
    "an atom moved by less than QCSchema's decimals, in a molecule that keeps more": lambda c: moved(c, 3e-9),
    "an element": cluster(symbols=np.array(["He", "Ar", "Mg"])),
    "an isotope": cluster(masses=np.array([21.99, 39.96, 23.99])),
    "charge": cluster(charges=(2.0, 0.0, 1.0)),
    "multiplicity": cluster(multiplicities=(3.0, 1.0, 2.0)),
    "symmetry": cluster(fix_symmetry=None),
    "program": specification(program="psi4"),
    "method": specification(method="mp2"),
    "basis": specification(basis="cc-pvdz"),
    "no basis": specification(basis=None),
    "a basis of one's own": specification(
        basis=BasisSet(
            name="one",
            center_data={"Ne": {"electron_shells": [SHELL]}},
            atom_map=["Ne"],
        )
    ),
    "a keyword": specification(keywords={"conv_tol": 1e-11}),
    "an array as keyword": specification(keywords={"start": np.arange(3)}),
    "extras": specification(extras={"charge_model": "mine"}),
}


@pytest.mark.parametrize("change", DIFFERENT.values(), ids=DIFFERENT)
def test_what_decides_the_numbers_is_in_the_key(change):
    """Each changes the keys of the calculations that it is part of, and no two changes come to the same."""
    before, after = keys(tables()), keys(tables(), change)
    assert before.keys() == after.keys()
    assert all(before[task] != after[task] for task in (ONE, PAIR, GHOSTED))


def test_no_two_changes_give_the_same_keys():
    """Text is told from numbers, arrays from lists, and where one field ends and the next begins counts."""
    found = [keys(tables(), change)[PAIR] for change in DIFFERENT.values()]
    found += [keys(tables(keywords={"a": value}))[PAIR] for value in (1, "1", [1], True, {"a": 1}, "")]
    found += [keys(tables(method="h", basis="f6-31g"))[PAIR], keys(tables(), versions={"pyscf": "2.14.1"})[PAIR]]
    assert len(set(found)) == len(found)


def test_a_key_has_the_version_of_its_program():
    """An upgrade makes results of the one before out of date; one of another program does not."""
    assert keys(tables(), versions={"pyscf": "2.15.0"})[ONE] != keys(tables())[ONE]
    assert keys(tables(), versions={**VERSIONS, "psi4": "1.9"})[ONE] == keys(tables())[ONE]


def test_a_key_has_the_driver():
    """A gradient is not kept as an energy."""
    found = [keys(tables() | {"mbe": {**tables()["mbe"], "driver": driver}})[ONE] for driver in ("energy", "gradient")]
    assert found[0] != found[1]


def test_ghosts_that_are_left_out():
    """That counts where there are ghosts, and nowhere else: nocp and cp share what has none."""
    before = keys(tables())
    after = keys(tables(), lambda context: attrs.evolve(context, stripped=frozenset(["(auto)"])))
    assert before[ONE] == after[ONE]
    assert before[PAIR] == after[PAIR]
    assert before[GHOSTED] != after[GHOSTED]


def test_ghosts_have_neither_charge_nor_spin():
    """A cation's ghost is an atom's: what its electrons would do counts where it is real."""
    before, after = keys(tables()), keys(tables(), cluster(charges=(0.0, 0.0, 0.0), multiplicities=(1.0, 1.0, 1.0)))
    assert before[((1,), (1, 3))] == after[((1,), (1, 3))]
    assert before[((3,), (1, 3))] != after[((3,), (1, 3))]


SAME = {
    "minus zero": lambda context: cluster(geometry=-(0.0 - context.cluster.geometry))(context),
    "name": cluster(name="of no matter"),
    "cores": lambda context: attrs.evolve(context, task=attrs.evolve(context.task, ncores=7, memory=99.0)),
    "scratch": lambda context: attrs.evolve(context, task=attrs.evolve(context.task, scratch_directory="/elsewhere")),
    "bodies": lambda context: attrs.evolve(context, bodies=True),
    "properties": lambda context: attrs.evolve(context, properties={"scf_dipole_moment": (3,)}),
}


@pytest.mark.parametrize("change", SAME.values(), ids=SAME)
def test_what_decides_nothing_is_not_in_the_key(change):
    """The keys stay as they are."""
    assert keys(tables(), change) == keys(tables())


def test_noise_below_the_decimals_of_qcschema_does_not_count():
    """QCSchema rounds geometries to 8 decimals of a0, and programs see them so."""
    noisy = tables()
    noisy["molecule"]["geometry"] = NEON.replace("3.9", "3.900000001")
    assert keys(noisy) == keys(tables())


def test_settings_do_not_count():
    """Neither who runs fragments, nor how many at once, nor how often they are tried."""
    given = {"executor": "serial", "workers": 7, "task.retries": 3, "task.timeout": 5.0, "schedule": "nbody"}
    assert keys(tables(), **given) == keys(tables())


def test_the_order_of_keywords_does_not_count():
    """A table has none."""
    one = keys(tables(keywords={"conv_tol": 1e-9, "max_cycle": 50}))
    assert one == keys(tables(keywords={"max_cycle": 50, "conv_tol": 1e-9}))


def test_program_names_are_the_same_in_any_case():
    """As they are for QCEngine."""
    assert keys(tables(program="PySCF")) == keys(tables())


def test_one_more_fragment_changes_nothing_for_the_others():
    """What counts is a calculation, not its place in the cluster."""
    longer = deepcopy(tables())
    longer["molecule"]["geometry"] += "\n--\n0 1\nHe 0 0 -4"
    before, after = keys(tables()), keys(longer)
    assert before.items() <= after.items()


@pytest.mark.parametrize("bsse", ["nocp", "cp", ["cp", "nocp", "vmfc"]])
@pytest.mark.parametrize("max_nbody", [2, 3])
def test_another_treatment_or_order_changes_nothing(bsse, max_nbody):
    """What both expansions need, both find."""
    other = tables()
    other["mbe"] |= {"bsse_type": bsse, "max_nbody": max_nbody, "return_total_data": True}
    before, after = keys(tables()), keys(other)
    assert before.keys() & after.keys()
    assert all(before[task] == after[task] for task in before.keys() & after.keys())


def test_steps_have_keys_of_their_own():
    """The result of a rung belongs to what was tried before it as well: without that, nobody would have got there."""
    ladder = [{"max_cycle": 100}, {"level_shift": 0.2}]
    plan = make_plan(*read_job(tables(ladder=ladder), {}))
    context = context_of(plan, read_job(tables(ladder=ladder), {})[1])
    made = keys_of(plan, context, VERSIONS)
    found = [made.own(plan[0], TaskResult(0, step=step)) for step in range(3)]
    assert found[0] == keys(tables())[plan[0].frag, plan[0].bas]
    assert len({*found, keys(tables(keywords=ladder[0]))[plan[0].frag, plan[0].bas]}) == 4
    shorter = keys_of(plan, context_of(*_job(tables(ladder=ladder[:1]))), VERSIONS)
    assert shorter.own(plan[0], TaskResult(0, step=1)) == found[1]


def _job(spec):
    many, config = read_job(spec, {})
    return make_plan(many, config), config


def test_an_error_is_what_came_of_everything():
    """It is kept under the last step: with a longer ladder it does not count."""
    plan, config = _job(tables(ladder=[{"max_cycle": 100}]))
    made = keys_of(plan, context_of(plan, config), VERSIONS)
    error = TaskResult(0, error=object())
    assert made.own(plan[0], error) == made.own(plan[0], TaskResult(0, step=1))


def test_a_gradient_answers_for_an_energy_but_not_the_other_way():
    """The run's own driver is looked for first."""
    for driver, answers in {"energy": 3, "gradient": 2, "hessian": 1}.items():
        spec = tables()
        spec["mbe"]["driver"] = driver
        plan, config = _job(spec)
        made = keys_of(plan, context_of(plan, config), VERSIONS)
        drivers = [name for _, name in made.answers()]
        assert drivers == ["energy", "gradient", "hessian"][-answers:]
        assert made.of(plan[0], *made.answers()[0]) == made.own(plan[0], TaskResult(0))


def test_what_has_no_lasting_form_is_refused():
    """A function looks the same although it does something else the next time."""
    message = (
        r"^A model chemistry has <function .*, of type function, which has no lasting form: results could not be told "
        r"from those of another. Give numbers, text, lists and tables, or run without a store\.$"
    )
    with pytest.raises(InputError, match=message):
        keys(tables(), specification(keywords={"callback": lambda: None}))


def test_keys_do_not_depend_on_hashing(monkeypatch):
    """Sets come in any order; their digests do not."""
    for order in itertools.permutations(("alpha", "beta", "gamma")):
        found = keys(tables(), specification(keywords={"parts": set(order)}))
        assert found == keys(tables(), specification(keywords={"parts": {"beta", "gamma", "alpha"}}))


def test_what_programs_read_besides_their_input(tmp_path, monkeypatch):
    """Settings in the user's home, folders that variables name: their content is part of the version."""
    assert surroundings("psi4") == surroundings("pyscf") == surroundings("model-potential") == ""
    (tmp_path / "sto-3g.gbs").write_text("H 0")
    (tmp_path / "notes.txt").write_text("of no matter")
    monkeypatch.setenv("PSIPATH", str(tmp_path))
    first = surroundings("psi4")
    assert len(first) == 16
    (tmp_path / "notes.txt").write_text("changed")
    assert surroundings("psi4") == first
    (tmp_path / "sto-3g.gbs").write_text("H 1")
    assert surroundings("psi4") not in ("", first)
    settings = tmp_path / "settings.py"
    settings.write_text("B3LYP_WITH_VWN5 = True")
    monkeypatch.setenv("PYSCF_CONFIG_FILE", str(settings))
    second = surroundings("pyscf")
    settings.write_text("B3LYP_WITH_VWN5 = False")
    assert surroundings("pyscf") not in ("", second)
    monkeypatch.delenv("PYSCF_CONFIG_FILE")
    (Path.home() / ".pyscf_conf.py").write_text("conv_tol = 1e-3")
    assert surroundings("pyscf") not in ("", second)


def test_what_is_read_besides_is_in_the_version(tmp_path, monkeypatch):
    """And so in the key."""
    plan, config = _job(tables())
    programs = Programs(context_of(plan, config))
    before = programs.versions()["pyscf"]
    assert re.fullmatch(r"\d\S+, mbexec-pyscf \S+", before)
    (Path.home() / ".pyscf_conf.py").write_text("B3LYP_WITH_VWN5 = True")
    assert re.fullmatch(re.escape(before) + r", with [0-9a-f]{16}", programs.versions()["pyscf"])
