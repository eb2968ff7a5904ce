"""Reading records: whatever they say is what the run's result says, and what was cut off hurts nobody."""

import json
import threading

import attrs
import numpy as np
import pytest
import qcelemental as qcel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mbexec
from mbexec import ConfigError, PluginNotFoundError
from mbexec.core import engine
from mbexec.plugins.manybody import ManyBody
from mbexec.reports import is_recorded, list_runs, read_record
from mbexec.reports.facts import verdict
from tests.systems import HELIUM_TETRAMER, WATER_TRIMER, argon, job

LJ = {"program": "model-potential", "method": "lj"}
SYSTEMS = {
    "nocp": job(WATER_TRIMER, program=LJ),
    "cp": job(WATER_TRIMER, bsse="cp", program=LJ),
    "cp with totals": job(WATER_TRIMER, bsse="cp", return_total_data=True, program=LJ),
    "vmfc": job(WATER_TRIMER, bsse=["vmfc"], program=LJ),
    "all, two bodies": job(WATER_TRIMER, bsse=["nocp", "cp", "vmfc"], max_nbody=2, program=LJ),
    "gradient": job(HELIUM_TETRAMER, bsse=["cp", "nocp"], driver="gradient", max_nbody=2),
    "supersystem": job(HELIUM_TETRAMER, bsse="nocp", supersystem_ie_only=True),
    "failing": job("U 9 9 9\n--\n" + argon(3), max_nbody=3),
    "failing cp": job("U 9 9 9\n--\n" + argon(3), bsse=["cp", "vmfc"], max_nbody=2),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "job.jsonl"


def run(path, spec=None, **settings):
    spec = spec or job(argon(4), max_nbody=2)
    return mbexec.run(spec, **{"executor": "serial", "reporters": ["jsonl"], "plugin.jsonl.path": path, **settings})


def as_json(value):
    return json.loads(json.dumps(value))


def assert_same(record, found):
    """Energies, contributions, report and sums are those of the run, to the last bit."""
    assert record.run_id == found.report.run_id
    assert record.energies.tobytes() == found.energies.tobytes()
    assert record.contributions == found.contributions
    assert record.report == as_json(found.report.as_dict())
    assert record.levels == as_json([attrs.asdict(level) for level in found.report.levels])
    assert record.result["success"] == found.result.success
    if found.result.success:
        for name, value in record.result["properties"].items():
            assert value == getattr(found.result.properties, name), name


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_record_has_the_numbers_of_the_result(path, name):
    """For each BSSE treatment, driver and kind of failure."""
    found = run(path, SYSTEMS[name])
    record = read_record(path)
    assert_same(record, found)
    assert record.running == []
    if found.result.success:
        given = {name: value for name, value in found.result.properties.model_dump().items() if value is not None}
        assert {name for name in given if "energy" in name} <= record.result["properties"].keys()


@pytest.mark.parametrize("levels", [{1: "high", 2: "low"}, {1: "high", 2: "low", "supersystem": "cheap"}])
@pytest.mark.parametrize("bsse", ["nocp", "cp", "vmfc"])
def test_a_record_of_mixed_model_chemistries(path, levels, bsse):
    """Each order's energies are of its own model chemistry."""
    spec = job(
        HELIUM_TETRAMER,
        bsse=bsse,
        return_total_data=True,
        levels={str(key): label for key, label in levels.items()},
        program={
            label: {"program": "model-potential", "method": method}
            for label, method in zip(levels.values(), ["lj", "lj-atm", "lj"], strict=False)
        },
    )
    found = run(path, spec)
    record = read_record(path)
    assert len({line["mc"] for line in record.fragments}) == len(levels)
    assert_same(record, found)


def test_a_run_that_went_on_is_recorded_with_what_was_known(path, tmp_path):
    """All was reused: energies and contributions are there, and no times."""
    first = run(path, store=tmp_path / "job.store")
    second = run(path, store=tmp_path / "job.store")
    record = read_record(path)
    assert_same(record, second)
    assert record.contributions == first.contributions
    assert all(line["reused"] for line in record.fragments)
    assert (record.report["executed"], record.report["reused"]) == (0, len(first.plan))
    assert record.report["speedup"] is None
    assert record.started["store"].endswith("10 results")


def test_each_run_of_a_record_can_be_read(path):
    """By its name; the last one that started without."""
    found = [run(path, job(argon(count), max_nbody=2)) for count in (2, 3, 4)]
    assert [each.run_id for each in list_runs(path)] == [each.report.run_id for each in found]
    for each in found:
        assert_same(read_record(path, each.report.run_id), each)
    assert_same(read_record(path), found[-1])
    times = [each.started for each in list_runs(path)]
    assert times == sorted(times)


def test_a_run_that_broke_off_is_read_as_far_as_it_got(path):
    """Levels are counted up from what is there, as the run's own report does it; what ran is told."""
    run(path, job("U 9 9 9\n--\n" + argon(3), max_nbody=2), executor="threads", workers=2)
    whole = read_record(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(line for line in lines if not line.startswith(b'{"event":"run_done"')))
    broken = read_record(path)
    assert (broken.report, broken.result) == (None, None)
    assert broken.contributions == whole.contributions
    for level, known in zip(broken.levels, whole.levels, strict=True):
        for name, value in known.items():
            assert level[name] == pytest.approx(value, rel=1e-12), name


def test_a_run_that_was_stopped_says_so(path):
    """From inside the record alone: stop was set when the third result was there."""
    stop, seen = threading.Event(), []

    def watch(event):
        seen.append(event)
        if sum(isinstance(each, mbexec.FragmentDone) for each in seen) == 3:
            stop.set()

    given = {"executor": "serial", "reporters": ["jsonl"], "plugin.jsonl.path": str(path)}
    engine.execute(*engine.read_job(job(argon(3), max_nbody=3), given), stop, watch)
    record = read_record(path)
    assert record.stopped
    assert not record.result["success"]
    told = "The run was stopped before its end: 3 of 7 fragment calculations are done; 4 did not run."
    assert verdict(record) == (told, False)


def test_what_ran_when_a_run_was_killed(path):
    """Fragments that began and never ended, in the order in which they began."""
    run(path)
    lines = path.read_text().splitlines()
    name = json.loads(lines[0])["run_id"]
    begun = [f'{{"event":"fragment_started","run_id":"{name}","time":1.0,"index":{index}}}' for index in (9, 3)]
    kept = [line for line in lines if json.loads(line)["event"] == "run_started" or json.loads(line).get("index") == 5]
    path.write_text("\n".join([kept[0], *begun, *kept[1:]]) + "\n")
    record = read_record(path)
    assert [line["index"] for line in record.running] == [9, 3]
    assert [line["index"] for line in record.fragments] == [5]
    assert np.isnan(record.energies).sum() == 9


def test_a_fragment_that_waits_for_its_second_run_does_not_run(path):
    """Until it begins again."""
    spec = job(
        argon(2), program={"program": "toy-potential", "method": "failing", "keywords": {"fail": "random_error"}}
    )
    run(path, spec)
    lines = path.read_text().splitlines()
    held = [place for place, line in enumerate(lines) if line.startswith('{"event":"fragment_held"')]
    assert len(held) == 3
    first = json.loads(lines[held[0]])
    assert first["error"]["error_type"] == "random_error"
    begun = {"event": "fragment_started", "run_id": first["run_id"], "time": 1.0, "index": first["index"]}
    written = json.dumps(begun, separators=(",", ":"))
    path.write_text("\n".join([lines[0], written, lines[held[0]]]))
    assert read_record(path).running == []
    path.write_text("\n".join([lines[0], written, lines[held[0]], written]))
    assert read_record(path).running == [begun]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_record_cut_off_anywhere_can_be_read(path, data):
    """Whole lines count, and the piece at the end does not; not even in the middle of a file."""
    if not path.exists():
        run(path)
        path.with_suffix(".whole").write_bytes(path.read_bytes())
    whole = path.with_suffix(".whole").read_bytes()
    first = whole.index(b"\n") + 1
    cut = data.draw(st.integers(first, len(whole)))
    path.write_bytes(whole[:cut])
    record = read_record(path)
    assert record.damaged == 0
    ends = np.cumsum([len(line) + 1 for line in whole.splitlines()]) - 1  # whole without its line end
    lines = [line for line, end in zip(whole.splitlines(), ends, strict=True) if end <= cut]
    assert len(record.fragments) == sum(line.startswith(b'{"event":"fragment_done"') for line in lines)
    path.write_bytes(whole[:cut] + b"\n" + whole.replace(record.run_id.encode(), b"f00d"))
    assert len(read_record(path).fragments) == 10
    assert read_record(path).damaged == 0
    assert len(read_record(path, record.run_id).fragments) == len(record.fragments)


def test_a_line_behind_a_piece_of_another_counts(path):
    """A run was killed as it wrote, while another was writing to the same record."""
    run(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:5], lines[4][:60].replace(lines[4][30:34], b"f00d"), *lines[5:]]))
    assert len(read_record(path).fragments) == 10
    assert read_record(path).report is not None
    assert read_record(path).damaged == 0


def test_a_line_that_was_written_once_more_is_not_damaged(path):
    """There was no room for a whole line on the disk."""
    run(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:4], lines[4][:70] + b"\n", *lines[4:]]))
    assert (read_record(path).damaged, len(read_record(path).fragments)) == (0, 10)


@pytest.mark.parametrize(
    ("damage", "count"),
    [
        (lambda lines: [*lines[:4], lines[4].replace(b'":', b'"\0', 3), *lines[5:]], 1),
        (lambda lines: [*lines[:4], bytes(512) + b"\n", *lines[5:]], 1),
        (lambda lines: [*lines[:4], lines[4][:-40] + lines[5][40:], *lines[6:]], 1),
        (lambda lines: [*lines[:4], lines[4][:-40] + b"\n", *lines[5:7], b"xyz\n", b"\n", *lines[8:]], 2),
        (lambda lines: [*lines[:-1], lines[-1][:-9] + b"\n"], 1),
    ],
    ids=["bytes", "zeros", "a gap", "two lines", "the last"],
)
def test_lines_that_are_damaged_are_counted(path, damage, count):
    """And the report says so; the others are read."""
    run(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(damage(lines)))
    record = read_record(path)
    assert record.damaged == count
    assert verdict(record)[0].endswith(f" {count} line{'s' * (count > 1)} of the record could not be read.")
    assert not verdict(record)[1]
    assert record.fragments


def test_distances_are_between_closest_atoms(path):
    """In angstrom; 0 of a fragment to itself."""
    found = run(path, job(WATER_TRIMER, max_nbody=2, program=LJ))
    molecule = found.plan.spec.molecule
    distances = read_record(path).distances
    for i, here in enumerate(molecule.fragments):
        for j, there in enumerate(molecule.fragments):
            apart = min(np.linalg.norm(molecule.geometry[a] - molecule.geometry[b]) for a in here for b in there)
            assert distances[i, j] == pytest.approx(apart * qcel.constants.bohr2angstroms if i != j else 0.0, abs=1e-12)


def test_whether_the_end_of_a_run_is_there(path):
    """Of this run, and not of another."""
    found = run(path)
    assert is_recorded(path, found.report.run_id)
    assert not is_recorded(path, "f00d")
    assert not is_recorded(path.with_suffix(".other"), "f00d")


def test_a_planner_that_is_gone(path, install):
    """Fragments can still be read; contributions need the planner."""

    class Another(ManyBody):
        pass

    install("another-planner", {"another": Another})
    run(path, planner="another")
    lines = path.read_text().replace('"planner":"another"', '"planner":"gone"')
    path.write_text(lines)
    record = read_record(path)
    assert len(record.fragments) == 10
    with pytest.raises(PluginNotFoundError, match="No planner named 'gone' is installed"):
        _ = record.contributions


def test_a_planner_that_plans_in_another_way_now(path):
    """Energies are not given to other fragments than theirs."""
    run(path)
    path.write_text(path.read_text().replace('"max_nbody":2', '"max_nbody":1'))
    with pytest.raises(ConfigError, match="was planned in another way than the planner 'manybody' does it now"):
        _ = read_record(path).energies


def test_no_such_file(path):
    """What writes one is told."""
    with pytest.raises(ConfigError, match=r"There is no record .*job\.jsonl; `mbexec run JOB` writes one"):
        read_record(path)


@pytest.mark.parametrize("content", ["[molecule]\n", "\0\1", '{"schema_name": ""}'])
def test_no_record(path, content):
    """Another file is told from one."""
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"job\.jsonl is no record of runs"):
        read_record(path)


def test_a_file_that_cant_be_read(tmp_path):
    """In the system's words."""
    with pytest.raises(ConfigError, match="can't be read: Is a directory"):
        list_runs(tmp_path)


@pytest.mark.parametrize("content", ["", '{"event":"run_star'])
def test_a_record_without_a_run(path, content):
    """Its first run was killed at once."""
    path.write_text(content)
    with pytest.raises(ConfigError, match="tells of no run"):
        read_record(path)


def test_no_such_run(path):
    """Those that there are are named."""
    name = run(path).report.run_id
    with pytest.raises(ConfigError, match=f"has no run 'f00d'; its runs are {name}"):
        read_record(path, "f00d")
