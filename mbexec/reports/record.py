"""Reading the record of a run: the lines that the reporter jsonl has written."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import frozen
from numpy.typing import NDArray

from mbexec.core.engine import make_plan
from mbexec.core.errors import ConfigError
from mbexec.core.settings import RunConfig, RunSettings, TaskSettings
from mbexec.core.types import Plan, Task
from mbexec.reports.lines import START, Damage, lines_of

if TYPE_CHECKING:
    from qcmanybody.models.v2 import ManyBodyInput

__all__ = ["Record", "Run", "is_recorded", "list_runs", "read_record"]

_TAIL = 1 << 20  # bytes


@frozen
class Run:
    """A run that a record tells of.

    Attributes
    ----------
    run_id
        Its name.
    started
        Seconds since the epoch.
    """

    run_id: str
    started: float


@frozen(eq=False, slots=False)
class Record:
    """What is recorded of a run.

    Attributes
    ----------
    run_id
        The run's name.
    started
        The line of its start: time, mbexec, programs, executor, workers, levels, store, input,
        config.
    fragments
        The line of each result with its label, in the plan's order: index, label, mc, frag, bas, nbody, reused, energy
        (E_h; None if it failed), queued, started, ended, wall_time, cpu_time, lost, worker, peak_memory, error, notes.
    running
        The lines of the fragments that began and gave no result, in the order in which they began.
    left_out
        Places in the plan of the tasks that the planner left out; None if it was not asked.
    report
        What the run cost, as ``RunReport.as_dict``; None if it broke off.
    result
        What came of it: success, and properties or an error; None if it broke off.
    stopped
        Whether the run was told to start nothing new, as Ctrl-C does.
    damaged
        How many lines of the file could not be read, but for those that were cut off when a run was killed.
    """

    run_id: str
    started: dict[str, Any]
    fragments: list[dict[str, Any]]
    running: list[dict[str, Any]]
    left_out: list[int] | None
    report: dict[str, Any] | None
    result: dict[str, Any] | None
    stopped: bool = False
    damaged: int = 0

    @cached_property
    def spec(self) -> ManyBodyInput:
        """The many-body input."""
        from qcmanybody.models.v2 import ManyBodyInput

        return ManyBodyInput(**self.started["input"])

    @cached_property
    def plan(self) -> Plan:
        """The fragment calculations of the run, by the planner that it had."""
        tables = self.started["config"]
        settings = RunSettings(planner=tables["run"]["planner"])
        made = make_plan(
            self.spec, RunConfig(settings, TaskSettings(), plugin=tables["plugin"], sources=tables["sources"])
        )
        if strange := [each for each in self.fragments if not _is_of(each, made)]:
            raise ConfigError(
                f"The run {self.run_id} was planned in another way than the planner {settings.planner!r} does it now: "
                f"{strange[0]['label']} has another place. Read the record with mbexec {self.started['mbexec']}."
            )
        return made

    @cached_property
    def energies(self) -> NDArray[np.float64]:
        """Energy of each fragment calculation in the plan's order, (ntask,), E_h; NaN where there is none."""
        found = np.full(len(self.plan), np.nan)
        for each in self.fragments:
            if each["energy"] is not None:
                found[each["index"]] = each["energy"]
        return found if self.plan.symmetry is None else found[self.plan.symmetry.representative]

    @cached_property
    def contributions(self) -> dict[str, dict[tuple[int, ...], float]]:
        """What each fragment set adds to the energy beyond its subsets, E_h, by BSSE treatment and set."""
        expansion = self.plan.expansion
        treatments = dict.fromkeys(row.bsse for row in expansion.rows)
        return {bsse: expansion.increments(bsse, self.energies) for bsse in treatments}

    @cached_property
    def distances(self) -> NDArray[np.float64]:
        """Between the closest atoms of each two fragments, (nfr, nfr), angstrom; 0 of a fragment to itself."""
        import qcelemental as qcel  # takes longer than `mbexec --help` may

        molecule = self.spec.molecule
        places = [molecule.geometry[atoms] * qcel.constants.bohr2angstroms for atoms in molecule.fragments]
        everything, starts = np.concatenate(places), np.cumsum([0, *map(len, places[:-1])])
        found = np.zeros((len(places), len(places)))
        for number, here in enumerate(places):
            apart = np.sqrt(((here[:, None] - everything) ** 2).sum(axis=2)).min(axis=0)
            found[number] = np.minimum.reduceat(apart, starts)
        np.fill_diagonal(found, 0.0)
        return found

    @property
    def duplicates(self) -> int:
        """How many calculations are the same as others up to a rigid motion, and did not run."""
        return sum(level.get("duplicates", 0) for level in self.levels)

    @cached_property
    def levels(self) -> list[dict[str, Any]]:
        """What each level cost, with the fields of ``LevelReport``; of a run that broke off, what they had by then."""
        if self.report is not None:
            return list(self.report["levels"])
        duplicates = {level.nbody: level.duplicates for level in self.plan.levels}
        return [self._level(nbody, ntasks, duplicates[nbody]) for nbody, ntasks in self.started["levels"]]

    def _level(self, nbody: int, ntasks: int, duplicates: int) -> dict[str, Any]:
        mine = [each for each in self.fragments if each["nbody"] == nbody]
        ran = [each for each in mine if not each["reused"]]
        walls = [each["wall_time"] for each in ran]
        busy: dict[str, float] = {}
        for each in ran:
            busy[each["worker"]] = busy.get(each["worker"], 0.0) + each["wall_time"]
        mean = sum(walls) / max(self.started["workers"], len(busy))
        return {
            "nbody": nbody,
            "ntasks": ntasks,
            "duplicates": duplicates,
            "executed": len(ran),
            "reused": len(mine) - len(ran),
            "failed": sum(each["error"] is not None for each in mine),
            "wall_time": sum(walls),
            "cpu_time": sum(each["cpu_time"] for each in ran),
            "shortest": min(walls, default=None),
            "typical": median(walls) if walls else None,
            "longest": max(walls, default=None),
            "imbalance": max(busy.values()) / mean - 1 if mean else None,
            "left_out": int((self.plan.expansion.nbody[self.left_out] == nbody).sum()) if self.left_out else 0,
        }

    @property
    def wanted(self) -> int:
        """How many fragment calculations there were to do."""
        planned: int = sum(ntasks for _, ntasks in self.started["levels"])
        return planned - len(self.left_out or ())


def _label(line: Mapping[str, Any]) -> str:
    return Task(line["index"], line["mc"], tuple(line["frag"]), tuple(line["bas"])).label


def _is_of(line: Mapping[str, Any], plan: Plan) -> bool:
    return bool(line["index"] < len(plan) and plan[line["index"]].label == line["label"])


def list_runs(path: str | Path) -> list[Run]:
    """The runs that a record tells of, in the order in which they started.

    Raises
    ------
    ConfigError
        If there is no such file, or it is no record.
    """
    return [Run(line["run_id"], line["time"]) for line in lines_of(Path(path), START)]


def is_recorded(path: Path, run_id: str) -> bool:
    """Whether a record has the end of a run, which is about the last thing that was written to it."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL))
            return f'{{"event":"run_done","run_id":"{run_id}"'.encode() in file.read()
    except OSError:
        return False


def read_record(path: str | Path, run_id: str | None = None) -> Record:
    """What a record tells of a run.

    Parameters
    ----------
    path
        Of the record.
    run_id
        Which run; the last one that started if left out.

    Raises
    ------
    ConfigError
        If there is no such file, it is no record, or it doesn't tell of the run.
    """
    path = Path(path)
    runs = [run.run_id for run in list_runs(path)]
    if not runs:
        raise ConfigError(f"The record {path} tells of no run: its first line is not whole.")
    wanted = runs[-1] if run_id is None else run_id
    if wanted not in runs:
        raise ConfigError(f"The record {path} has no run {wanted!r:.80}; its runs are {', '.join(runs[-20:])}.")
    started: dict[str, Any] = {}
    begun: dict[int, dict[str, Any]] = {}
    done: dict[int, dict[str, Any]] = {}
    end: dict[str, Any] = {}
    left_out = None
    damage = Damage()
    for line in lines_of(path, run_id=wanted.encode(), damage=damage):
        match line["event"]:
            case "run_started":
                started = line
            case "fragment_started":
                begun[line["index"]] = line
            case "fragment_held":  # it will run a second time
                begun.pop(line["index"], None)
            case "fragment_done":
                done[line["index"]] = {**line, "label": _label(line)}
            case "tasks_left_out":
                left_out = line["indices"]
            case "run_done":
                end = line
    fragments = [done[index] for index in sorted(done)]
    running = [line for index, line in begun.items() if index not in done and not end]
    return Record(
        wanted,
        started,
        fragments,
        running,
        left_out,
        end.get("report"),
        end.get("result"),
        bool(end.get("stopped")),
        damage.count,
    )
