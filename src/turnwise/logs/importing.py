"""Logs into a folder of canonical shards, whole or not at all.

part-00000.parquet …   conversations, `per_shard` each
quarantine.jsonl       what was not taken and why
import.json            counts and warnings
index.sqlite           where each conversation is, for deletion
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from turnwise.conversation import LoggedConversation
from turnwise.errors import RecordError, RunFolderError
from turnwise.logs.deletion import IndexWriter
from turnwise.logs.duplicates import disk_faults_shown
from turnwise.logs.intake import Findings, Intake
from turnwise.logs.options import ImportOptions
from turnwise.logs.quarantine import Quarantine
from turnwise.logs.refusal import Refusal
from turnwise.records import LogWriter, replace_folder_atomically, write_text_atomically

QUARANTINE_NAME = "quarantine.jsonl"
SUMMARY_NAME = "import.json"


@dataclass(frozen=True)
class ImportResult:
    """What an import found and where it wrote it."""

    folder: Path
    findings: Findings
    num_shards: int


def import_logs(
    files: Sequence[Path],
    folder: Path,
    options: ImportOptions | None = None,
    on_refusal: Callable[[str, Refusal], None] | None = None,
    on_record: Callable[[], object] | None = None,
) -> ImportResult:
    """Reads logs of any format and writes those that may be used; memory is bounded.

    folder: must not exist, or be empty; it appears when everything is written. on_refusal,
    on_record: as of `check`.
    Raises LogsError for files or outcomes that cannot be understood as the options say,
    RunFolderError if the folder holds something or the system refuses.
    """
    options = options or ImportOptions()
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise RunFolderError(
            f"expected a new or empty folder for the imported logs, found {folder} with something "
            "in it; name another, or remove it once no model that learned from it is in use"
        )
    results = list[ImportResult]()

    def write(beside: Path) -> None:
        quarantine = Quarantine(
            beside / QUARANTINE_NAME,
            keep_raw=options.quarantine_raw,
            redactor=options.redactor,
            on_refusal=on_refusal,
        )
        intake = Intake(options, quarantine, on_record)
        with quarantine:
            num_shards = _write_shards(intake.conversations(files), beside, options.per_shard)
        findings = intake.findings()
        text = json.dumps(asdict(findings), indent=2) + "\n"
        write_text_atomically(beside / SUMMARY_NAME, text)
        results.append(ImportResult(folder, findings, num_shards))

    with disk_faults_shown():
        replace_folder_atomically(folder, write)
    return results[0]


def read_findings(folder: Path) -> Findings:
    """What the import that wrote the folder found. Raises RecordError if none wrote it."""
    try:
        found = json.loads((folder / SUMMARY_NAME).read_text(encoding="utf-8"))
        return Findings(**{**found, "unreadable": tuple(found["unreadable"])})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(
            f"expected a folder of imported logs at {folder}, found no {SUMMARY_NAME} of one "
            f"({error}); write it with `turnwise logs import`"
        ) from error


def shard_name(number: int) -> str:
    """The file of the shard with that number, from 0."""
    return f"part-{number:05d}.parquet"


def _write_shards(conversations: Iterator[LoggedConversation], folder: Path, per_shard: int) -> int:
    """Shards and their index. Returns how many there are: one at least, so that a folder without
    conversations can be read too."""
    following = next(conversations, None)
    with IndexWriter(folder) as index:
        for number in count():
            name = shard_name(number)
            with LogWriter(folder / name) as shard:
                for _ in range(per_shard):
                    if following is None:
                        break
                    shard.write(following)
                    index.add(following, name)
                    following = next(conversations, None)
            if following is None:
                break
    return number + 1
