"""What a result says of the fragment calculations that it stands for: turned as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbexec import Plan, Symmetry, TaskResult

__all__ = ["moves_moments", "with_duplicates"]

_AT_ONCE = 1_000_000  # numbers that are turned together


def moves_moments(plan: Plan) -> bool:
    """Whether a translation would change one of the properties: quadrupoles do, and dipoles where there is a charge."""
    charged = any(plan.spec.molecule.fragment_charges)
    return any(shape == (3, 3) or (shape == (3,) and charged) for shape in plan.properties.values())


def with_duplicates(plan: Plan, results: Iterable[TaskResult]) -> Iterable[TaskResult]:
    """The results, each followed by what it makes of its duplicates: no more than values or an error."""
    if plan.symmetry is None:
        return results
    return chain.from_iterable(_results_of(plan.symmetry, result) for result in results)


def _results_of(symmetry: Symmetry, result: TaskResult) -> Iterator[TaskResult]:
    yield result
    places = symmetry.places(result.index)
    step = max(1, _AT_ONCE // sum(map(np.size, result.values.values()), 1))
    for start in range(0, len(places), step):
        some = places[start : start + step]
        indices = symmetry.duplicates[some].tolist()
        if result.error is not None:
            yield from (TaskResult(index, error=result.error) for index in indices)
            continue
        sources = np.stack([symmetry.source(place) for place in some.tolist()])
        turned = _turned(result.values, symmetry.rotations[some], sources)
        for number, index in enumerate(indices):
            yield TaskResult(index, {name: values[number] for name, values in turned.items()})


def _turned(
    values: Mapping[str, Any], rotations: NDArray[np.float64], sources: NDArray[np.int32]
) -> dict[str, NDArray[np.float64]]:
    """Values of each of m duplicates, along the first axis.

    Parameters
    ----------
    values
        Of the representative, which has nat atoms.
    rotations : (m, 3, 3) float array
    sources : (m, nat) int array
        As :class:`mbexec.Symmetry` has them.
    """
    count, nat = sources.shape
    found = {}
    for name, value in values.items():
        array = np.asarray(value)
        if name == "gradient":
            found[name] = np.einsum("mab,mib->mia", rotations, array[sources])
        elif name == "hessian":
            blocks = array.reshape(nat, 3, nat, 3).transpose(0, 2, 1, 3)[sources[:, :, None], sources[:, None]]
            turned = np.einsum("mac,mijcd,mbd->miajb", rotations, blocks, rotations)
            found[name] = turned.reshape(count, 3 * nat, 3 * nat)
        elif array.shape == (3,):
            found[name] = np.einsum("mab,b->ma", rotations, array)
        elif array.shape == (3, 3):
            found[name] = np.einsum("mac,cd,mbd->mab", rotations, array, rotations)
        else:
            found[name] = np.broadcast_to(array, (count, *array.shape))
    return found
