"""Dialogues with what was computed for them, as Parquet.

One row a dialogue. The columns and their version stand in this file. Files of version 1, which had
no measures and notes, are still read; a reader of any other version is told so instead of being
given half of the truth. Log-probabilities are stored as float32, the
precision they are sampled in; everything else comes back exactly as it went in.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal  # Any: a row as pyarrow gives it, checked by the schema

import pyarrow as pa
import pyarrow.parquet as pq

from turnwise.conversation import (
    Conversation,
    Ending,
    Message,
    Outcome,
    ToolCall,
    Trajectory,
    Turn,
    Usage,
)
from turnwise.conversation.messages import to_openai
from turnwise.errors import RecordError
from turnwise.records.atomic import write_atomically, write_text_atomically

SCHEMA_VERSION = "2"
_READABLE = ("1", SCHEMA_VERSION)
_VERSION_KEY = b"turnwise.schema_version"

Split = Literal["train", "start", "eval"]


def _empty() -> MappingProxyType[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True)
class Record:
    """A dialogue and what was computed for its turns."""

    trajectory: Trajectory
    step: int  # training step it was played in; 0 = the start
    split: Split  # "start" and "eval": evaluations before and after training
    credit: Mapping[str, tuple[float, ...]] = field(
        default_factory=_empty
    )  # method -> one number a turn
    advantage: tuple[float, ...] = ()  # one a turn; empty where none was computed
    measures: Mapping[str, tuple[float | None, ...]] = field(
        default_factory=_empty
    )  # e.g. "infopo/gain" -> one number a turn, None = not computed
    notes: Mapping[str, tuple[str, ...]] = field(
        default_factory=_empty
    )  # e.g. "infopo/refusal" -> words on each turn, "" = none
    group_measures: Mapping[str, float] = field(
        default_factory=_empty
    )  # e.g. "gate"; the same for all siblings

    def __post_init__(self) -> None:
        num_turns = len(self.trajectory.turns)
        named = [*self.credit.items(), *self.measures.items(), *self.notes.items()]
        if self.advantage:
            named.append(("advantage", self.advantage))
        wrong = {name: len(of_turns) for name, of_turns in named if len(of_turns) != num_turns}
        if wrong:
            raise RecordError(
                f"expected one entry for each of the {num_turns} turns of "
                f"{self.trajectory.scenario_id}, got {wrong}; leave out padding turns"
            )


_SPAN = pa.struct([("start", pa.int32()), ("stop", pa.int32())])
_TOOL_CALL = pa.struct([("id", pa.string()), ("name", pa.string()), ("arguments", pa.string())])
_MESSAGE = pa.struct(
    [
        ("role", pa.string()),
        ("content", pa.string()),
        ("name", pa.string()),
        ("tool_calls", pa.list_(_TOOL_CALL)),
        ("tool_call_id", pa.string()),
    ]
)
_NUMBERS = pa.map_(pa.string(), pa.float64())
_TURN = pa.struct(
    [
        ("start", pa.int32()),
        ("stop", pa.int32()),
        ("logp_behaviour", pa.list_(pa.float32())),
        ("stop_reason", pa.string()),
        ("feedback", pa.list_(_SPAN)),
        ("rewards", _NUMBERS),
    ]
)
_USAGE = pa.struct(
    [("prompt_tokens", pa.int64()), ("completion_tokens", pa.int64()), ("wall_s", pa.float64())]
)
SCHEMA = pa.schema(
    [
        ("scenario_id", pa.string()),
        ("group_id", pa.string()),
        ("seed", pa.int64()),
        ("step", pa.int64()),
        ("split", pa.string()),
        ("policy_version", pa.int64()),
        ("conversation", pa.list_(_MESSAGE)),
        ("token_ids", pa.list_(pa.int32())),
        ("turns", pa.list_(_TURN)),
        ("score", pa.float64()),
        ("parts", _NUMBERS),
        ("ending", pa.string()),
        ("usage", _USAGE),
        ("credit", pa.map_(pa.string(), pa.list_(pa.float64()))),
        ("advantage", pa.list_(pa.float64())),
        ("measures", pa.map_(pa.string(), pa.list_(pa.float64()))),
        ("notes", pa.map_(pa.string(), pa.list_(pa.string()))),
        ("group_measures", _NUMBERS),
    ],
    metadata={_VERSION_KEY: SCHEMA_VERSION.encode()},
)


def write_trajectories(path: Path, records: Sequence[Record]) -> None:
    """Write the dialogues to one Parquet file, whole or not at all.

    Raises RecordError for what the columns cannot hold (a seed beyond 64 bits, text that is no
    Unicode); RunFolderError if the system refuses.
    """
    try:
        table = pa.Table.from_pylist([_row_of(record) for record in records], schema=SCHEMA)
    except (pa.ArrowException, OverflowError, UnicodeError) as error:
        raise RecordError(
            f"expected dialogues that fit the columns of {path.name}, got one that does not: "
            f"{error}; seeds and token ids are whole numbers of at most 64 and 32 bits"
        ) from error
    write_atomically(
        path,
        lambda beside: pq.write_table(table, beside, compression="zstd", write_page_checksum=True),
    )


def read_trajectories(path: Path) -> list[Record]:
    """The dialogues of one file, in the order they were written.

    Raises RecordError if there is no such file, if it was cut or damaged, is no file of ours or
    of another schema version.
    """
    if not path.is_file():
        raise RecordError(f"expected dialogues at {path}, found no file; is the run's path right?")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            _check_version(path, file.schema_arrow.metadata)
            rows = file.read().to_pylist(maps_as_pydicts="strict")
    except (pa.ArrowException, OSError, ValueError) as error:
        raise RecordError(
            f"{path} is not a whole Parquet file ({error}); it was cut or damaged. Delete it: a "
            "resumed run writes the dialogues after its last checkpoint again"
        ) from error
    return [_record_of(row) for row in rows]


def to_jsonl(path: Path, records: Sequence[Record]) -> None:
    """The same dialogues as one JSON object a line, messages in OpenAI's shape.

    Raises RunFolderError if the system refuses.
    """
    write_text_atomically(path, "".join(line + "\n" for line in _json_lines(records)))


def _json_lines(records: Sequence[Record]) -> Iterator[str]:
    for record in records:
        row = _row_of(record)
        row["messages"] = to_openai(record.trajectory.conversation)
        del row["conversation"]
        yield json.dumps(row, ensure_ascii=False)


def _check_version(path: Path, metadata: Mapping[bytes, bytes] | None) -> None:
    found = (metadata or {}).get(_VERSION_KEY)
    if found is None:
        raise RecordError(
            f"{path} is a Parquet file, but not of dialogues written by turnwise; expected the "
            f"metadata {_VERSION_KEY.decode()!r}"
        )
    if found.decode() not in _READABLE:
        raise RecordError(
            f"expected schema version {' or '.join(_READABLE)} in {path}, found "
            f"{found.decode()!r}; read it with the turnwise that wrote it (env.json of the run "
            "names it)"
        )


def _row_of(record: Record) -> dict[str, Any]:
    trajectory = record.trajectory
    return {
        "scenario_id": trajectory.scenario_id,
        "group_id": trajectory.group_id,
        "seed": trajectory.seed,
        "step": record.step,
        "split": record.split,
        "policy_version": trajectory.policy_version,
        "conversation": [_message_row(message) for message in trajectory.conversation],
        "token_ids": list(trajectory.token_ids),
        "turns": [_turn_row(turn) for turn in trajectory.turns],
        "score": trajectory.outcome.score,
        "parts": dict(trajectory.outcome.parts),
        "ending": str(trajectory.ending),
        "usage": {
            "prompt_tokens": trajectory.usage.prompt_tokens,
            "completion_tokens": trajectory.usage.completion_tokens,
            "wall_s": trajectory.usage.wall_s,
        },
        "credit": _lists(record.credit),
        "advantage": list(record.advantage),
        "measures": _lists(record.measures),
        "notes": _lists(record.notes),
        "group_measures": dict(record.group_measures),
    }


def _lists(of_turns: Mapping[str, tuple[Any, ...]]) -> dict[str, list[Any]]:
    return {name: list(values) for name, values in of_turns.items()}


def _message_row(message: Message) -> dict[str, Any]:
    return {
        "role": message.role,
        "content": message.content,
        "name": message.name,
        "tool_calls": [
            {"id": call.id, "name": call.name, "arguments": call.arguments}
            for call in message.tool_calls
        ],
        "tool_call_id": message.tool_call_id,
    }


def _turn_row(turn: Turn) -> dict[str, Any]:
    return {
        "start": turn.start,
        "stop": turn.stop,
        "logp_behaviour": list(turn.logp_behaviour),
        "stop_reason": turn.stop_reason,
        "feedback": [{"start": start, "stop": stop} for start, stop in turn.feedback],
        "rewards": dict(turn.rewards),
    }


def _record_of(row: dict[str, Any]) -> Record:
    trajectory = Trajectory(
        scenario_id=row["scenario_id"],
        group_id=row["group_id"],
        seed=row["seed"],
        conversation=_conversation_of(row["conversation"]),
        token_ids=tuple(row["token_ids"]),
        turns=tuple(_turn_of(turn) for turn in row["turns"]),
        outcome=Outcome(row["score"], MappingProxyType(row["parts"])),
        ending=Ending(row["ending"]),
        policy_version=row["policy_version"],
        usage=Usage(**row["usage"]),
    )
    return Record(
        trajectory,
        row["step"],
        row["split"],
        _tuples(row["credit"]),
        tuple(row["advantage"]),
        measures=_tuples(row.get("measures", {})),  # version 1 has none
        notes=_tuples(row.get("notes", {})),
        group_measures=MappingProxyType(row.get("group_measures", {})),
    )


def _tuples(of_turns: dict[str, list[Any]]) -> Mapping[str, tuple[Any, ...]]:
    return MappingProxyType({name: tuple(values) for name, values in of_turns.items()})


def _conversation_of(rows: list[dict[str, Any]]) -> Conversation:
    return tuple(
        Message(
            role=row["role"],
            content=row["content"],
            name=row["name"],
            tool_calls=tuple(ToolCall(**call) for call in row["tool_calls"]),
            tool_call_id=row["tool_call_id"],
        )
        for row in rows
    )


def _turn_of(row: dict[str, Any]) -> Turn:
    return Turn(
        start=row["start"],
        stop=row["stop"],
        logp_behaviour=tuple(row["logp_behaviour"]),
        stop_reason=row["stop_reason"],
        feedback=tuple((span["start"], span["stop"]) for span in row["feedback"]),
        rewards=MappingProxyType(row["rewards"]),
    )
