"""What the README says is so."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import qcengine
from mbexec_tblite.calculator import METHODS
from mbexec_tblite.keywords import Keywords, read_keywords

pytestmark = pytest.mark.qc

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_keywords():
    """The table has every keyword, in order, with its default; and every default is a value it may be given."""
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", README, flags=re.MULTILINE)
    assert rows == [(field.name, repr(field.default)) for field in fields(Keywords)]
    given = {field.name: field.default for field in fields(Keywords) if field.default is not None}
    assert read_keywords(given) == read_keywords({}) == Keywords()


def test_methods():
    """The table of methods is complete."""
    assert tuple(re.findall(r"^\| `([\w-]+)` \| yes", README, flags=re.MULTILINE)) == METHODS


def test_example(capsys):
    """The example runs as it stands."""
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names = {}
    # A run of mbexec in this process may have registered the program already.
    if "tblite" in qcengine.list_all_programs():
        qcengine.unregister_program("tblite")
    exec(code, names)
    assert names["result"].properties.return_energy == pytest.approx(-5.07, abs=0.01)
    assert not names["result"].return_result[3].any()
    assert capsys.readouterr().out.startswith("-5.0")
