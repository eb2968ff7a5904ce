"""``mbexec verify``: stored results beside what the same program gives now."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from mbexec.cli import main
from tests.commands import BAD_INPUT, DONE, FAILED
from tests.restarts import COUNTED, Job, install_all
from tests.stores import asked

SIZE = 14


@pytest.fixture
def job(tmp_path, install):
    """Four argon atoms up to triples, computed."""
    made = Job(tmp_path / "job", install_all(install))
    made.write(4, max_nbody=3)
    assert made.call("run")[0] == DONE
    return made


def verify(job, *words, **mood):
    """Exit code; rows of the table as (calculation, verdict, largest difference); the sentence; and how many ran."""
    before = job.begun()
    rows = asked(job.store, "SELECT * FROM results ORDER BY id")
    code, out, errors = job.call("verify", *words, **mood)
    assert all('"event": "fragment_note"' in line for line in errors.splitlines())
    assert asked(job.store, "SELECT * FROM results ORDER BY id") == rows
    table = [re.split(r"\s{2,}", line.strip()) for line in out.splitlines() if line.strip().startswith('["')]
    return code, table, out.splitlines()[-1], job.begun() - before


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio", "loky"])
def test_all_is_well(job, executor):
    """Each is computed so many times, whatever runs it, and nothing is written."""
    assert verify(job, "-e", executor) == (
        DONE,
        [],
        f"{SIZE} stored results, computed 3 times each: {SIZE} the same to the last bit.",
        3 * SIZE,
    )


def test_a_sample(job):
    """As many as asked for, as often as asked for; chance decides which."""
    found = verify(job, "--sample", 5, "--repeat", 2)
    assert found == (DONE, [], "5 stored results, computed 2 times each: 5 the same to the last bit.", 10)
    for _ in range(20):
        verify(job, "--sample", 5, "--repeat", 1)
    assert len(job.counts(since=SIZE)) == SIZE


def test_a_program_that_changed_without_telling(job):
    """Its version is as it was, its numbers are not: every result differs, in the same way each time."""
    code, table, sentence, ran = verify(job, shift=1e-3)
    assert (code, sentence, ran) == (FAILED, f"{SIZE} stored results, computed 3 times each: {SIZE} changed.", 3 * SIZE)
    assert {(verdict, difference) for _, verdict, difference in table} == {("changed", "1.0e-03")}
    assert len({calculation for calculation, _, _ in table}) == SIZE


def test_one_result_that_is_wrong(tmp_path, install):
    """A machine that failed in one fragment: that one is named, and no other."""
    job = Job(tmp_path / "job", install_all(install))
    job.write(4, max_nbody=3)
    job.call("run", shift=1e-6, shifted=["[0, 2]"])
    code, table, sentence, _ = verify(job)
    assert (code, table) == (FAILED, [['["(auto)", [1, 3], [1, 3]]', "changed", "1.0e-06"]])
    assert sentence == "14 stored results, computed 3 times each: 13 the same to the last bit, 1 changed."


def test_a_change_within_the_tolerance(job):
    """It is told from equality, but no fault; with a closer look it is one."""
    code, table, sentence, _ = verify(job, shift=1e-10)
    assert (code, sentence) == (DONE, "14 stored results, computed 3 times each: 14 different by noise.")
    assert {row[1] for row in table} == {"different by noise"}
    assert verify(job, "--tolerance", 1e-12, shift=1e-10)[0] == FAILED
    assert verify(job, "--tolerance", 0, shift=1e-10)[2].endswith("14 changed.")


def test_a_noisy_program(job):
    """Small noise passes; noise beyond the tolerance is no two times the same."""
    code, _, sentence, _ = verify(job, noise=1e-10)
    assert (code, sentence) == (DONE, "14 stored results, computed 3 times each: 14 different by noise.")
    code, table, sentence, _ = verify(job, noise=1e-3)
    assert (code, sentence) == (FAILED, "14 stored results, computed 3 times each: 14 not the same each time.")
    assert {row[1] for row in table} == {"not the same each time"}
    assert all(1e-8 < float(row[2]) <= 1e-3 for row in table)


def test_a_program_that_fails_the_second_time(job):
    """The first repeat is well, the second is not: the result counts as failed, with what the program said."""
    code, table, sentence, ran = verify(job, "--repeat", 2, most=2)
    assert (code, ran) == (FAILED, 2 * SIZE)
    assert sentence == "14 stored results, computed 2 times each: 14 failed."
    assert ['["(auto)", [2], [2]]', "failed: ValueError: [1] is broken."] in table


def test_what_failed_in_the_run_is_not_looked_at(tmp_path, install):
    """There is nothing to compare with."""
    job = Job(tmp_path / "job", install_all(install))
    job.write(4, max_nbody=3)
    assert job.call("run", broken=["[0]", "[1, 2]"])[0] == FAILED
    assert verify(job)[2:] == ("12 stored results, computed 3 times each: 12 the same to the last bit.", 36)


def test_what_a_rung_gave(tmp_path, install):
    """Each repeat climbs the ladder again, to the same result."""
    job = Job(tmp_path / "job", install_all(install))
    job.write(4, max_nbody=3, program=COUNTED + "\nladder = [{damping = 0.5}]")
    assert job.call("run", stubborn=["[0]", "[1, 2]"])[0] == DONE
    code, _, sentence, ran = verify(job, stubborn=["[0]", "[1, 2]"])
    assert (code, ran) == (DONE, 3 * (SIZE + 2))
    assert sentence == "14 stored results, computed 3 times each: 14 the same to the last bit."


def test_there_is_nothing_to_look_at(job):
    """No store; no results of this job; a store that is none."""
    other = job.folder / "other.store"
    code, out, errors = job.call("verify", "--store", other)
    assert (code, out) == (BAD_INPUT, "")
    assert errors == (
        f"Error: There is no store {other} yet; run the job first, or give another one with --store PATH.\n"
    )
    job.write(4, max_nbody=3, program=COUNTED.replace("lj-atm", "lj"))
    code, out, errors = job.call("verify")
    assert (code, out) == (BAD_INPUT, "")
    assert errors == (
        f"Error: The store {job.store} has no results of this job as it stands now; those of another input, or of "
        "another version of its program, are none of it.\n"
    )
    assert job.begun() == SIZE


@pytest.mark.parametrize("tolerance", ["nan", "inf"])
def test_a_tolerance_is_a_finite_number(tmp_path, tolerance):
    """With another one anything would pass for noise, or nothing."""
    done = CliRunner().invoke(main, ["verify", str(tmp_path / "job.toml"), "--tolerance", tolerance])
    assert done.exit_code == 2
    assert f"{tolerance} is no finite number." in done.output
