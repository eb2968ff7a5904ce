"""What a run left behind, read and shown: its record, and reports of it."""

from mbexec.reports.record import Record, Run, list_runs, read_record

__all__ = ["Record", "Run", "list_runs", "read_record"]
