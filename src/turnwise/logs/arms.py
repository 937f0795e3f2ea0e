"""What comparing two policies needs of their logs: outcome, customer and violations."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from turnwise.errors import RecordError
from turnwise.records import read_logged

OFFLINE: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": "512MB",
    "autoinstall_known_extensions": False,  # nothing is ever downloaded
}
_ROWS = """
SELECT outcome.value, coalesce(customer_key, conversation_id),
       list_concat(map_entries(violations),
                   flatten(list_transform(steps, s -> map_entries(s.violations))))
FROM read_parquet(?, hive_partitioning = false)
"""
_READ = 2_000  # rows at a time


def arm_columns(
    *paths: Path,
) -> tuple[list[float | None], list[str], Mapping[str, list[float]]]:
    """Outcome (None: censored), customer and violations of each conversation.

    paths: folders that an import wrote, or canonical Parquet files. A violation is summed over a
    conversation and its steps, 0 where it was not recorded; where no customer is known the
    conversation stands in.
    Raises RecordError for a file that is missing, cut, or of another schema version.
    """
    scores, customers, broken = list[float | None](), list[str](), dict[str, dict[int, float]]()
    files = [str(file) for file in parquet_files(paths)]
    with duckdb.connect(config=OFFLINE) as base:
        base.execute(_ROWS, [files])
        while rows := base.fetchmany(_READ):
            for score, customer, entries in rows:
                for entry in entries or ():
                    sums = broken.setdefault(entry["key"], {})
                    sums[len(scores)] = sums.get(len(scores), 0.0) + entry["value"]
                scores.append(score)
                customers.append(customer)
    columns = {
        name: [sums.get(i, 0.0) for i in range(len(scores))]
        for name, sums in sorted(broken.items())
    }
    return scores, customers, columns


def parquet_files(paths: Sequence[Path]) -> list[Path]:
    """The Parquet files of the folders and files, each whole and of our schema version.

    Raises RecordError otherwise.
    """
    files = [
        file
        for path in paths
        for file in (sorted(path.glob("*.parquet")) if path.is_dir() else [path])
    ]
    if not files:
        raise RecordError(
            f"expected canonical Parquet files in {', '.join(map(str, paths))}, found none; "
            "`turnwise logs import` writes them"
        )
    for file in files:
        if file.suffix != ".parquet":
            raise RecordError(
                f"expected canonical Parquet, found {file}; import it with `turnwise logs import`"
            )
        next(read_logged(file), None)
    return files
