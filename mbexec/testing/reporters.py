"""Rules for reporters: what they do with the events of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mbexec.core.check import ResultCheck
from mbexec.core.events import FragmentDone, FragmentStarted, MetricsEvent, RunDone
from mbexec.core.recorder import Recorder
from mbexec.core.settings import RunConfig, RunSettings
from mbexec.testing.rules import Make, broken, rule
from mbexec.testing.trial import Trial, plugged

__all__ = ["a_run_may_break_off", "events_are_left_as_they_are", "every_event_is_taken"]


def _events() -> Iterator[MetricsEvent]:
    """All kinds of event, of a small run with gradients, two of whose fragments fail, and two of which were known."""
    from qcelemental.models.v2 import FailedOperation

    trial = Trial(["plain", "failing"] * 2 + ["plain"] * 4, {"failing": {"fail": "random_error"}}, driver="gradient")
    config = RunConfig(RunSettings(executor="serial", workers=1), trial.work.context.task)
    recorder = Recorder(trial.plan, config, "f00d", 1)
    yield recorder.begin()
    recorder.submit(1)
    for task in trial.plan:
        result = trial.work(task)
        if task.index < 2:
            yield from recorder.reuse(task, result)
            continue
        yield FragmentStarted(task, result.started)
        if result.error is not None:
            yield recorder.hold(task, result, result.started)
            yield FragmentStarted(task, result.ended)
        yield from recorder.record(task, result, result.started)
    error = {"error_type": "random_error", "error_message": "2 of 8 fragment calculations failed."}
    yield RunDone(recorder.report(), FailedOperation(input_data=trial.plan.spec, error=error))


def _as_in_a_run(event: MetricsEvent) -> MetricsEvent:
    """With numbers that can't be changed."""
    if isinstance(event, FragmentDone):
        ResultCheck("gradient", [1] * max(event.task.bas)).problem(event.task, event.result)
    return event


def _told(make: Make, events: list[MetricsEvent]) -> None:
    with plugged(make) as reporter:
        for event in events:
            try:
                reporter.hook.report_metrics(event=event)
            except Exception as error:
                raise broken(f"raised {type(error).__name__}: {error} for {event!r:.80}") from error


@rule(
    "reporter",
    "one that raises is logged and left out of the run",
    "Match on the event's class, and let others pass; result.error may be set, and values may be empty.",
)
def every_event_is_taken(make: Make, gate: Path) -> None:
    """Nothing is raised for any event of a run, those of failed and of known fragments included."""
    _told(make, [_as_in_a_run(event) for event in _events()])


@rule(
    "reporter",
    "Leave the event as it is: others are given it too",
    "Copy what is to be changed.",
)
def events_are_left_as_they_are(make: Make, gate: Path) -> None:
    """Events are the same before and after, arrays and all."""
    events = list(_events())
    before = [_picture(event) for event in events]
    _told(make, events)
    for event, picture in zip(events, before, strict=True):
        if _picture(event) != picture:
            raise broken(f"changed {event!r:.80}")


def _picture(event: MetricsEvent) -> Any:
    values = dict(event.result.values) if isinstance(event, FragmentDone) else {}
    return repr(event), {name: getattr(value, "tobytes", lambda v=value: v)() for name, value in values.items()}


@rule(
    "reporter",
    "A run may break off, and then there is no ``RunDone``",
    "Put what must be done at the end into __exit__, and look there at what has been begun.",
)
def a_run_may_break_off(make: Make, gate: Path) -> None:
    """A reporter can be left wherever a run ends, also before anything was said, and the next one made."""
    events = [_as_in_a_run(event) for event in _events()]
    for end in (0, 1, 2, len(events) - 1):
        _told(make, events[:end])
