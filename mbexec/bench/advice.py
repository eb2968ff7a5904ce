"""Which executor and how many workers to take, and why, in a sentence or two."""

from __future__ import annotations

from mbexec.bench.findings import Bench, Case

__all__ = ["advice", "recommended"]

_CLOSE = 0.9  # of the best one's speed: nothing to choose between
_GAIN = 1.1  # times serial's speed: worth the words
_WAITS = 1.3  # times as long as on serial
_NEAR = 1.15  # times the critical path


def recommended(found: Bench) -> Case | None:
    """The case that ends soonest, its start included; of those that are about as fast, the one with fewest workers.

    With one worker, serial: no other can be faster, whatever the noise.
    """
    if not found.serial.runs or found.serial.problem:
        return None
    usable = [found.serial, *(case for case in found.cases if case.workers > 1 and case.runs and not case.problem)]
    least = min(_total(found, case) for case in usable)
    return min(
        (case for case in usable if _CLOSE * _total(found, case) <= least),
        key=lambda case: (case.workers, _total(found, case)),
    )


def _total(found: Bench, case: Case) -> float:
    """Nothing starts sooner than serial, whatever the noise."""
    return max(case.start, found.serial.start) + found.expected(case)


def advice(found: Bench) -> str:
    """What to choose and why."""
    case = recommended(found)
    if case is None:
        return "No recommendation: the job did not run on serial."
    told = [_enough(found)] if case is found.serial else [*_fast(found, case), *_limits(found, case)]
    return " ".join([*told, *(["But the machine was busy: measure again when it is not."] if found.busy else [])])


def _enough(found: Bench) -> str:
    """Why one worker will do."""
    others = [other for other in found.cases if other.runs and not other.problem and other.workers > 1]
    if not others:
        return "Take serial: nothing ran with more workers."
    fastest = min(others, key=found.expected)
    speed = found.speedup(fastest)
    if speed > _GAIN:
        return f"Take serial: {fastest.name} is {speed:.1f} times as fast once it runs, {_eaten(found, fastest)}"
    if fastest.beyond > 0.5 * found.serial.fragment:
        return (
            f"Take serial: a fragment takes {_time(found.serial.fragment)}, and {fastest.name} spends "
            f"{_time(fastest.beyond)} beyond its program on each."
        )
    return " ".join(
        [f"Take serial: nothing is more than {max(speed, 1.0):.1f} times as fast.", *_limits(found, fastest)]
    )


def _eaten(found: Bench, case: Case) -> str:
    """Why a case that runs faster does not end sooner by more than times vary."""
    gain = found.expected(found.serial) - found.expected(case)
    longer = case.start - found.serial.start
    if longer > gain:
        return f"which saves {_time(gain)} of this job, but it takes {_time(longer)} longer to start."
    whole = _total(found, found.serial)
    saved = f"saves {_time(whole - _total(found, case))} of the {_time(whole)} that starting and running take"
    if longer <= 0:
        return f"and starts no later, but that {saved}: too little to tell from noise."
    return f"but since it takes {_time(longer)} longer to start, it {saved}: too little to tell from noise."


def _fast(found: Bench, best: Case) -> list[str]:
    """How fast it is, and why it is not an executor that runs fragments in one process."""
    told = [f"Take {best.name}: {found.speedup(best):.1f} times as fast as serial."]
    for case in found.cases:
        waits = case.runs and found.stretch(case) > _WAITS * max(found.stretch(best), 1.0)
        if case.workers == best.workers and waits and found.speedup(case) < _CLOSE * found.speedup(best):
            told.append(
                f"{case.executor} is {found.speedup(case):.1f} times as fast: fragments take {found.stretch(case):.1f} "
                "times as long there as on serial, since they wait for each other in one process, as programs do that "
                "hold Python's lock."
            )
    return told


def _limits(found: Bench, case: Case) -> list[str]:
    """What keeps it from being faster."""
    path = found.serial.of_report("critical_path")
    if found.sample is None and case.wall < _NEAR * path:
        return [f"More workers would gain nothing: the longest fragment alone takes {_time(path)}."]
    if found.stretch(case) > _WAITS:
        longer = f"{found.stretch(case):.1f} times as long there as on serial"
        return [f"Fragments take {longer}: they share processors, memory or Python's lock."]
    return []


def _time(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds >= 0.1 else f"{1e3 * seconds:.2g} ms"
