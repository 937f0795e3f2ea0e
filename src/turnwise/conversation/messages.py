"""Messages and conversations, and their way from and to OpenAI's and TRL's shapes.

No tokens here: a message is text with a role.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast, get_args

from turnwise.errors import ConfigError

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[str, ...] = get_args(Role)


@dataclass(frozen=True)
class ToolCall:
    """A tool the assistant asks for."""

    id: str
    name: str
    arguments: str  # JSON text exactly as the model wrote it


@dataclass(frozen=True)
class Message:
    """One message in OpenAI's shape."""

    role: Role
    content: str
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None  # of the call that a tool message answers

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ConfigError(f"a message's role is one of {ROLES}, got {self.role!r}")
        if not isinstance(self.content, str):
            raise ConfigError(
                f"a message's content is text, got {type(self.content).__name__} "
                f"{self.content!r}; numbers and booleans must stay the text the speaker gave"
            )


Conversation = tuple[Message, ...]


def to_openai(conversation: Conversation) -> list[dict[str, object]]:
    """The conversation as OpenAI chat messages (plain dicts, JSON-ready)."""
    return [_message_to_openai(message) for message in conversation]


def _message_to_openai(message: Message) -> dict[str, object]:
    out: dict[str, object] = {"role": message.role, "content": message.content}
    if message.name is not None:
        out["name"] = message.name
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        out["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    return out


def from_openai(messages: Sequence[Mapping[str, object]]) -> Conversation:
    """A conversation from OpenAI chat messages. `to_openai` is its inverse.

    A content of None (OpenAI's form beside tool calls) becomes the empty text.
    Raises ConfigError naming the message's position for a missing or wrong field.
    """
    return tuple(_message_from_openai(i, message) for i, message in enumerate(messages))


def _message_from_openai(position: int, message: Mapping[str, object]) -> Message:
    role = message.get("role")
    if role not in ROLES:
        raise ConfigError(f"message {position}: expected a role of {ROLES}, found {role!r}")
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        content = ""
    if not isinstance(content, str):
        raise ConfigError(f"message {position}: expected text as content, found {content!r}")
    return Message(
        role=cast(Role, role),
        content=content,
        name=_optional_text(position, message, "name"),
        tool_calls=_tool_calls(position, message.get("tool_calls")),
        tool_call_id=_optional_text(position, message, "tool_call_id"),
    )


def _optional_text(position: int, message: Mapping[str, object], key: str) -> str | None:
    value = message.get(key)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"message {position}: expected text as {key}, found {value!r}")
    return value


def _tool_calls(position: int, value: object) -> tuple[ToolCall, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ConfigError(f"message {position}: expected a list of tool_calls, found {value!r}")
    return tuple(_tool_call(position, call) for call in value)


def _tool_call(position: int, call: object) -> ToolCall:
    if isinstance(call, Mapping) and isinstance(function := call.get("function"), Mapping):
        parts = (call.get("id"), function.get("name"), function.get("arguments"))
        if all(isinstance(part, str) for part in parts):
            return ToolCall(*cast(tuple[str, str, str], parts))
    raise ConfigError(
        f"message {position}: expected a tool call with text as id, function.name and "
        f"function.arguments, found {call!r}"
    )


def assistant_messages(conversation: Conversation) -> list[int]:
    """Where the assistant's messages stand."""
    return [i for i, message in enumerate(conversation) if message.role == "assistant"]


def to_trl(conversation: Conversation) -> dict[str, object]:
    """TRL's conversational columns: `prompt` up to the first assistant message, `completion` after.

    Source: TRL's dataset formats ("conversational prompt-completion").
    """
    first = next(iter(assistant_messages(conversation)), len(conversation))
    messages = to_openai(conversation)
    return {"prompt": messages[:first], "completion": messages[first:]}


def from_trl(row: Mapping[str, object]) -> Conversation:
    """A conversation from a row with `messages`, or with `prompt` and `completion`.

    Raises ConfigError if the row has neither, or they are not lists of messages.
    """
    if "messages" in row:
        parts = [row["messages"]]
    elif "prompt" in row and "completion" in row:
        parts = [row["prompt"], row["completion"]]
    else:
        raise ConfigError(
            "expected a column `messages`, or `prompt` and `completion`; "
            f"found the columns {sorted(row)}"
        )
    for part in parts:
        if not isinstance(part, list):
            raise ConfigError(f"expected a list of messages, found {type(part).__name__}")
    return from_openai(
        [message for part in cast(list[list[dict[str, object]]], parts) for message in part]
    )
