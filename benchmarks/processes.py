"""A measurement in a process of its own: peak memory never falls again, and what was done before is in caches."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["apart"]

SCRIPT = """
import json, sys
from {module} import {name}
print(json.dumps({name}(*json.loads(sys.argv[1]))))
"""


def apart(measure: Callable[..., Any], *given: Any) -> Any:
    """What a function of a script says; what it is given and what it says must be JSON."""
    path = Path(inspect.getfile(measure))
    script = SCRIPT.format(module=path.stem, name=measure.__name__)
    command = [sys.executable, "-c", script, json.dumps(given)]
    return json.loads(subprocess.run(command, cwd=path.parent, check=True, capture_output=True, text=True).stdout)
