"""Reference data: made by make.py, read here."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

NAMES = ("he4", "ions")


@cache
def load(name: str) -> dict[str, Any]:
    """The reference data of a cluster."""
    found: dict[str, Any] = json.loads((Path(__file__).parent / f"{name}.json").read_text())
    return found
