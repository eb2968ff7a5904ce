"""tblite as a QCEngine program: xTB of the real atoms, safe in threads.

>>> import qcengine
>>> from mbexec_tblite import TBLiteHarness
>>> qcengine.register_program(TBLiteHarness())
"""

from mbexec_tblite.harness import TBLiteHarness

__all__ = ["TBLiteHarness"]
