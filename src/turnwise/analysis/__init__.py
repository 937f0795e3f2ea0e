"""Reading a run's records and showing them: tables, charts, dialogues, one HTML report."""

from turnwise.analysis.report import write_report

__all__ = ["write_report"]
