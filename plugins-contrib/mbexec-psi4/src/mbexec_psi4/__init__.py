"""psi4 1.3 as a QCEngine program; newer psi4 is left to QCEngine's own harness.

QCEngine has a program of this name, so it must go first:

>>> import qcengine
>>> from mbexec_psi4 import Psi4Harness
>>> qcengine.unregister_program("psi4")
>>> qcengine.register_program(Psi4Harness())
"""

from mbexec_psi4.harness import Psi4Harness

__all__ = ["Psi4Harness"]
