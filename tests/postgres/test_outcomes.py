"""Outcomes from a real PostgreSQL server, with a password, over the loopback interface."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.logs.lines import chat, read_lines, write_lines
from turnwise.conversation import LoggedConversation
from turnwise.errors import LogsError
from turnwise.logs import ImportOptions, OutcomeTable, check, import_logs
from turnwise.records import read_logged

PASSWORD = "p@ss/w'rd"
QUICK = "-c fsync=off -c full_page_writes=off -c shared_buffers=16MB -c unix_socket_directories="


@dataclass(frozen=True)
class Server:
    """A running server of its own."""

    port: int
    bin: Path

    def url(self, password: str = PASSWORD) -> str:
        return f"postgresql://postgres:{quote(password, safe='')}@127.0.0.1:{self.port}/postgres"

    def run(self, sql: str) -> None:
        psql = [str(self.bin / "psql"), "-q", "-v", "ON_ERROR_STOP=1", "-d", self.url()]
        subprocess.run([*psql, "-c", sql], check=True)


def binaries() -> Path:
    """The folder of the server's programs, which Debian keeps off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    on_path = shutil.which("pg_ctl")
    assert found or on_path, "PostgreSQL is missing: apt-get install postgresql to run these tests"
    return found[-1].parent if found else Path(str(on_path)).parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    folder = Path(tempfile.mkdtemp(prefix="turnwise-postgres-"))
    made = Server(free_port(), binaries())
    as_other: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        as_other = ["runuser", "-u", "nobody", "--"]
        os.chown(folder, pwd.getpwnam("nobody").pw_uid, -1)
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    data, log = str(folder / "data"), str(folder / "log")
    init = [
        "initdb",
        "-D",
        data,
        "-U",
        "postgres",
        "--auth=scram-sha-256",
        "--no-sync",
        "-E",
        "UTF8",
    ]
    init += ["--locale=C", f"--pwfile={folder / 'password'}"]
    settings = f"{QUICK} -c port={made.port} -c listen_addresses=127.0.0.1"
    start = ["pg_ctl", "start", "-w", "-D", data, "-l", log, "-o", settings]
    stop = ["pg_ctl", "stop", "-m", "immediate", "-D", data]
    try:
        for name, *rest in (init, start):
            command = [*as_other, str(made.bin / name), *rest]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        yield made
    finally:
        subprocess.run(
            [*as_other, str(made.bin / stop[0]), *stop[1:]], stdout=subprocess.DEVNULL, cwd=folder
        )
        shutil.rmtree(folder)


def joined(folder: Path, table: OutcomeTable) -> dict[str, LoggedConversation]:
    """Two conversations, c0 and 9007199254740993, with the table's outcomes."""
    rows = [chat(0), {**chat(1), "id": 2**53 + 1}]
    file = write_lines(folder / "chat.jsonl", rows)
    import_logs([file], folder / "out", ImportOptions(outcomes=table))
    return {one.conversation_id: one for one in read_logged(folder / "out")}


def test_a_table_is_joined_with_all_that_it_knows(server: Server, tmp_path: Path) -> None:
    server.run(
        "CREATE SCHEMA crm; CREATE TABLE crm.deals (chat text, won numeric(4, 2), at timestamptz, "
        "secret text); INSERT INTO crm.deals VALUES "
        "('c0', 0.25, '2026-01-05 10:00+01', 'x'), ('c0', 0.25, '2026-01-05 10:00+01', 'y'), "
        "('9007199254740993', NULL, NULL, 'z'), ('c_9', 1, NULL, 'z')"
    )
    columns = {"outcome": "won", "observed_at": "at"}
    table = OutcomeTable(f"{server.url()}?table=crm.deals", on="chat", columns=columns)
    found = joined(tmp_path, table)
    outcome = found["c0"].outcome
    assert outcome is not None and outcome.value == 0.25
    assert outcome.observed_at == datetime(2026, 1, 5, 9, tzinfo=UTC)
    assert found["9007199254740993"].outcome is None
    (orphan,) = read_lines(tmp_path / "out" / "quarantine.jsonl")
    assert (orphan["code"], orphan["found"]) == ("orphan_outcome", "c_9")
    place = f"postgresql://127.0.0.1:{server.port}/postgres table crm.deals"
    assert orphan["file"] == place


def test_ids_are_exact_and_truth_is_a_number(server: Server, tmp_path: Path) -> None:
    server.run(
        "CREATE TABLE truths (conversation_id bigint, outcome boolean); "
        "INSERT INTO truths VALUES (9007199254740993, true), (9007199254740992, false)"
    )
    found = joined(tmp_path, OutcomeTable(server.url(), table="truths"))
    outcome = found["9007199254740993"].outcome
    assert outcome is not None and outcome.value == 1.0


def test_uuids_are_text(server: Server, tmp_path: Path) -> None:
    name = "123e4567-e89b-12d3-a456-426614174000"
    server.run(
        "CREATE TABLE uuids (conversation_id uuid, outcome float8); "
        f"INSERT INTO uuids VALUES ('{name}', 1)"
    )
    file = write_lines(tmp_path / "chat.jsonl", [{**chat(0), "id": name}])
    findings = check([file], ImportOptions(outcomes=OutcomeTable(server.url(), table="uuids")))
    assert findings.by_code == {} and findings.warnings["censored"] == 0


def test_a_time_without_zone_is_refused(server: Server, tmp_path: Path) -> None:
    server.run(
        "CREATE TABLE zoneless (conversation_id text, outcome int, observed_at timestamp); "
        "INSERT INTO zoneless VALUES ('c0', 1, '2026-01-05 10:00')"
    )
    joined(tmp_path, OutcomeTable(server.url(), table="zoneless"))
    (row,) = read_lines(tmp_path / "out" / "quarantine.jsonl")
    assert (row["code"], row["conversation_id"]) == ("time_without_zone", "c0")


@pytest.mark.parametrize(
    ("password", "table", "reason"),
    [
        ("wr0ng-s3cret", "deals", "password authentication failed"),
        (PASSWORD, "no.such", "does not exist"),
    ],
)
def test_a_refusal_of_the_server_is_told_without_the_password(
    server: Server, tmp_path: Path, password: str, table: str, reason: str
) -> None:
    file = write_lines(tmp_path / "chat.jsonl", [chat(0)])
    outcomes = OutcomeTable(server.url(password), table=table)
    with pytest.raises(LogsError, match=reason) as raised:
        import_logs([file], tmp_path / "out", ImportOptions(outcomes=outcomes))
    message = str(raised.value)
    assert password not in message and quote(password, safe="") not in message
    assert not (tmp_path / "out").exists()
