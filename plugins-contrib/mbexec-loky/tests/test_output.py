"""What is printed in workers: under the label of its fragment, and last words of workers that die."""

from __future__ import annotations

import pytest
from loky_cases import failures

import mbexec

SAID = ("in Python", "in C", "from a child", "UserWarning: as a warning", "by logging")


def test_output_is_logged_under_the_label_of_its_fragment(toys, events, capfd):
    """From Python, C and child processes, warnings and log messages; nothing of it on the run's own output."""
    found = mbexec.run(toys.job({"[1]": "talk", "[0, 2]": "talk"}))
    assert found.result.success
    said = {event["label"]: event["output"] for event in events if event["event"] == "fragment_output"}
    assert set(said) == {'["(auto)", [2], [2]]', '["(auto)", [1, 3], [1, 3]]'}
    for output in said.values():
        assert [words for words in SAID if words not in output] in ([], ["UserWarning: as a warning"])  # once a process
    assert capfd.readouterr() == ("", "")


def test_each_fragment_has_its_own(toys, events):
    """What one worker prints for fragment after fragment is not mixed, the first run's with the second's neither."""
    for _ in range(2):
        mbexec.run(toys.job(dict.fromkeys(["[0]", "[1]", "[2]", "[3]", "[4]", "[5]"], "talk")), workers=1)
    said = [event["output"] for event in events if event["event"] == "fragment_output"]
    assert len(said) == 12
    assert all(output.count("in Python") == output.count("in C") == 1 for output in said)


@pytest.mark.parametrize("deed", ["die talking"])
def test_last_words(deed, toys, events):
    """A worker that dies has its last lines in the fragment's error and in the log."""
    (failed,) = failures(mbexec.run(toys.job({"[0, 1]": deed}))).values()
    for words in SAID:
        assert words in failed["error_message"].partition("The last that it printed:\n")[2]
    assert all("in Python" in event["said"] for event in events if event["event"] == "worker_died")


def test_much_output_is_cut(toys, events):
    """The end is what tells most."""
    mbexec.run(toys.job({"[1]": "talk much"}))
    (event,) = [event for event in events if event["event"] == "fragment_output"]
    assert event["output"].startswith("...")
    assert event["output"].endswith("line 99999\n")
    assert len(event["output"]) < 70_000
