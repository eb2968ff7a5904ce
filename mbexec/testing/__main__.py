"""Try an installed plugin by name: ``python -m mbexec.testing NAME``."""

from __future__ import annotations

import sys
from collections.abc import Callable

from mbexec.core.errors import MbexecError
from mbexec.core.manager import find_plugin, installed_plugins
from mbexec.testing import check_executor, check_planner, check_reporter
from mbexec.testing.rules import Make

__all__ = ["main"]

_KITS: dict[str, Callable[[Make], None]] = {
    "executor": check_executor,
    "planner": check_planner,
    "reporter": check_reporter,
}


def main(names: list[str]) -> str | None:
    """Try plugins in all of their roles; what is wrong, if anything is."""
    if not names:
        return "Name one or more plugins: python -m mbexec.testing NAME"
    try:
        for name in names:
            plugin = find_plugin(name, "plugin")
            (roles,) = [each.roles for each in installed_plugins() if each.name == name]
            for role in roles:
                print(f"{name}, {role}")
                if role not in _KITS:
                    return f"A {role} can't be tried by name; call mbexec.testing.check_{role} in a test."
                _KITS[role](plugin)
    except MbexecError as error:
        return str(error)
    except AssertionError as fault:
        count = len(fault.args[0].splitlines())
        return f"{count} rule{'s' if count > 1 else ''} broken"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
