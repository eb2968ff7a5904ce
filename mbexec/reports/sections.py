"""Parts of the page with plots: energies, contributions of fragment sets, time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import qcelemental as qcel

from mbexec.core.errors import MbexecError
from mbexec.reports.charts import contributions_chart, convergence_chart, decay_chart, pairs_chart
from mbexec.reports.facts import (
    KJ,
    Sets,
    energies,
    estimates,
    has_supersystem,
    known_energies,
    known_sums,
    level_rows,
    ran,
    sets_of,
    treatments,
    workers,
)
from mbexec.reports.figures import fixed, percent, seconds
from mbexec.reports.html import paragraph, section, table, text
from mbexec.reports.record import Record
from mbexec.reports.timecharts import load_chart, timeline_chart, times_chart
from mbexec.tables import omitted

__all__ = ["convergence", "strongest", "times"]

_STRONGEST = 10
_WORKERS = 40
_NAMES = {2: "pairs", 3: "triples"}


def convergence(record: Record) -> str:
    """Energies through each order, and what each order adds."""
    found = known_energies(record)
    success = (record.result or {}).get("success")
    told = "" if success else paragraph("Only sums that depend on nothing that is missing are here.")
    if not found:
        alone = known_sums(record).get("return_energy")  # of a planner that merges in a way of its own
        sentence = "No sum of the expansion is known." if alone is None else f"The energy is {alone:.10f} E_h."
        return section("energies", "Energies", [paragraph(sentence), _estimates(record)])
    plots = []
    if any(kinds["interaction"] for kinds in found.values()):
        plots.append(_figure("Interaction energy through each order", convergence_chart(found)))
    if any(any(kinds["contribution"].values()) for kinds in found.values()):
        plots.append(_figure("What each order adds, on a logarithmic scale", contributions_chart(found)))
    words = treatments(found)
    tables = [_energies(bsse, words[bsse], kinds) for bsse, kinds in found.items()]
    return section(
        "energies", "Energies", [told, _pair(plots), _pair(tables, "tables"), _estimates(record), *_omitted(record)]
    )


def _energies(bsse: str, words: str, kinds: Mapping[str, Mapping[int, float]]) -> str:
    rows = [
        (kind, nbody, f"{value:.10f}", f"{value * qcel.constants.hartree2kcalmol:.4f}", f"{KJ * value:.4f}")
        for kind, values in kinds.items()
        for nbody, value in values.items()
    ]
    columns = ("energy", "n-body", "E_h", "kcal/mol", "kJ/mol")
    return table(f"energies-{bsse}", words[:1].upper() + words[1:], columns, rows)


def _omitted(record: Record) -> Iterator[str]:
    """What cutoffs and screening have left out."""
    result, supersystem = record.result or {}, has_supersystem(record)
    if found := result.get("left_out"):
        caption = " ".join(["Left out of the expansion.", *omitted.left_out_words(found, supersystem=supersystem)])
        yield table("left-out", caption, omitted.LEFT_OUT, omitted.left_out_rows(found))
    if told := result.get("screening"):
        yield table(
            "screening",
            f"Screening by energy. {omitted.screening_words(told, supersystem=supersystem)}",
            omitted.SCREENING,
            omitted.screening_rows(told),
        )


def _estimates(record: Record) -> str:
    """What is known of sums that depend on what is missing."""
    known = {name: one for name, one in estimates(record).items() if one["estimate"] is not None}
    names = {name: energies({name: 0.0}) for name in known}
    rows = [
        (bsse, kind, nbody, f"{one['unknown']} of {one['of']}", f"{one['estimate']:.8f}", _bound(one["bound"]))
        for name, one in known.items()
        for bsse, kinds in names[name].items()
        for kind, values in kinds.items()
        for nbody in values
    ]
    columns = ("BSSE treatment", "energy", "n-body", "unknown increments", "estimate / E_h", "+- E_h")
    caption = "Estimates: these depend on what is missing. The bound takes contributions to decay with distance"
    return table("estimates", caption, columns, rows, left=2)


def _bound(value: float | None) -> str | None:
    return None if value is None else f"{value:.8f}"


def strongest(record: Record) -> str:
    """Which pairs and triples matter."""
    title = "Strongest pairs and triples"
    try:
        found = record.contributions
    except MbexecError as error:
        return section("strongest", title, [paragraph(f"What each set of fragments adds can't be told: {error}")])
    parts = []
    for bsse, words in treatments(found).items():
        by_nbody = {nbody: sets_of(found[bsse], record.distances, nbody) for nbody in _NAMES}
        known = {nbody: sets for nbody, sets in by_nbody.items() if len(sets)}
        parts += [f"<h3>{text(words[:1].upper() + words[1:])}</h3>", *_of_treatment(record, bsse, known)]
    explained = (
        "A contribution is what a set of fragments adds to the energy beyond its subsets. The distance of a pair is "
        "that of its closest atoms; that of a triple is the greatest of its three pairs."
    )
    return section("strongest", title, [paragraph(explained), *parts])


def _of_treatment(record: Record, bsse: str, known: Mapping[int, Sets]) -> Iterator[str]:
    if not known:
        yield paragraph("No contribution of a pair or a triple is known.")
        return
    plots = []
    if 2 in known:
        caption = "Pairs: contribution below the diagonal, distance above it"
        plots.append(_figure(caption, pairs_chart(known[2], record.distances, bsse)))
    if any(sets.values.any() for sets in known.values()):
        plots.append(_figure("Contributions against distance", decay_chart(known, bsse)))
    yield _pair(plots)
    yield _pair([_strongest(bsse, nbody, sets) for nbody, sets in known.items()])


def _strongest(bsse: str, nbody: int, sets: Sets) -> str:
    rows = [
        (
            ", ".join(map(str, sets.sets[place].tolist())),
            f"{sets.values[place]:.10f}",
            f"{sets.scaled[place]:.4f}",
            f"{sets.apart[place]:.2f}",
        )
        for place in sets.strongest(_STRONGEST)
    ]
    name = _NAMES[nbody]
    shown = f"the {len(rows)} strongest of {len(sets):,}" if len(sets) > len(rows) else "all"
    columns = ("fragments", "contribution / E_h", "kJ/mol", "distance / angstrom")
    return table(f"{name}-{bsse}", f"{name.capitalize()}, {shown}", columns, rows)


def times(record: Record) -> str:
    """Who ran what when, what each level cost, and how long fragments took."""
    done = ran(record)
    if not done:
        return section(
            "times", "Times", [paragraph("No fragment calculation ran, so there are no times."), _levels(record)]
        )
    crew = workers(record)
    span = max(each["ended"] for each in done) - min(each["started"] for each in done)
    rows = [
        (
            number,
            one.name,
            f"{one.ran:,}",
            f"{one.failed:,}",
            fixed(one.busy),
            percent(one.busy / span) if span else None,
        )
        for number, one in enumerate(crew[:_WORKERS], start=1)
    ]
    columns = ("worker", "host:process:thread", "executed", "failed", "busy / s", "share")
    more = f"and {len(crew) - _WORKERS} more" if len(crew) > _WORKERS else ""
    caption = f"Busy during the {seconds(span)} from the first start to the last end"
    return section(
        "times",
        "Times",
        [
            _figure("What each worker did when", timeline_chart(done, [one.name for one in crew])),
            table("workers", caption, columns, rows, left=2, more=more),
            _pair(
                [
                    _figure("Time of the fragments of each level", load_chart(record.levels)),
                    _figure("How many fragments took how long", times_chart(done)),
                ]
            ),
            _levels(record),
        ],
    )


def _levels(record: Record) -> str:
    columns, rows = level_rows(record)
    caption = "Load by order; times are of what was executed. Imbalance: how much more the busiest worker had to do"
    return table("levels", f"{caption} than the mean", columns, rows, left=0)


def _figure(caption: str, drawn: str) -> str:
    return f"<figure><figcaption>{text(caption)}</figcaption>\n{drawn}</figure>"


def _pair(parts: list[str], kind: str = "plots") -> str:
    """Next to each other where there is room."""
    boxes = "\n".join(f"<div>{part}</div>" for part in parts if part)
    return f'<div class="pair {kind}">\n{boxes}\n</div>' if boxes else ""
