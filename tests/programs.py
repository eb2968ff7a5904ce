"""Programs that tests bring: QCEngine harnesses with a known behaviour."""

import subprocess
from typing import ClassVar

import numpy as np
from qcengine.exceptions import ConvergenceError, InputError, RandomError, UnknownError
from qcengine.programs.model import ProgramHarness

import mbexec
from mbexec.core.potential import ModelPotential


class Toy(ProgramHarness):
    """The model potential behind a QCEngine harness."""

    _defaults: ClassVar = {
        "name": "toy",
        "scratch": False,
        "thread_safe": True,
        "thread_parallel": False,
        "node_parallel": False,
        "managed_memory": False,
    }

    @staticmethod
    def found(raise_error=False):
        return True

    def compute(self, input_data, config):
        try:
            return ModelPotential().compute(input_data, config)
        except mbexec.InputError as error:
            raise InputError(str(error)) from error


class Flaky(Toy):
    """Fails at random, so to speak: the first two calls for each number of atoms, then works."""

    calls: ClassVar[list[int]] = []

    def compute(self, input_data, config):
        nat = len(input_data.molecule.symbols)
        self.calls.append(nat)
        if self.calls.count(nat) <= 2:
            raise RandomError("the disk is on fire")
        return super().compute(input_data, config)


class Unconverged(Toy):
    """Never converges for two atoms."""

    def compute(self, input_data, config):
        if len(input_data.molecule.symbols) == 2:
            raise ConvergenceError("SCF did not converge in 3 iterations")
        return super().compute(input_data, config)


class Broken(Toy):
    """Has a bug."""

    def compute(self, input_data, config):
        return 1 / 0


class Returns(Toy):
    """Returns its error."""

    def compute(self, input_data, config):
        return UnknownError("no license")


class Silent(Toy):
    """Returns nothing."""

    def compute(self, input_data, config):
        return None


class Scribbler(Toy):
    """Writes into its input."""

    def compute(self, input_data, config):
        found = super().compute(input_data, config)
        input_data.specification.keywords["epsilon"]["Ar"] *= 2
        input_data.specification.keywords["rmin"] = {"Ar": 9.0}
        input_data.specification.model.__dict__["basis"] = "scribbled"
        return found


class Liar(Toy):
    """Reports success and an energy that is no number."""

    def compute(self, input_data, config):
        found = super().compute(input_data, config)
        return found.model_copy(
            update={"properties": found.properties.model_copy(update={"return_energy": float("nan")})}
        )


class Empty(Toy):
    """Reports success and gives an energy where a gradient was asked for."""

    def compute(self, input_data, config):
        found = super().compute(input_data, config)
        return found.model_copy(
            update={"properties": found.properties.model_copy(update={"return_gradient": None}), "return_result": None}
        )


class Napping(Toy):
    """Waits for a child process, which sleeps."""

    def compute(self, input_data, config):
        subprocess.run(["sleep", "0.2"], check=True)
        return super().compute(input_data, config)


class Absent(Toy):
    """Is not installed."""

    @staticmethod
    def found(raise_error=False):
        if raise_error:
            raise ModuleNotFoundError("Please install it with `conda install absent`.")
        return False


def _as_seen(input_data, molecule):
    """The same request with another molecule."""
    return input_data.model_copy(update={"molecule": molecule})


class AtomGhosts(Toy):
    """Takes ghosts for atoms, and counts its calls."""

    calls: ClassVar[list[int]] = []

    def compute(self, input_data, config):
        molecule = input_data.molecule
        self.calls.append(len(molecule.symbols))
        blind = molecule.model_copy(update={"real_": np.ones(len(molecule.symbols), dtype=bool)})
        return _without_basis(super().compute, _as_seen(input_data, blind), config)


class DropsGhosts(Toy):
    """Leaves ghosts out."""

    def compute(self, input_data, config):
        return _without_basis(super().compute, input_data, config)


class HonoursGhosts(Toy):
    """Lets each ghost lower the energy a little, as basis functions do."""

    def compute(self, input_data, config):
        found = _without_basis(super().compute, input_data, config)
        energy = found.properties.return_energy - 1e-6 * (~input_data.molecule.real).sum()
        properties = found.properties.model_copy(update={"return_energy": energy})
        return found.model_copy(update={"properties": properties, "return_result": energy})


def _noisy(found, size):
    """The same result with an error in the energy that differs from call to call."""
    energy = found.properties.return_energy + size * next(_NOISE)
    properties = found.properties.model_copy(update={"return_energy": energy})
    return found.model_copy(update={"properties": properties, "return_result": energy})


_NOISE = iter(np.random.default_rng(5).normal(size=100_000).tolist())


class NoisyAtomGhosts(AtomGhosts):
    """Takes ghosts for atoms; no two calls agree."""

    def compute(self, input_data, config):
        return _noisy(super().compute(input_data, config), 1e-9)


class NoisyGhosts(HonoursGhosts):
    """Lets ghosts matter; no two calls agree to the last digits."""

    def compute(self, input_data, config):
        return _noisy(super().compute(input_data, config), 1e-10)


class Misnamed(Toy):
    """Says of ghosts what nobody knows."""

    ghosts: ClassVar[str] = "ignored"


def _without_basis(compute, input_data, config):
    """The model potential has no basis; toys that are asked for one leave it out."""
    model = input_data.specification.model.model_copy(update={"basis": None})
    specification = input_data.specification.model_copy(update={"model": model})
    return compute(input_data.model_copy(update={"specification": specification}), config)
