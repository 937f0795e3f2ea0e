"""Whatever a file holds, each of its records is read or refused; nothing stops the import."""

import json
import re
import tempfile
from pathlib import Path
from typing import get_args

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from turnwise.conversation import LoggedConversation
from turnwise.logs.options import Format, ReaderOptions
from turnwise.logs.readers import read_records
from turnwise.logs.refusal import Refusal
from turnwise.records.logs import write_logged

KEYS = re.findall(
    r"\S+",
    """
    role content from value type text parts tool_calls function name arguments id messages
    steps conversations prompt completion label turn_rewards conversation_id outcome
    observed_at score consent training retain_until customer_id context policy version
    token_ids token_logp weight i index ts disposition violations explore deviated
    propensity reward trace_id thread_id run_type inputs outputs extra metadata
    feedback_stats feedback key n avg stdev values dotted_order start_time choices message
    generations kwargs data session_id input output model_parameters data_type string_value
    timestamp observations scores trace traces attributes traceId spanId events eventName
    body resourceSpans scopeSpans spans gen_ai.input.messages gen_ai.output.messages
    gen_ai.operation.name gen_ai.conversation.id gen_ai.response.finish_reasons
    startTimeUnixNano stringValue intValue arrayValue kvlistValue
    """,
)
WORDS = ["user", "assistant", "tool", "llm", "GENERATION", "chat", "", "[]", "{}", "7", "\ud83d"]

leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | st.text()
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
    ),
    max_leaves=25,
)
rows = st.dictionaries(st.sampled_from(KEYS), values, max_size=10)


def check(file: Path, options: ReaderOptions) -> None:
    found = list(read_records(file, options))
    assert all(isinstance(one, LoggedConversation | Refusal) for one in found)
    good = [one for one in found if isinstance(one, LoggedConversation)]
    write_logged(file.with_name("out.parquet"), good)  # what is read can be written


NAMES = [name for name in get_args(Format) if name != "trajectories"]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(rows, min_size=1, max_size=4), st.sampled_from(NAMES))
@example([{"messages": [{"role": "assistant", "content": "a", "context": [{}]}]}], "openai")
def test_any_json_is_read_or_refused(lines: list[dict[str, object]], name: Format) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.jsonl"
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
        check(file, ReaderOptions())
        check(file, ReaderOptions(format=name, timezone="UTC", sort_by_time=True))


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200), st.sampled_from(["a.jsonl", "a.json", "a.csv", "a.parquet"]))
def test_any_bytes_are_read_or_refused(data: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / name).write_bytes(data)
        for start in (b"", b"PAR1", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"[{", b"\xff\xfe"):
            (Path(folder) / name).write_bytes(start + data)
            check(Path(folder) / name, ReaderOptions())


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(rows, min_size=1, max_size=3))
def test_any_columns_of_parquet_are_read_or_refused(lines: list[dict[str, object]]) -> None:
    columns = sorted({key for line in lines for key in line})
    try:
        table = pa.Table.from_pylist([{key: line.get(key) for key in columns} for line in lines])
    except (pa.ArrowException, UnicodeError, OverflowError):
        return  # no such table exists
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.parquet"
        try:
            pq.write_table(table, file)
        except pa.ArrowException:
            return
        check(file, ReaderOptions())
