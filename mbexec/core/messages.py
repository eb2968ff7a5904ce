"""What a program's message comes to, in a line or two for tables; the whole of it is kept elsewhere."""

from __future__ import annotations

import re

__all__ = ["gist", "kind"]

_HEADER = re.compile(r"^QCEngine (\w+ )*Error: ")
# How QCEngine stamps the whole output of a program that it runs as a child process.
_STAMP = re.compile(r"INPUT:\n.*?\n(?:STDOUT|STDERR):\n(?P<said>.*)\nTRACEBACK:\n", re.DOTALL)
_TELLING = re.compile(
    r"\berrors?\b|\bfail(ed|s|ure)?\b|\bunrecogni[sz]ed|\bunknown\b|\binvalid\b|\binconsistent\b|\bnon-existing\b"
    r"|\bnot (be )?(found|supported|implemented|available|converged?)\b|\bcannot\b|\bcan't\b|\bcould not\b|\babort"
    r"|\bout of memory\b|\bsegmentation\b",
    re.IGNORECASE,
)
# MPI and its kin repeat what the program said.
_ECHO = re.compile(r"ARMCI|MPI_ABORT|ORTE_|Open MPI")
# Where NWChem stumbled over its input.
_PLACE = re.compile(r"current input line\s*:\s*\n\s*\d+: +(\S.*)")
_CODE = re.compile(r"\s{3,}-?\d+\s*$")
_PATH = re.compile(r"(?<!\w)/\S+")  # each calculation has a scratch folder of its own
_NUMBER = re.compile(r"[-+]?\d[\d.]*(e[-+]?\d+)?", re.IGNORECASE)
_SHOWN = 3


def gist(message: str) -> str:
    """What a message of any length says: a sentence as it is, the end of a traceback, the telling lines of an output.

    Parameters
    ----------
    message
        QCEngine's, whole.
    """
    text = _HEADER.sub("", message.strip())
    if stamped := _STAMP.search(text + "\n"):
        return _of_output(stamped["said"])
    lines = _lines(text)
    if not lines:
        return ""
    if text.startswith(("Traceback", "QCEngine Execution Error")):
        return lines[-1]
    return lines[0] if re.search(r"\w{3}", text.splitlines()[0]) else _of_output(text)


def kind(message: str) -> str:
    """The gist without its numbers and paths: failures that differ in nothing else are of one kind."""
    return _NUMBER.sub("#", _PATH.sub("#", gist(message)))


def _of_output(text: str) -> str:
    """The last lines that speak of an error, or the last line of all."""
    lines = [line for line in _lines(text) if line != "STDERR:"]
    telling = [line for line in lines if _TELLING.search(line) and not _ECHO.search(line)]
    found = "; ".join(dict.fromkeys(telling[-_SHOWN:] or lines[-1:])) or "The program said nothing."
    place = _PLACE.search(text)
    return f"{found}; at {place[1].strip()!r}" if place else found


def _lines(text: str) -> list[str]:
    """Those with words in them, without rules and surplus blanks."""
    return [found for line in text.splitlines() if (found := _bare(line))]


def _bare(line: str) -> str:
    return " ".join(_CODE.sub("", line).split()).strip("-=* ")
