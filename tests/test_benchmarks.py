"""The suite of benchmarks: what it reads from the scripts, and what it makes of that."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as suite_of_benchmarks
from benchmarks.growth import fitted, orders, plot, rows

ROOT = Path(__file__).parent.parent
TABLE = """
Some words.
| waters | step | QCManyBody / ms | mbexec / ms | ratio | QCManyBody / MB | mbexec / MB |
| --- | --- | --: | --: | --: | --: | --: |
| 8 nocp | build | 1,000.0 | 2.0 | 500 | 4 | 0 |
| 16 nocp | build | 8,000.0 | 8.0 | 1000 | 16 | 0 |
| 32 nocp | build | 64,000.0 | 32.0 | 2000 | 64 | 1 |
| 16 nocp 4-body | build | 9,000.0 | 9.0 | 1000 | 16 | 0 |
"""


def scripts():
    return {"plan_merge": {"rows": rows(TABLE.splitlines())}}


def test_rows_are_those_of_tables_with_numbers_as_numbers():
    """Other lines are left out."""
    found = rows(TABLE.splitlines())
    assert len(found) == 4
    assert found[2]["waters"] == "32 nocp"
    assert found[2]["QCManyBody / ms"] == 64000.0


def test_a_power_is_found_again():
    """Of points that lie on it."""
    assert fitted([(n, 3.0 * n**2.5) for n in (8, 16, 32)]) == pytest.approx((2.5, 3.0))


def test_orders_are_of_what_was_measured_at_three_sizes():
    """Each side's time and memory, where there was enough of it, at one number of bodies."""
    found = {(line["side"], line["what"]): line["order"] for line in orders(scripts())}
    assert found == pytest.approx({("QCManyBody", "time"): 3.0, ("mbexec", "time"): 2.0, ("QCManyBody", "memory"): 2.0})


def test_plots_name_sides_and_orders(tmp_path):
    """One of time and one of memory."""
    plot(scripts(), tmp_path)
    assert {path.name for path in tmp_path.glob("*.svg")} == {"growth-time.svg", "growth-memory.svg"}
    assert "<svg" in (tmp_path / "growth-time.svg").read_text()


SCRIPT = """
import sys
print("| fragments | ms |")
print("| --- | --: |")
print("| 1,000 | 2.5 |")
print("options", sys.argv[1:])
sys.exit({code})
"""


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """Calls the suite, which has two small scripts: one that ends well, and one that finds a figure out of bounds."""
    for name, code in (("good", 0), ("bad", 1)):
        (tmp_path / f"{name}.py").write_text(SCRIPT.format(code=code))
    monkeypatch.setattr(suite_of_benchmarks, "HERE", tmp_path)
    monkeypatch.setattr(suite_of_benchmarks, "SCRIPTS", ("good", "bad"))

    def call(*options):
        monkeypatch.setattr(sys, "argv", ["benchmarks", *options, "--output", str(tmp_path / "out")])
        code = suite_of_benchmarks.main()
        return code, json.loads((tmp_path / "out" / "benchmarks.json").read_text())

    return call


def test_what_scripts_find_is_written_down(suite, capfd):
    """Rows and other lines, how long each took and how it ended, and on what machine; nothing but what is asked for."""
    code, found = suite("good", "--check")
    assert code == 0
    assert found["machine"]["processors"] >= 1
    assert list(found["scripts"]) == ["good"]
    script = found["scripts"]["good"]
    assert script["rows"] == [{"fragments": 1000.0, "ms": 2.5}]
    assert script["lines"] == ["options ['--check']"]
    assert script["passed"]
    assert script["seconds"] > 0
    assert "| 1,000 | 2.5 |" in capfd.readouterr().out


def test_the_suite_fails_if_a_script_does(suite, capfd):
    """When all have run, and by name."""
    code, found = suite()
    assert code == 1
    assert [script["passed"] for script in found["scripts"].values()] == [True, False]
    assert "Failed: bad." in capfd.readouterr().out


def test_unknown_benchmarks_are_named(suite, capsys):
    """With those that there are."""
    with pytest.raises(SystemExit):
        suite("plan-merge")
    assert "no benchmark is named 'plan-merge'; there are good, bad" in capsys.readouterr().err


def test_every_script_is_in_the_suite():
    """But for what several of them share."""
    paths = (ROOT / "benchmarks").glob("[!_]*.py")
    scripts = {path.stem for path in paths if 'if __name__ == "__main__"' in path.read_text()}
    assert scripts == set(suite_of_benchmarks.SCRIPTS)
