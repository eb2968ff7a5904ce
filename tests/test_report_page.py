"""The page of a run without a browser: what it says where something is missing, and that it is the same each time."""

import json
import sys
from html.parser import HTMLParser

import attrs
import pytest

import mbexec
from mbexec import ConfigError
from mbexec.reports import read_record
from mbexec.reports.data import json_text
from mbexec.reports.markdown import markdown
from mbexec.reports.page import page
from mbexec.reports.record import Record
from tests.systems import argon, job


class Words(HTMLParser):
    """The text of each section, and the names of plots."""

    def __init__(self, text):
        super().__init__()
        self.sections, self.plots, self._stack = {}, [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        told = dict(attrs)
        if tag == "section":
            self._stack = [told["id"]]
        if tag == "svg":
            self.plots.append(told["aria-labelledby"].removesuffix("-title"))

    def handle_data(self, data):
        for name in self._stack:
            self.sections[name] = self.sections.get(name, "") + data


@pytest.fixture
def ran(tmp_path):
    """Run a job and read its record."""

    def run(tables, executor="serial", **settings):
        path = tmp_path / "run.jsonl"
        mbexec.run(
            tables, executor=executor, **{"run.reporters": ["jsonl"], "plugin.jsonl.path": str(path), **settings}
        )
        return read_record(path)

    return run


def with_(record, **changes):
    """The record with some of it changed."""
    names = attrs.fields_dict(Record)
    return Record(**{name: getattr(record, name) for name in names} | changes)


def test_a_page_is_the_same_each_time(ran):
    """Byte for byte."""
    record = ran(job(argon(4), max_nbody=3))
    assert page(record) == page(record)


def test_without_what_draws_plots_there_is_the_command_that_installs_it(ran, monkeypatch):
    """A sentence with pip's line in it."""
    record = ran(job(argon(2), max_nbody=2))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'mbexec\[plot\]'"):
        page(record)


def test_without_the_planner_of_the_run_the_rest_is_told(ran):
    """What each set adds can't be told then, and why stands there; times and energies are there all the same."""
    record = ran(job(argon(3), max_nbody=2))
    config = record.started["config"]
    changed = {**config, "run": {**config["run"], "planner": "nobody"}}
    found = Words(page(with_(record, started={**record.started, "config": changed})))
    assert "What each set of fragments adds can't be told" in found.sections["strongest"]
    assert "'nobody'" in found.sections["strongest"]
    assert {"convergence", "timeline"} <= set(found.plots)


def test_monomers_alone_make_a_page(ran):
    """No interaction, no pairs: sentences instead of plots."""
    found = Words(page(ran(job(argon(3), max_nbody=1))))
    assert found.plots == ["timeline", "load", "times"]
    assert "No contribution of a pair or a triple is known." in found.sections["strongest"]


def test_a_result_that_is_but_an_energy_is_told(ran):
    """As planners of others may have it."""
    record = ran(job(argon(3), max_nbody=2))
    found = Words(page(with_(record, result={"success": True, "properties": {"return_energy": -1.25}})))
    assert "The energy is -1.2500000000 E_h." in found.sections["energies"]
    assert "convergence" not in found.plots


def test_what_was_not_measured_is_not_made_up(ran):
    """Without times of their own, there is no speedup and no bound."""
    record = ran(job(argon(3), max_nbody=2))
    names = ("serial_time", "speedup", "efficiency", "contention", "bound", "critical_path", "worker_memory")
    blank = {**record.report, **dict.fromkeys(names)}
    told = Words(page(with_(record, report=blank))).sections["summary"]
    assert told.count("not measured") >= 5
    assert "None" not in told


def test_a_run_in_which_nothing_ended_makes_a_page(ran):
    """It says so, and what had begun."""
    record = ran(job(argon(3), max_nbody=2))
    begun = [{"label": '["x", [1], [1]]', "time": record.started["time"] + 2.0}]
    text = page(with_(record, fragments=[], running=begun, report=None, result=None))
    found = Words(text)
    assert found.plots == []
    assert "it broke off, or still runs. 0 of 6 fragment calculations had ended." in text
    assert "2 s" in found.sections["failures"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"report": None, "result": None}, "No end of the run is recorded: it broke off, or still runs. 2 of 6 "),
        ({"result": {"success": False, "error": {}}}, "1 of 6 fragment calculations failed, and 4 did not run."),
        (
            {"result": {"success": False, "error": {}}, "stopped": True},
            "The run was stopped before its end: 1 of 6 fragment calculations are done; 1 failed; 4 did not run.",
        ),
        (
            {"result": {"success": True, "properties": {}}, "stopped": True},
            "1 of 6 fragment calculations failed, and the result",
        ),
    ],
)
def test_page_and_markdown_say_the_same_of_how_a_run_went(ran, changes, told):
    """Also of one that may still run: its page does not say that it broke off."""
    record = ran(job(argon(3), max_nbody=2))
    first, second = record.fragments[:2]
    failed = {**first, "error": {"error_type": "random_error", "error_message": "no luck"}}
    changed = with_(record, **{"fragments": [failed, {**second, "reused": True}], **changes})
    assert told in page(changed)
    assert told in markdown(changed)


def test_what_need_not_run_is_told(ran):
    """What was known before, what is the same by symmetry, and what screening has left out, each by its number."""
    record = ran(job(argon(3), max_nbody=2))
    first, *others = record.fragments
    report = record.report | {"levels": [level | {"duplicates": 2} for level in record.report["levels"]]}
    told = "All 5 fragment calculations gave results; 1 were known before; 4 more are the same by symmetry; 1 more were"
    changed = with_(record, fragments=[{**first, "reused": True}, *others[:4]], left_out=[5], report=report)
    assert told in page(changed)
    assert told in markdown(changed)


def test_which_sets_are_computed_is_told(ran):
    """By cutoffs and symmetry, as the settings have it; of another planner's extras nobody knows what they mean."""
    limits = {"cutoff": {"2": 9.0}, "cutoff_measure": "centers_of_mass", "symmetry_tolerance": 1e-6}
    record = ran(job(argon(4), max_nbody=2, **limits))
    for words in (
        "sets within cutoffs (angstrom, centers of mass): 2-body 9",
        "once what is the same by symmetry within 1e-06 a0",
    ):
        assert words in page(record)
        assert words in markdown(record)
    config = record.started["config"]
    others = {**config, "run": {**config["run"], "planner": "nobody"}}
    assert "sets within" not in markdown(with_(record, started={**record.started, "config": others}))


def test_programs_are_told_with_their_versions(ran):
    """On the page, in Markdown and in JSON; by name alone if the record is an older one that lacks them."""
    record = ran(job(argon(2), max_nbody=2))
    told = f"model-potential {record.started['programs']['model-potential']}"
    assert told in Words(page(record)).sections["provenance"]
    assert told in markdown(record)
    assert json.loads(json_text(record))["started"]["programs"] == record.started["programs"]
    older = with_(record, started={key: value for key, value in record.started.items() if key != "programs"})
    assert "Programsmodel-potentialVersions" in "".join(Words(page(older)).sections["provenance"].split())
    assert "| programs        | model-potential " in markdown(older)


def test_estimates_of_a_failed_run_are_told(ran):
    """What the result says of sums that depend on what is missing, with its bound."""
    record = ran(job(argon(3), max_nbody=2))
    name = "nocp_corrected_interaction_energy_through_2_body"
    one = {"estimate": -0.00123456, "bound": 0.000005, "unknown": 1, "of": 6, "reason": None}
    partial = {"properties": {}, "estimates": {name: one, name.replace("2", "3"): {**one, "estimate": None}}}
    error = {"error_type": "random_error", "error_message": "one failed", "partial": partial}
    told = Words(page(with_(record, result={"success": False, "error": error}))).sections["energies"]
    assert "1 of 6" in told
    assert "-0.00123456" in told
    assert "0.00000500" in told
    assert "No sum of the expansion is known." in told


def test_equal_failures_are_told_once_and_in_full_on_demand(ran):
    """One row, how many more there are, and the whole message of the first where the row has only its gist."""
    record = ran(job(argon(3), max_nbody=2))
    error = {
        "error_type": "unknown_error",
        "error_message": "Traceback (most recent call last):\n  File 7\nOSError: no disk 1",
    }
    failed = [{**each, "error": error, "energy": None} for each in record.fragments[:2]]
    text = page(with_(record, fragments=[*failed, *record.fragments[2:]], result={"success": False, "error": error}))
    told = Words(text).sections["failures"]
    assert "and 1 more" in told
    assert told.count("Traceback") == 1
    assert "2 of 6 fragment calculations failed." in text


def test_notes_are_counted(ran):
    """Each with the first fragment that it came with."""
    record = ran(job(argon(3), max_nbody=2))
    noted = [{**each, "notes": ["another program was used"]} for each in record.fragments]
    told = Words(page(with_(record, fragments=noted))).sections["notes"]
    assert "another program was used" in told
    assert record.fragments[0]["label"] in told


def test_a_hundred_of_each_are_cut_to_what_can_be_read(ran):
    """Kinds of failures, workers and fragments that never ended: the first ones, and how many more there are."""
    record = ran(job(argon(10), max_nbody=2))
    words = [f"{chr(97 + k // 26)}{chr(97 + k % 26)} was wrong" for k in range(55)]
    fragments = [
        {**each, "worker": f"host:{k}:1", "error": {"error_type": "random_error", "error_message": words[k]}}
        for k, each in enumerate(record.fragments)
    ]
    running = [{"label": f"number {k}", "time": record.started["time"]} for k in range(31)]
    found = Words(page(with_(record, fragments=fragments, running=running, report=None, result=None)))
    assert "and 25 more" in found.sections["failures"]
    assert "and 1 more" in found.sections["failures"]
    assert "and 15 more" in found.sections["times"]
