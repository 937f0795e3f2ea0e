"""What a run writes and reads back: its folder, metrics and dialogues, whole or not at all."""

from turnwise.records.atomic import (
    clear_leftovers,
    replace_folder_atomically,
    write_atomically,
    write_text_atomically,
)
from turnwise.records.log_rows import logged_from_row
from turnwise.records.logs import (
    LogWriter,
    logged_to_json,
    read_logged,
    write_logged,
    write_logged_jsonl,
)
from turnwise.records.metrics import (
    append_metrics,
    keep_metrics_up_to,
    read_metrics,
    rows_of,
)
from turnwise.records.run_folder import RunFolder, find_run_folder, open_run_folder, read_config
from turnwise.records.toml import to_toml
from turnwise.records.trajectories import (
    SCHEMA_VERSION,
    Record,
    read_trajectories,
    to_jsonl,
    write_trajectories,
)

__all__ = [
    "SCHEMA_VERSION",
    "LogWriter",
    "Record",
    "RunFolder",
    "append_metrics",
    "clear_leftovers",
    "find_run_folder",
    "keep_metrics_up_to",
    "logged_from_row",
    "logged_to_json",
    "open_run_folder",
    "read_config",
    "read_logged",
    "read_metrics",
    "read_trajectories",
    "replace_folder_atomically",
    "rows_of",
    "to_jsonl",
    "to_toml",
    "write_atomically",
    "write_logged",
    "write_logged_jsonl",
    "write_text_atomically",
    "write_trajectories",
]
