"""What a run left behind, read and shown: its record, and reports of it."""

from mbexec.reports.record import Record, Run, is_recorded, list_runs, read_record

__all__ = ["Record", "Run", "is_recorded", "list_runs", "read_record"]
