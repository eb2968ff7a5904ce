"""Screening by energy: the sets that a cheap program picks, against plain fractions, and what becomes of the others."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mbexec
from mbexec import FragmentSets, TaskError, TaskResult, expand
from mbexec.core.engine import read_job
from mbexec.plugins.manybody import ManyBody, sums
from mbexec.plugins.manybody.screening import choose
from tests.systems import argon, job

HIGH = {"program": "model-potential", "method": "lj-atm", "keywords": {"c9": {"Ar": 700.0}}}
CHEAP = {"program": "model-potential", "method": "lj-atm"}
BOTH = {"high": HIGH, "cheap": CHEAP}
ALL = ["nocp", "cp", "vmfc"]
EVERYTHING = 1e3  # E_h; no increment is as large


def screened(thresholds, *, nfr=6, program=BOTH, dropped=None, max_nbody=3, **given):
    """The tables of a job on argon atoms."""
    screen = {"program": "cheap", "thresholds": thresholds, **({"dropped": dropped} if dropped else {})}
    if "levels" not in given:
        given["max_nbody"] = max_nbody
    return job(argon(nfr), program=program, screen=screen, **given)


def bits(result):
    """Every number of a result, but for how many calculations there were."""
    found = result.properties.model_dump(exclude={"calcinfo_nmbe", "calcinfo_nmc"})
    return {name: np.asarray(value).tobytes() for name, value in found.items() if value is not None}


def subsets(frag):
    return [part for size in range(1, len(frag) + 1) for part in combinations(frag, size)]


# Against plain fractions


class Oracle:
    """The definition, set by set, in fractions."""

    def __init__(self, energies, nfr, highest, thresholds, dropped):
        self.energies, self.nfr, self.thresholds, self.dropped = energies, nfr, thresholds, dropped
        self.sets = [frag for size in range(1, highest + 1) for frag in combinations(range(1, nfr + 1), size)]
        large = {frag for frag in self.sets if self.is_large(frag)}
        self.kept = large | {part for frag in large for part in subsets(frag)}

    def energy(self, mc, frag, bas):
        return Fraction(self.energies[mc, frag, bas])

    def increment(self, mc, frag, bsse):
        everything = tuple(range(1, self.nfr + 1))
        if len(frag) == 1:
            return self.energy(mc, frag, frag)
        bases = {"nocp": lambda part: part, "cp": lambda part: everything, "vmfc": lambda part: frag}
        return sum((-1) ** (len(frag) - len(p)) * self.energy(mc, p, bases[bsse](p)) for p in subsets(frag))

    def is_large(self, frag):
        least = self.thresholds.get(len(frag))
        return least is None or abs(float(self.increment("cheap", frag, "nocp"))) >= least

    def contribution(self, frag, bsse):
        if frag in self.kept:
            return self.increment("high", frag, bsse)
        return self.increment("cheap", frag, "nocp") if self.dropped == "cheap" else Fraction(0)

    def through(self, nbody, bsse):
        return float(sum(self.contribution(frag, bsse) for frag in self.sets if len(frag) <= nbody))


@st.composite
def choices(draw):
    """A screened job and energies for all of its calculations."""
    nfr = draw(st.integers(4, 5))
    highest = draw(st.integers(2, nfr))
    lowest = draw(st.integers(2, highest))
    thresholds = {n: draw(st.sampled_from([0.0, 0.5, 1.0, 4.0, EVERYTHING])) for n in range(lowest, highest + 1)}
    bsse = draw(st.sampled_from([["nocp"], ["cp"], ["vmfc"], ALL]))
    dropped = draw(st.sampled_from(["cheap", "ignore"]))
    seed = draw(st.integers(0, 2**32 - 1))
    tables = screened(
        {str(n): x for n, x in thresholds.items()},
        nfr=nfr,
        dropped=dropped,
        max_nbody=highest,
        bsse=bsse,
        return_total_data=True,
    )
    return tables, thresholds, dropped, seed


@given(choices())
@settings(max_examples=60, deadline=None)
def test_sums_are_those_of_fractions(choice):
    """Kept sets count as computed, dropped ones as it is asked for; to the last bit, in any order of arrival."""
    tables, thresholds, dropped, seed = choice
    spec, config = read_job(tables, {})
    planner = ManyBody()
    plan = planner.build_tasks(spec, config)
    rng = np.random.default_rng(seed)
    energies = rng.normal(size=len(plan)) * 10.0 ** rng.integers(-3, 3, size=len(plan))
    energies[plan.expansion.mc == plan.expansion.mcs.index("cheap")] /= 10.0
    keys = {(task.mc, task.frag, task.bas): energies[task.index] for task in plan}
    oracle = Oracle(keys, plan.expansion.sets.nfr, tables["mbe"]["max_nbody"], thresholds, dropped)
    needless = planner.choose_tasks(plan, np.where(plan.undecided, np.nan, energies))
    order = [i for i in rng.permutation(len(plan)).tolist() if not needless[i]]
    found = planner.merge_results(plan, iter([TaskResult(i, {"energy": energies[i]}) for i in order]))
    values = found.properties.model_dump()
    for bsse in tables["mbe"]["bsse_type"]:
        for nbody in range(1, tables["mbe"]["max_nbody"] + 1):
            assert values[f"{bsse}_corrected_total_energy_through_{nbody}_body"] == oracle.through(nbody, bsse)
    kept = [task.frag for task in plan if task.mc == "high" and not needless[task.index]]
    assert {part for frag in kept for part in subsets(frag)} <= set(kept)  # closed
    assert {frag for frag in kept if len(frag) in thresholds} == {s for s in oracle.kept if len(s) in thresholds}
    for order in found.extras["mbexec"]["screening"]["orders"]:
        lost = [s for s in oracle.sets if len(s) == order["nbody"] and s not in oracle.kept]
        assert order["dropped"] == len(lost)
        assert order["dropped_sum"] == float(sum(oracle.increment("cheap", s, "nocp") for s in lost))


# Limits


@pytest.mark.parametrize("dropped", ["cheap", "ignore"])
@pytest.mark.parametrize("driver", ["energy", "gradient", "hessian"])
def test_threshold_zero_is_the_full_expansion(driver, dropped):
    """To the last bit, and nothing is left out."""
    plain = mbexec.run(job(argon(5), program=HIGH, max_nbody=3, bsse=ALL, driver=driver), workers=2)
    given = screened({"3": 0.0}, nfr=5, dropped=dropped, bsse=ALL, driver=driver)
    found = mbexec.run(given, workers=2)
    assert bits(found.result) == bits(plain.result)
    assert found.report.left_out == 0


def test_a_huge_threshold_and_nothing_for_what_is_dropped_is_a_lower_order():
    """To the last bit; not one triple runs with the dear program."""
    lower = mbexec.run(job(argon(6), program=HIGH, max_nbody=2, bsse=ALL)).result
    found = mbexec.run(screened({"3": EVERYTHING}, dropped="ignore", bsse=ALL))
    for bsse in ALL:
        sums = found.result.properties.model_dump()
        through = sums[f"{bsse}_corrected_interaction_energy_through_3_body"]
        assert through == lower.properties.model_dump()[f"{bsse}_corrected_interaction_energy_through_2_body"]
    triples = [task for task in found.plan if len(task.frag) == 3 and not np.isnan(found.energies[task.index])]
    assert {task.mc for task in triples} == {"cheap"}


def test_a_huge_threshold_adds_what_the_cheap_program_says_of_the_highest_order():
    """The two-body interaction of one and the three-body contribution of the other, rounded once."""
    high = mbexec.run(job(argon(6), program=HIGH, max_nbody=2)).result.properties
    cheap = mbexec.run(job(argon(6), program=CHEAP, max_nbody=3)).result.properties
    found = mbexec.run(screened({"3": EVERYTHING})).result
    added = cheap.nocp_corrected_3_body_contribution_to_energy
    assert found.properties.nocp_corrected_3_body_contribution_to_energy == added
    assert found.return_result == pytest.approx(high.return_energy + added, abs=1e-17)
    (order,) = found.extras["mbexec"]["screening"]["orders"]
    assert (order["candidates"], order["dropped"], order["dropped_sum"]) == (20, 20, added)


@pytest.mark.parametrize("driver", ["energy", "gradient", "hessian"])
@pytest.mark.parametrize("thresholds", [{"3": 2e-7}, {"2": 1e-5, "3": 2e-7}, {"2": EVERYTHING, "3": 2e-7}])
def test_a_cheap_program_that_is_the_dear_one_changes_nothing(driver, thresholds):
    """What is dropped counts for what it would have given: energies and derivatives to the last bit, at any choice."""
    plain = mbexec.run(job(argon(6), program=CHEAP, max_nbody=3, bsse=ALL, driver=driver), workers=2)
    given = screened(thresholds, program={"high": CHEAP, "cheap": CHEAP}, bsse=ALL, driver=driver)
    found = mbexec.run(given, workers=2)
    assert bits(found.result) == bits(plain.result)
    assert 0 < found.report.left_out < np.count_nonzero(found.plan.undecided)


# Other settings


def test_levels():
    """Orders have their own model chemistries; calculations of the screened one that no kept set needs don't run."""
    program = {"top": {**HIGH, "keywords": {"c9": {"Ar": 650.0}}}, **BOTH}
    given = screened({"3": 4e-7}, levels={2: "top", 3: "high"}, program=program, dropped="ignore")
    found = mbexec.run(given)
    ran = {(task.mc, task.frag) for task in found.plan if not np.isnan(found.energies[task.index])}
    kept = {frag for mc, frag in ran if mc == "high" and len(frag) == 3}
    assert 0 < len(kept) < 20
    assert {frag for mc, frag in ran if mc == "high"} == {part for frag in kept for part in subsets(frag)}
    assert sum(mc == "top" for mc, _ in ran) == 6 + 15
    full = mbexec.run(job(argon(6), program=HIGH, max_nbody=3)).contributions["nocp"]
    expected = sum(full[frag] for frag in kept)
    assert found.result.properties.nocp_corrected_3_body_contribution_to_energy == pytest.approx(expected, abs=1e-16)


def test_a_supersystem_that_is_the_cheap_program():
    """What the kept sets leave out is the cheap program's for the whole cluster, whose expansion runs once."""
    given = screened({"2": 1e-4, "3": 2e-7}, levels={3: "high", "supersystem": "cheap"}, dropped="ignore")
    found = mbexec.run(given)
    sums = found.result.properties.model_dump()
    whole = mbexec.run(job(argon(6), program=CHEAP)).result.properties.return_energy
    dear, cheap = (
        found.plan.expansion.increments_of("nocp", n, mc, found.energies) for n, mc in [(3, "high"), (3, "cheap")]
    )
    kept = ~np.isnan(dear)
    pairs = [found.plan.expansion.increments_of("nocp", 2, mc, found.energies) for mc in ("high", "cheap")]
    both = ~np.isnan(pairs[0])
    expected = whole + (dear - cheap)[kept].sum() + (pairs[0] - pairs[1])[both].sum()
    assert sums["nocp_corrected_interaction_energy"] == pytest.approx(expected, abs=1e-14)
    assert not both.all()


@given(
    length=st.sampled_from([6.5, 7.5, 8.5, 9.5, 13.0]),
    thresholds=st.sampled_from([{3: 2.0}, {3: EVERYTHING}, {2: 0.5, 3: 2.0}, {2: 4.0, 3: EVERYTHING}]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_a_supersystem_takes_what_the_kept_sets_leave(length, thresholds, seed):
    """Within cutoffs a set may count for nothing in it until others are dropped; against fractions, to the last bit."""
    program = {**BOTH, "low": {**CHEAP, "method": "lj"}}
    levels, cutoff = {3: "high", "supersystem": "low"}, {"2": length + 3.0, "3": length}
    given = {"program": program, "levels": levels, "cutoff": cutoff, "dropped": "ignore"}
    spec, config = read_job(screened({str(n): x for n, x in thresholds.items()}, **given), {})
    planner = ManyBody()
    plan = planner.build_tasks(spec, config)
    rng = np.random.default_rng(seed)
    energies = rng.normal(size=len(plan))
    keys = {(task.mc, task.frag, task.bas): energies[task.index] for task in plan}
    oracle = Oracle(keys, 6, 1, thresholds, "ignore")
    within = [frag for frag in plan.expansion.sets if len(frag) < 6]
    kept = {part for frag in within if oracle.is_large(frag) for part in subsets(frag)}
    whole = tuple(range(1, 7))
    expected = oracle.energy("low", whole, whole) + sum(
        oracle.increment("high", frag, "nocp") - oracle.increment("low", frag, "nocp") for frag in kept
    )
    needless = planner.choose_tasks(plan, np.where(plan.undecided, np.nan, energies))
    results = [TaskResult(i, {"energy": energies[i]}) for i in np.flatnonzero(~needless).tolist()]
    found = planner.merge_results(plan, iter(results))
    assert found.properties.nocp_corrected_total_energy == float(expected)


def test_an_expansion_has_no_place_for_what_it_does_not_ask_for():
    """Rather than the place of something else."""
    sets = FragmentSets.full(3, 2)
    given = {"levels": {1: "a", 2: "a"}, "return_total_data": True}
    whole, part = (expand(sets, bsse_type=[bsse], **given) for bsse in ("cp", "nocp"))
    with pytest.raises(ValueError, match=r"^there is no task a, \(1, 2\) in the basis of \(1, 2\)$"):
        whole.places(part)


def test_candidates_are_counted_before_anything_runs():
    """Dear triples wait for the choice, dear pairs don't; the cheap program computes everything."""
    plan = mbexec.plan(screened({"3": 1e-6}, bsse="nocp"))
    waiting = {(task.mc, task.nbody) for task in plan if plan.undecided[task.index]}
    assert waiting == {("high", 3)}
    assert int(plan.undecided.sum()) == 20
    assert len(plan) == 2 * (6 + 15 + 20)


def test_fields_of_the_input():
    """In QCSchema, screening stands in the extras; labels of levels are filled in from the job."""
    spec, _ = read_job(screened({3: 1e-6}), {})
    assert spec.specification.extras == {"mbexec": {"screen": {"program": "cheap", "thresholds": {"3": 1e-6}}}}
    assert spec.specification.keywords.levels == {3: "high"}
    again, _ = read_job(spec.model_dump(), {})
    assert len(mbexec.plan(again)) == len(mbexec.plan(spec)) == 82


def test_thresholds_of_arguments_replace_those_of_the_job():
    """Like cutoffs: a lower order could not be asked for if those of higher ones stayed."""
    tables = screened({"2": 1e-4, "3": 1e-6})
    plan = mbexec.plan(tables, **{"mbe.max_nbody": 2, "mbe.screen": {"thresholds": {"2": 1e-5}}})
    screen = plan.spec.specification.extras["mbexec"]["screen"]
    assert screen == {"program": "cheap", "thresholds": {"2": 1e-5}}


@pytest.mark.parametrize("dropped", ["cheap", "ignore"])
def test_cutoffs_and_thresholds(dropped):
    """Candidates are the sets that the cutoffs keep; of these, thresholds drop some."""
    given = {"cutoff": {"3": 8.5}, "bsse": ALL, "driver": "gradient"}
    plain = mbexec.run(job(argon(6), program=CHEAP, max_nbody=3, **given))
    twice = mbexec.run(screened({"3": 2e-7}, program={"high": CHEAP, "cheap": CHEAP}, dropped=dropped, **given))
    (order,) = twice.result.extras["mbexec"]["screening"]["orders"]
    left_out, of = plain.plan.expansion.left_out[3]
    assert 0 < left_out < 20
    assert order["candidates"] == of - left_out
    assert 0 < order["dropped"] < order["candidates"]
    assert twice.result.extras["mbexec"]["left_out"] == plain.result.extras["mbexec"]["left_out"]
    if dropped == "cheap":
        assert bits(twice.result) == bits(plain.result)
    zero = mbexec.run(screened({"3": 0.0}, program={"high": CHEAP, "cheap": CHEAP}, dropped=dropped, **given))
    assert bits(zero.result) == bits(plain.result)


@pytest.mark.parametrize("dropped", ["cheap", "ignore"])
def test_gradients_wait_for_the_choice(monkeypatch, dropped):
    """In whatever order they arrive, few at a time, they count as often as the choice says: in fractions."""
    spec, config = read_job(screened({"3": 1.0}, nfr=5, bsse=ALL, driver="gradient", dropped=dropped), {})
    planner = ManyBody()
    plan = planner.build_tasks(spec, config)
    rng = np.random.default_rng(3)
    energies = rng.normal(size=len(plan))
    gradients = [rng.normal(size=(len(task.bas), 3)) for task in plan]
    given = np.where(plan.undecided, np.nan, energies)
    needless = planner.choose_tasks(plan, given)
    assert 0 < needless.sum() < plan.undecided.sum()
    results = [TaskResult(i, {"energy": energies[i], "gradient": gradients[i]}) for i in np.flatnonzero(~needless)]
    decided = [result for result in results if not plan.undecided[result.index]]
    waiting = [result for result in results if plan.undecided[result.index]]
    chosen = choose(plan, given).plan.expansion
    added = [[Fraction(0)] * 3 for _ in range(5)]
    counts = chosen.total("nocp", 3)
    for result in results:
        for fragment, numbers in zip(plan[result.index].bas, gradients[result.index].tolist(), strict=True):
            for axis, number in enumerate(numbers):
                added[fragment - 1][axis] += int(counts[result.index]) * Fraction(number)
    expected = [[float(number) for number in row] for row in added]
    monkeypatch.setattr(sums, "_NUMBERS", 1)
    mixed = [results[i] for i in rng.permutation(len(results))]
    for arrival in (decided + waiting, waiting + decided, mixed):
        found = planner.merge_results(plan, iter(arrival))
        assert found.return_result.tolist() == expected


# Failures in the first pass


class Planner:
    """A plan, with energies, and what comes of some of them being lost."""

    def __init__(self, lost):
        self.spec, config = read_job(screened({"3": 4e-7}), {})
        self.planner = ManyBody()
        self.plan = self.planner.build_tasks(self.spec, config)
        energies = mbexec.run(screened({"3": 0.0})).energies
        self.energies = np.array([np.nan if lost(task) else energies[task.index] for task in self.plan])

    def choice(self):
        return self.planner.choose_tasks(self.plan, np.where(self.plan.undecided, np.nan, self.energies))

    def merged(self):
        needless = self.choice()
        results = [
            TaskResult(i, error=TaskError("unknown_error", "lost")) if np.isnan(x) else TaskResult(i, {"energy": x})
            for i, x in enumerate(self.energies)
            if not needless[i]
        ]
        return self.planner.merge_results(self.plan, iter(results))


def test_what_is_unknown_is_kept():
    """A cheap calculation that failed: every set that it is part of runs, and the result needs it no more."""
    whole = Planner(lambda task: False)
    part = Planner(lambda task: task.mc == "cheap" and task.frag == (1, 2))
    triples = [i for i, task in enumerate(whole.plan) if task.mc == "high" and task.nbody == 3]
    more = [whole.plan[i].frag for i in triples if whole.choice()[i] and not part.choice()[i]]
    assert more
    assert all({1, 2} < set(frag) for frag in more)
    assert not any(part.choice()[i] for i in triples if {1, 2} < set(whole.plan[i].frag))
    with pytest.warns(UserWarning, match=r"^1 of \d+ calculations of 'cheap', which screens, failed, .*: lost$"):
        found = part.merged()
    assert found.success
    assert found.extras["mbexec"]["failed"] == [
        {"label": '["cheap", [1, 2], [1, 2]]', "error_type": "unknown_error", "error_message": "lost"}
    ]
    assert found.extras["mbexec"]["screening"]["orders"][0]["unknown"] == 4


def test_a_dear_calculation_that_failed_is_missing():
    """The result is a failure, which counts what was needed; dropped sets are no unknown increments."""
    kept = Planner(lambda task: False)
    frag = next(
        task.frag for task in kept.plan if task.mc == "high" and task.nbody == 3 and not kept.choice()[task.index]
    )
    lost = Planner(lambda task: task.mc == "high" and task.frag == frag)
    found = lost.merged()
    needed = len(lost.plan) - int(lost.choice().sum())
    assert found.error.error_message.startswith(f"1 of {needed} fragment calculations gave no result.")
    partial = found.error.extras["partial"]
    (unknown,) = partial["unknown_increments"]
    assert (unknown["nbody"], unknown["count"], unknown["fragments"]) == (3, 1, [list(frag)])
    estimate = partial["estimates"]["nocp_corrected_interaction_energy"]["estimate"]
    assert estimate == pytest.approx(
        kept.merged().return_result - mbexec.run(job(argon(6), program=HIGH)).contributions["nocp"][frag], abs=1e-15
    )


# What can't be


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"program": "cheep"}, r"mbe.screen.program = 'cheep', but the \[program.LABEL\] tables are high, cheap"),
        ({"program": 3}, r"mbe.screen.program = 3 must be the label of a \[program.LABEL\] table"),
        (
            {"thresholds": {"3": -1e-5}},
            "mbe.screen.thresholds = {'3': -1e-05} must be a table of energies in E_h from 0",
        ),
        ({"thresholds": {"3": float("inf")}}, "mbe.screen.thresholds = {'3': inf} must be"),
        ({"thresholds": {"3": True}}, "mbe.screen.thresholds = {'3': True} must be"),
        ({"thresholds": {}}, "mbe.screen.thresholds = {} must be"),
        ({"thresholds": {"03": 1e-5}}, "mbe.screen.thresholds = {'03': 1e-05} must be"),
        ({"thresholds": {"4": 1e-5}}, "mbe.screen.thresholds is for 4 fragments; allowed are 2 to 3"),
        ({"thresholds": {"1": 1e-5}}, "mbe.screen.thresholds is for 1 fragments; allowed are 2 to 3"),
        ({"thresholds": {"2": 1e-5}}, "is for 2 fragments, but all sets of 3 would be computed"),
        ({"dropped": "kept"}, 'mbe.screen.dropped = \'kept\' must be "cheap" or "ignore"'),
        ({"treshold": 1}, "mbe.screen.treshold.* mbe.screen.thresholds"),
    ],
)
def test_settings_that_cannot_be(change, said):
    """The message names the key, what was given and what is allowed."""
    given = screened({"3": 1e-5})
    given["mbe"]["screen"] |= change
    with pytest.raises(mbexec.MbexecError, match=said):
        mbexec.plan(given)


def test_an_empty_table_screens_nothing():
    """And is no way to say so."""
    given = screened({"3": 1e-5})
    given["mbe"]["screen"] = {}
    with pytest.raises(mbexec.InputError, match=r"mbe\.screen\.program is missing; give "):
        mbexec.plan(given)


@pytest.mark.parametrize("key", ["program", "thresholds"])
def test_settings_that_are_missing(key):
    """Both are needed."""
    given = screened({"3": 1e-5})
    del given["mbe"]["screen"][key]
    with pytest.raises(mbexec.InputError, match=f"mbe.screen.{key} is missing; give "):
        mbexec.plan(given)


def test_screening_without_labels():
    """A single [program] table has nothing to screen by."""
    with pytest.raises(mbexec.InputError, match=r"'cheap', but there is no \[program.LABEL\] table"):
        mbexec.plan(screened({"3": 1e-5}, program=HIGH))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"levels": {3: "cheap"}, "program": {"cheap": CHEAP}}, "'cheap' is what computes the 3-body sets anyway"),
        ({"levels": {3: "high", "supersystem": "cheap"}}, 'set mbe.screen.dropped to "ignore"'),
        ({"nfr": 3, "supersystem_ie_only": True}, "supersystem_ie_only leaves nothing to screen"),
        ({"max_nbody": 1}, "nothing to screen where the expansion ends at 1"),
    ],
)
def test_expansions_that_cannot_be_screened(given, said):
    """The message says what to change."""
    with pytest.raises(mbexec.InputError, match=said):
        mbexec.plan(screened({"3": 1e-5}, **given))


@pytest.mark.parametrize(
    "screen",
    [
        "cheap",
        {"program": "cheap"},
        {"program": "cheap", "thresholds": {"3": "small"}},
        {"program": "cheap", "thresholds": {"three": 1e-5}},
        {"program": "cheap", "thresholds": {"3": 1e-5, "03": 1e-4}},
        {"program": "cheap", "thresholds": {"3": float("nan")}},
        {"program": "cheap", "thresholds": {"3": 1e-5}, "dropped": "kept"},
        {"program": "cheap", "thresholds": {"3": 1e-5}, "dropt": "cheap"},
    ],
)
def test_extras_that_cannot_be(screen):
    """The same in QCSchema."""
    spec, _ = read_job(screened({"3": 1e-5}), {})
    given = spec.model_dump()
    given["specification"]["extras"]["mbexec"]["screen"] = screen
    with pytest.raises(mbexec.InputError, match=r'"screen"\] = .* must be a table of program, a label, thresholds, a'):
        mbexec.plan(given)


def test_a_label_of_the_extras_that_is_not_there():
    """The message lists those that are."""
    spec, _ = read_job(screened({"3": 1e-5}), {})
    given = spec.model_dump()
    given["specification"]["extras"]["mbexec"]["screen"]["program"] = "cheep"
    with pytest.raises(
        mbexec.InputError, match=r"mbe.screen.program = 'cheep' has no specification. Known: cheap, high"
    ):
        mbexec.plan(given)


# Sets


def test_only_some_members():
    """A size that has none stays, empty, and so does the set of all fragments."""
    sets = FragmentSets.full(4, 3)
    few = sets.only(np.array([len(frag) < 3 and 4 not in frag for frag in sets]))
    assert list(few) == [(1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3, 4)]
    assert few.by_size[3].shape == (0, 3)
