"""What the README says is so."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from mbexec_pyscf.keywords import Keywords, read_keywords
from qcengine.programs import base

pytestmark = [pytest.mark.qc, pytest.mark.sources]

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_keywords():
    """The table has every keyword, in order, with its default; and every default is a value it may be given."""
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)` \|", README, flags=re.MULTILINE)
    assert rows == [(field.name, repr(field.default)) for field in fields(Keywords)]
    given = {field.name: field.default for field in fields(Keywords) if field.default is not None}
    assert read_keywords(given) == read_keywords({}) == Keywords()


def test_example(capsys, monkeypatch):
    """The example runs as it stands."""
    unregistered = {name: harness for name, harness in base.programs.items() if name != "pyscf"}
    monkeypatch.setattr(base, "programs", unregistered)
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names = {}
    exec(code, names)
    assert names["result"].properties.mp2_total_energy == pytest.approx(-2.8810, abs=1e-4)
    assert np.abs(names["result"].return_result.sum(axis=0)).max() < 1e-7
    assert capsys.readouterr().out.startswith("-2.88")
