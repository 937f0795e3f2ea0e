"""Messages of the chat formats as steps of the canonical record.

The shapes of OpenAI, ShareGPT, LangChain and OpenTelemetry differ in names only, so one function
reads them all. A message may become several steps: each result of a tool is one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar, cast, get_args

from turnwise.conversation import Exploration, PolicyFacts, Step, ToolCall
from turnwise.conversation.logged import Author, Disposition
from turnwise.conversation.messages import ROLES, Role
from turnwise.logs.options import ReaderOptions
from turnwise.logs.readers.fields import (
    Object,
    choice,
    exact_id,
    first,
    flag,
    from_json,
    listing,
    mapping,
    moment,
    number,
    numbers,
    text,
    whole,
    wrong,
)
from turnwise.logs.readers.refused import RefusedError, shown

T = TypeVar("T")

ROLE_KEYS = ("role", "from", "type", "sender")
CONTENT_KEYS = ("content", "value", "text")
TIME_KEYS = ("ts", "timestamp", "created_at", "time")
_ROLE_OF: Mapping[str, Role] = MappingProxyType(
    {
        **{role: cast(Role, role) for role in ROLES},
        "developer": "system",
        "human": "user",
        "gpt": "assistant",
        "ai": "assistant",
        "model": "assistant",
        "chatbot": "assistant",
        "function_call": "assistant",
        "function": "tool",
        "observation": "tool",
    }
)
_PLAIN = {"role", "content"}
# Reasoning is no part of what was sent.
_UNSENT = ("reasoning", "thinking", "redacted_thinking")

Indexed = tuple[Step, int | None]  # a step and the index its message gives itself


def indexed_steps(
    messages: Sequence[object], options: ReaderOptions, name: str = "messages"
) -> list[Indexed]:
    """The steps that the messages are, in their order; `name` stands in refusals.

    Raises RefusedError for what no message can be read from.
    """
    out: list[Indexed] = []
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise wrong(f"{name}[{i}]", "a message with role and content", message)
        content = message.get("content")
        role = message.get("role")
        if type(content) is str and role in ROLES and message.keys() == _PLAIN:
            out.append((Step(role, content), None))
        else:
            out += _steps(_unpacked(message), f"{name}[{i}]", options, out)
    return out


def steps_of(messages: Sequence[object], options: ReaderOptions, name: str) -> list[Step]:
    """The steps that the messages are; raises as `indexed_steps`."""
    return [step for step, _ in indexed_steps(messages, options, name)]


def _unpacked(message: Object) -> Object:
    """A message of LangChain without its constructor: its role is its type or its class."""
    inner = message.get("kwargs", message.get("data"))
    if not isinstance(inner, dict) or "content" in message:
        return message
    names = message.get("id")
    told = names[-1] if isinstance(names, list) and names else message.get("type")
    role = str(told).removesuffix("Chunk").removesuffix("Message").lower()
    return {"role": inner.get("role") or role, **{k: v for k, v in inner.items() if k != "type"}}


def is_role(name: str) -> bool:
    """Whether any of the formats calls a speaker so."""
    return name.lower() in _ROLE_OF


def is_message(value: object) -> bool:
    """Whether this is a message: it has a role, calls, or LangChain's inner message."""
    if not isinstance(value, Mapping):
        return False
    sort = value.get("type")
    return (
        first(value, "role", "from") is not None
        or (isinstance(sort, str) and is_role(sort))
        or not {"tool_calls", "kwargs"}.isdisjoint(value)
    )


def are_messages(value: object) -> bool:
    """Whether this is a list of messages and not one of something else."""
    return isinstance(value, list) and bool(value) and all(is_message(one) for one in value)


def role_of(value: object, at: str, options: ReaderOptions) -> Role:
    """The role that a name stands for. Raises RefusedError for an unknown one."""
    if value is None:
        raise wrong(f"{at}.role", "system, user, assistant or tool", value)
    name = options.role_map.get(str(value), str(value))
    if not is_role(name):
        raise RefusedError(
            "unknown_role",
            "system, user, assistant, tool (human, gpt, …)",
            shown(value),
            f"map it with --role {value}=assistant",
            f"{at}.role",
        )
    return _ROLE_OF[name.lower()]


def _steps(
    message: Object, at: str, options: ReaderOptions, before: list[Indexed]
) -> list[Indexed]:
    role = role_of(first(message, *ROLE_KEYS), at, options)
    content, calls, results = _content(message, role, at)
    calls += _tool_calls(message, at, len(before))
    if content is None and not calls and not results and not _is_abstained(message):
        raise wrong(f"{at}.content", "text", None)
    index = whole(first(message, "i", "index"), f"{at}.index")
    out: list[Indexed] = []
    if content is not None or calls or not results:
        step = _step(message, role, content or "", tuple(calls), at, options)
        if role == "tool" and step.tool_call_id is None and message.get("from") is not None:
            step = replace(step, tool_call_id=_last_call(before))
        out.append((step, index))
    ts = moment(first(message, *TIME_KEYS), f"{at}.ts", options) if results else None
    return out + [
        (Step("tool", words, ts, tool_call_id=call_id), index) for call_id, words in results
    ]


def _is_abstained(message: Object) -> bool:
    return message.get("disposition") in ("abstained", "rejected")


def _last_call(before: list[Indexed]) -> str | None:
    """ShareGPT's results name no call: they answer the last one."""
    calls = [call.id for step, _ in before for call in step.tool_calls]
    return calls[-1] if calls else None


_Results = list[tuple[str | None, str]]


def _content(message: Object, role: Role, at: str) -> tuple[str | None, list[ToolCall], _Results]:
    """(text, tool calls, results of tools) in a message's content or parts."""
    content = first(message, *CONTENT_KEYS)
    if message.get("from") == "function_call" and isinstance(content, str):
        return None, [], []  # its value is the call
    parts = message["parts"] if content is None and message.get("parts") else content
    if parts is None or isinstance(parts, str):
        return parts, [], []
    if not isinstance(parts, list):
        raise wrong(f"{at}.content", "text or a list of parts", content)
    texts: list[str] = []
    calls: list[ToolCall] = []
    results: _Results = []
    for j, part in enumerate(parts):
        _read_part(part, f"{at}.content[{j}]", texts, calls, results)
    return "".join(texts) if texts or not (calls or results) else None, calls, results


def _read_part(
    part: object, at: str, texts: list[str], calls: list[ToolCall], results: _Results
) -> None:
    if isinstance(part, str):
        texts.append(part)
        return
    if not isinstance(part, dict):
        raise wrong(at, "a part with its type", part)
    sort = part.get("type")
    words = first(part, "text", "content", "refusal")
    if sort in ("text", "input_text", "output_text", "refusal") and isinstance(words, str):
        texts.append(words)
    elif sort in ("tool_call", "tool_use"):
        calls.append(_call(part, at))
    elif sort in ("tool_call_response", "tool_result"):
        answer = first(part, "response", "result", "content")
        called = exact_id(first(part, "id", "tool_use_id"), f"{at}.id")
        results.append((called, answer if isinstance(answer, str) else _json(answer)))
    elif sort not in _UNSENT:
        raise RefusedError(
            "missing_field",
            f"parts of text and tool calls in {at}",
            f"a part of type {shown(sort)}",
            "drop the record, or describe the part in words",
            at,
        )


def _tool_calls(message: Object, at: str, position: int) -> list[ToolCall]:
    calls = [
        _call(call, f"{at}.tool_calls[{j}]")
        for j, call in enumerate(listing(message.get("tool_calls"), f"{at}.tool_calls") or ())
    ]
    legacy = message.get("function_call")
    if legacy is None and message.get("from") == "function_call":
        legacy = from_json(first(message, *CONTENT_KEYS))
    if legacy is not None:
        call = _call(legacy, f"{at}.function_call")
        calls.append(ToolCall(call.id or f"call_{position}", call.name, call.arguments))
    return calls


def _call(call: object, at: str) -> ToolCall:
    """A call of any of the shapes; arguments that are no text are written as JSON."""
    outer = mapping(call, at) or {}
    inner = outer.get("function")
    source = inner if isinstance(inner, Mapping) else outer
    name = text(source.get("name"), f"{at}.name")
    if name is None:
        raise wrong(f"{at}.name", "text", None)
    arguments = first(source, "arguments", "args", "input")
    words = arguments if isinstance(arguments, str) else _json(arguments or {})
    return ToolCall(exact_id(outer.get("id"), f"{at}.id") or "", name, words)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _step(
    message: Object,
    role: Role,
    content: str,
    calls: tuple[ToolCall, ...],
    at: str,
    options: ReaderOptions,
) -> Step:
    context = listing(message.get("context"), f"{at}.context")
    token_ids = listing(message.get("token_ids"), f"{at}.token_ids")
    token_logp = listing(message.get("token_logp"), f"{at}.token_logp")
    author = choice(message.get("author"), f"{at}.author", get_args(Author))
    disposition = choice(message.get("disposition"), f"{at}.disposition", get_args(Disposition))
    return Step(
        role=role,
        content=content,
        ts=moment(first(message, *TIME_KEYS), f"{at}.ts", options),
        name=text(message.get("name"), f"{at}.name"),
        tool_calls=calls,
        tool_call_id=exact_id(message.get("tool_call_id"), f"{at}.tool_call_id"),
        author=cast(Author | None, author),
        disposition=cast(Disposition | None, disposition),
        proposed=text(message.get("proposed"), f"{at}.proposed"),
        reward=number(message.get("reward"), f"{at}.reward") or 0.0,
        violations=MappingProxyType(numbers(message.get("violations"), f"{at}.violations")),
        context=None
        if context is None
        else tuple(step.message for step in steps_of(context, options, f"{at}.context")),
        policy=policy_of(message.get("policy"), f"{at}.policy"),
        explore=_exploration(message.get("explore"), f"{at}.explore"),
        logp_sum=number(message.get("logp_sum"), f"{at}.logp_sum"),
        token_ids=_each(token_ids, f"{at}.token_ids", _token_id),
        token_logp=_each(token_logp, f"{at}.token_logp", number),
        is_scored=_is_scored(message, at),
    )


def _each(
    values: list[object] | None, at: str, read: Callable[[object, str], T | None]
) -> tuple[T, ...] | None:
    if values is None:
        return None
    found = [read(value, at) for value in values]
    if any(one is None for one in found):
        raise wrong(at, "a number for each token", None)
    return tuple(cast(list[T], found))


def _token_id(value: object, at: str) -> int | None:
    found = whole(value, at)
    if found is not None and not 0 <= found < 2**31:
        raise wrong(at, "token ids of at most 31 bits", value)
    return found


def _is_scored(message: Object, at: str) -> bool:
    weight = number(message.get("weight"), f"{at}.weight")
    if weight not in (None, 0.0, 1.0):
        raise wrong(f"{at}.weight", "0 or 1", weight)
    told = flag(message.get("is_scored"), f"{at}.is_scored")
    return weight != 0.0 and told is not False


def policy_of(value: object, at: str) -> PolicyFacts | None:
    """The facts of the model that wrote a step. Raises RefusedError if they lack a version."""
    facts = mapping(value, at)
    if facts is None:
        return None
    version = exact_id(facts.get("version"), f"{at}.version")
    if version is None:
        raise wrong(f"{at}.version", "text", None)
    return PolicyFacts(
        version=version,
        weights_sha=text(facts.get("weights_sha"), f"{at}.weights_sha"),
        template_sha=text(facts.get("template_sha"), f"{at}.template_sha"),
        temperature=number(facts.get("temperature"), f"{at}.temperature"),
        top_p=number(facts.get("top_p"), f"{at}.top_p"),
        max_tokens=whole(facts.get("max_tokens"), f"{at}.max_tokens"),
        finish=text(facts.get("finish"), f"{at}.finish"),
    )


def _exploration(value: object, at: str) -> Exploration | None:
    facts = mapping(value, at)
    if facts is None:
        return None
    deviated = flag(facts.get("deviated"), f"{at}.deviated")
    propensity = number(facts.get("propensity"), f"{at}.propensity")
    if deviated is None:
        raise wrong(f"{at}.deviated", "true or false", None)
    if propensity is not None and not 0 < propensity <= 1:
        raise wrong(f"{at}.propensity", "a probability in (0, 1]", propensity)
    return Exploration(deviated, text(facts.get("arm"), f"{at}.arm"), propensity)
