"""Which executor and how many workers are best for a job, on this machine: what `mbexec bench` does.

:mod:`~mbexec.bench.comparison` measures a job on executors, each time in a fresh interpreter, where
:mod:`~mbexec.bench.child` does the work; :mod:`~mbexec.bench.sampling` chooses fragments that stand for a long job's;
:mod:`~mbexec.bench.advice` says what to choose, :mod:`~mbexec.bench.page` and :mod:`~mbexec.bench.plots` make of it
what people see.
"""

from mbexec.bench.advice import advice
from mbexec.bench.comparison import bench
from mbexec.bench.findings import Bench, Case, Measured, Sample

__all__ = ["Bench", "Case", "Measured", "Sample", "advice", "bench"]
