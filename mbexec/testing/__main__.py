"""Try installed plugins by name: ``python -m mbexec.testing NAME``."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

from mbexec.core.errors import MbexecError
from mbexec.core.manager import find_plugin, installed_plugins
from mbexec.testing import check_executor, check_planner, check_reporter
from mbexec.testing.rules import PATIENCE

__all__ = ["main"]

_KITS: dict[str, Callable[..., None]] = {
    "executor": check_executor,
    "planner": check_planner,
    "reporter": check_reporter,
}


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < (seconds := float(text)) < math.inf:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds above 0.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m mbexec.testing", description="Try installed plugins by all rules.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a plugin, as `mbexec plugins` lists it")
    parser.add_argument(
        "--patience",
        type=_seconds,
        default=PATIENCE,
        metavar="SECONDS",
        help="how long a rule may take before it has timed out (%(default)g); more where the machine is busy",
    )
    return parser


def main(words: list[str]) -> str | None:
    """Try plugins in all of their roles; what is wrong, if anything is."""
    given = _parser().parse_args(words)
    if not given.names:
        return "Name one or more plugins: python -m mbexec.testing NAME"
    try:
        for name in given.names:
            plugin = find_plugin(name, "plugin")
            (roles,) = [each.roles for each in installed_plugins() if each.name == name]
            for role in roles:
                print(f"{name}, {role}")
                if role not in _KITS:
                    return f"A {role} can't be tried by name; call mbexec.testing.check_{role} in a test."
                _KITS[role](plugin, patience=given.patience)
    except MbexecError as error:
        return str(error)
    except AssertionError as fault:
        count = len(fault.args[0].splitlines())
        return f"{count} rule{'s' if count > 1 else ''} broken"
    return None


def _stopping(process: int) -> Callable[[int, FrameType | None], None]:
    """Leave as by Ctrl-C, so that temporary folders are removed; processes that were forked end as they would."""

    def _stop(number: int, _: FrameType | None) -> None:
        if os.getpid() == process:
            sys.exit(128 + number)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    return _stop


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stopping(os.getpid()))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also in the background of a script, where it is ignored
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
