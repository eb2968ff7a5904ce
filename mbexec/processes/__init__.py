"""For executors whose fragments run in child processes: what is printed there, what is sent, and how one is ended."""

from mbexec.processes.child import Inbox, Surroundings, catch_output, packed, run_packed, take_output
from mbexec.processes.ends import MARK, ending, gone, kill_marked, kill_tree, last_words, runs

__all__ = [
    "MARK",
    "Inbox",
    "Surroundings",
    "catch_output",
    "ending",
    "gone",
    "kill_marked",
    "kill_tree",
    "last_words",
    "packed",
    "run_packed",
    "runs",
    "take_output",
]
