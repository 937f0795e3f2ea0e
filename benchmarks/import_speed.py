"""A million logged conversations: how fast they are imported, and how much memory that takes.

    python benchmarks/import_speed.py [--conversations 1000000] [--folder DIR]

OpenAI JSON lines of six messages and about 400 bytes of text each, one of them broken in the
middle of the file. The import runs in a process of its own, whose peak resident memory is read
afterwards. The broken line must cost exactly one row of the quarantine; the aims are 1 GB and 5,000
conversations a second. Processor time, start of the process included, is printed beside the clock:
on a busy machine only the former says much.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = "order price delivery please thanks today tomorrow blue large small payment return size"


def write_logs(path: Path, conversations: int) -> None:
    """Six messages each; the middle line is cut."""
    chance, words = random.Random(0), WORDS.split()
    with path.open("w", encoding="utf-8") as file:
        for number in range(conversations):
            roles = ["user", "assistant"] * 3
            said = [" ".join(chance.choices(words, k=10)) for _ in roles]
            messages = [
                {"role": role, "content": text} for role, text in zip(roles, said, strict=True)
            ]
            row = {
                "id": f"c{number}",
                "messages": messages,
                "outcome": chance.randrange(2),
                "customer_id": f"+49 151 {number // 3:08d}",
            }
            line = json.dumps(row)
            file.write((line[:-20] if number == conversations // 2 else line) + "\n")


def import_here(source: Path, folder: Path) -> None:
    """Import in this process and print what was found as JSON."""
    from turnwise.logs import ImportOptions, import_logs

    start = time.perf_counter()
    found = import_logs([source], folder, ImportOptions(key=b"benchmark" * 4)).findings
    sys.stdout.write(
        json.dumps(
            {
                "seconds": time.perf_counter() - start,
                "read": found.read,
                "imported": found.imported,
                "by_code": found.by_code,
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--conversations", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=None, help="where to write; default: temp")
    parser.add_argument("--import-from", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.import_from is not None:
        import_here(arguments.import_from, arguments.folder)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as scratch:
        source, folder = Path(scratch) / "logs.jsonl", Path(scratch) / "imported"
        write_logs(source, arguments.conversations)
        command = [sys.executable, __file__, "--import-from", str(source), "--folder", str(folder)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        size_mb = source.stat().st_size / 2**20
        kept_mb = sum(file.stat().st_size for file in folder.glob("*.parquet")) / 2**20
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s, peak_mb = used.ru_utime + used.ru_stime, used.ru_maxrss / 2**10
    assert found["by_code"] == {"broken_json": 1}, found
    assert found["read"] == arguments.conversations == found["imported"] + 1, found
    print(f"{found['read']:,} conversations, {size_mb:.0f} MB -> {kept_mb:.0f} MB of Parquet")
    print(f"{found['read'] / found['seconds']:,.0f} conversations/s ({found['seconds']:.0f} s)")
    print(f"{found['read'] / cpu_s:,.0f} conversations a second of processor time ({cpu_s:.0f} s)")
    print(f"peak resident memory {peak_mb:.0f} MB; one broken line cost one row")


if __name__ == "__main__":
    main()
