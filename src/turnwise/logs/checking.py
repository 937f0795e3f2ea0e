"""The same pass over logs as an import, without writing anything."""

from collections.abc import Callable, Sequence
from pathlib import Path

from turnwise.logs.duplicates import disk_faults_shown
from turnwise.logs.intake import Findings, Intake
from turnwise.logs.options import ImportOptions
from turnwise.logs.quarantine import Quarantine
from turnwise.logs.refusal import Refusal


def check(
    files: Sequence[Path],
    options: ImportOptions | None = None,
    on_refusal: Callable[[str, Refusal], None] | None = None,
    on_record: Callable[[], object] | None = None,
) -> Findings:
    """What an import of the files would find; memory is bounded.

    on_refusal: is given each refused record's file and the refusal as it is met. on_record: is
    called for each record that was read.
    Raises LogsError for files or outcomes that cannot be understood as the options say,
    RunFolderError if the disk is full.
    """
    intake = Intake(options or ImportOptions(), Quarantine(on_refusal=on_refusal), on_record)
    with disk_faults_shown():
        for _ in intake.conversations(files):
            pass
    return intake.findings()
