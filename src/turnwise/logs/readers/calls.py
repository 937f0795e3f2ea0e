"""Calls of a model, as tracing tools record them, as the steps of one conversation.

Every call repeats the history in its prompt. What is new in it becomes steps of its own, and the
reply is one step; the prompt itself is kept only where it is not the steps before.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from turnwise.conversation import Conversation, Message, PolicyFacts, Step
from turnwise.logs.options import ReaderOptions
from turnwise.logs.readers.fields import Object, as_number, first, from_json, whole, wrong
from turnwise.logs.readers.messages import are_messages, is_message, steps_of
from turnwise.logs.readers.refused import RefusedError

_PROMPT_KEYS = ("messages", "prompts", "prompt", "input", "question", "query")
_WRAPPINGS = ("choices", "generations", "message", "messages")
_REPLY_KEYS = ("message", "messages", "output", "text", "answer", "content", "completion")


@dataclass(frozen=True)
class Call:
    """One reply of the model and what it was shown."""

    prompt: tuple[Step, ...]
    reply: Step
    started: datetime | None
    ended: datetime | None
    policy: PolicyFacts | None
    is_prompt_whole: bool = True  # False: only what is new was recorded


def steps_of_calls(calls: Iterable[Call]) -> list[Step]:
    """The conversation that the calls held, in their order."""
    steps: list[Step] = []
    history: Conversation = ()
    previous_tail: Conversation = ()
    for call in calls:
        new: Sequence[Step]
        prompt = tuple(step.message for step in call.prompt)
        tail = _after_last_reply(prompt)
        if not call.is_prompt_whole:
            new, context = call.prompt, None
        elif prompt[: len(history)] == history:
            new, context = call.prompt[len(history) :], None
        else:
            new, context = _unheard(call.prompt, prompt, history, previous_tail), prompt
        # Replies that no call of ours wrote are no steps to learn from.
        steps += [replace(step, is_scored=not step.is_decision) for step in new]
        steps.append(
            replace(
                call.reply, ts=call.started, author="model", policy=call.policy, context=context
            )
        )
        history = tuple(step.message for step in steps)
        previous_tail = tail
    return steps


def _after_last_reply(prompt: Conversation) -> Conversation:
    last = max((i for i, one in enumerate(prompt) if one.role == "assistant"), default=-1)
    return tuple(message for message in prompt[last + 1 :] if message.role != "system")


def _unheard(
    steps: Sequence[Step], prompt: Conversation, history: Conversation, previous_tail: Conversation
) -> Sequence[Step]:
    """What a prompt that is not the history says for the first time.

    All after the last reply of ours, if the prompt holds it; otherwise all after its last reply,
    unless the call before ended with the same words: then both answer the same message.
    """
    if not history:
        return steps
    own = _last_place(prompt, history[-1])
    if own is not None:
        return steps[own + 1 :]
    tail = _after_last_reply(prompt)
    if tail == previous_tail:
        return ()
    return [step for step in steps[len(steps) - len(tail) :] if step.role != "system"]


def _last_place(prompt: Conversation, message: Message) -> int | None:
    return next((i for i in reversed(range(len(prompt))) if prompt[i] == message), None)


def prompt_of(value: object, at: str, options: ReaderOptions) -> tuple[Step, ...]:
    """The messages of a call's input, whichever shape it has.

    Raises RefusedError if there are none, as when content was not captured.
    """
    value = _structure(value, *_PROMPT_KEYS)
    if isinstance(value, dict) and not is_message(value):
        value = _structure(first(value, *_PROMPT_KEYS), *_PROMPT_KEYS)
    while isinstance(value, list) and value and isinstance(value[0], list):
        value = value[0]  # LangChain records batches
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        raise not_captured(at)
    texts = [{"role": "user", "content": one} if isinstance(one, str) else one for one in value]
    return tuple(steps_of(texts, options, at))


def _structure(value: object, *keys: str) -> object:
    """What a text spells if it is messages or wraps them under one of the keys; any other text,
    JSON or not, is what was said."""
    found = from_json(value)
    while isinstance(found, list) and found and isinstance(found[0], list):
        found = found[0]
    is_wrapping = isinstance(found, dict) and not found.keys().isdisjoint(keys)
    return found if is_wrapping or is_message(found) or are_messages(found) else value


def not_captured(at: str) -> RefusedError:
    """The refusal of a call without the words that were said."""
    return RefusedError(
        "missing_field",
        f"the messages of a call in {at}",
        "none",
        "switch on the capture of content where the calls are traced, and export again",
        at,
    )


def reply_of(value: object, at: str, options: ReaderOptions) -> tuple[Step, str | None]:
    """(reply, why it ended) in a call's output, whichever shape it has.

    Raises RefusedError if there is none, as when content was not captured.
    """
    value, finish = _innermost(_structure(value, *_WRAPPINGS))
    if isinstance(value, str):
        value = {"content": value}
    if not isinstance(value, dict):
        raise not_captured(at)
    has_role = is_message(value) and "tool_calls" not in value
    message = value if has_role else {"role": "assistant", **value}
    steps = steps_of([message], options, at)
    if not steps[0].is_decision:
        raise wrong(f"{at}.role", "a message of the assistant", steps[0].role)
    return steps[0], finish


def _innermost(value: object) -> tuple[object, str | None]:
    """The message in wrappings of choices, generations and outputs, and its finish reason."""
    finish: str | None = None
    while True:
        if isinstance(value, list):
            # Of a list of messages the last one is new; of candidates the first was sent.
            is_talk = bool(value) and isinstance(value[-1], dict) and is_message(value[-1])
            value = value[-1] if is_talk else value[0] if value else None
        elif isinstance(value, dict):
            finish = _finish(value) or finish
            if is_message(value):
                return value, finish
            inner = first(value, "choices", "generations", *_REPLY_KEYS)
            if inner is None or inner == value.get("content"):
                return value if inner is not None else None, finish
            value = _structure(inner, *_WRAPPINGS)
        else:
            return value, finish


def _finish(value: Object) -> str | None:
    info = value.get("generation_info")
    found = first(value, "finish_reason", "stop_reason")
    if found is None and isinstance(info, dict):
        found = info.get("finish_reason")
    return found if isinstance(found, str) else None


def policy_facts(version: object, settings: Object, finish: str | None) -> PolicyFacts | None:
    """The model and its sampling; None where the model is unknown."""
    if not isinstance(version, str) or not version:
        return None
    return PolicyFacts(
        version,
        temperature=as_number(settings.get("temperature")),
        top_p=as_number(settings.get("top_p")),
        max_tokens=whole(first(settings, "max_tokens", "max_completion_tokens"), "max_tokens"),
        finish=finish,
    )
