"""PySCF as a QCEngine program, honouring ghost atoms and safe in threads.

>>> import qcengine
>>> from mbexec_pyscf import PySCFHarness
>>> qcengine.register_program(PySCFHarness())
"""

from mbexec_pyscf.harness import PySCFHarness

__all__ = ["PySCFHarness"]
