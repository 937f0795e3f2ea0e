"""Formats with one conversation a row: OpenAI, ShareGPT, TRL and the canonical record."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

from turnwise.conversation import LOG_SCHEMA, LoggedConversation
from turnwise.logs.readers.fields import Object, first, from_json, listing, number, wrong
from turnwise.logs.readers.messages import Indexed, are_messages, indexed_steps
from turnwise.logs.readers.record import Source, conversation_of
from turnwise.logs.readers.refused import RefusedError, Row, shown

_NO_FACTS: Object = {}

Reader = Callable[[Row, Source], LoggedConversation]


def openai(row: Row, source: Source) -> LoggedConversation:
    """`messages` of OpenAI's shape, or a list of them alone."""
    return _of_list(row, source, "messages")


def sharegpt(row: Row, source: Source) -> LoggedConversation:
    """`conversations` of {from, value}."""
    return _of_list(row, source, "conversations")


def canonical(row: Row, source: Source) -> LoggedConversation:
    """`steps` of the canonical record. Raises RefusedError for another version of it."""
    version = facts_of(row).get("schema", LOG_SCHEMA)
    if version != LOG_SCHEMA:
        raise other_version(version)
    return _of_list(row, source, "steps")


def other_version(found: object) -> RefusedError:
    """The refusal of a canonical record of a version that is not ours."""
    return RefusedError(
        "unknown_format", f"the schema {LOG_SCHEMA}", shown(found), "import the export again"
    )


def facts_of(row: Row) -> Object:
    """The row as an object. Raises RefusedError if it is none."""
    if not isinstance(row.value, dict):
        raise wrong("the record", "an object", row.value)
    return row.value


def _of_list(row: Row, source: Source, name: str) -> LoggedConversation:
    if isinstance(row.value, list):
        facts, messages = _NO_FACTS, row.value
    else:
        facts = facts_of(row)
        found = listing(facts.get(name), name)
        if found is None:
            raise wrong(name, "a list of messages", None)
        messages = found
    indexed = indexed_steps(messages, source.options, name)
    return conversation_of(facts, indexed, row, source, name=name)


def trl(row: Row, source: Source) -> LoggedConversation:
    """`messages`, or `prompt` and `completion` with `label` and `turn_rewards`.

    Assistant messages in the prompt were not written by the policy. Raises RefusedError for pairs.
    """
    facts = facts_of(row)
    if "messages" in facts:
        written = _rewarded(_said(facts, "messages", "user", source), facts)
        return conversation_of(facts, written, row, source)
    if "chosen" in facts or "rejected" in facts:
        raise RefusedError(
            "missing_field",
            "messages, or prompt and completion, of one conversation",
            "chosen and rejected",
            "pairs carry no return; export what was said and what became of it",
            "chosen",
        )
    told = _said(facts, "prompt", "user", source)
    shown_before = [
        (replace(step, is_scored=False) if step.is_decision else step, i) for step, i in told
    ]
    written = _rewarded(_said(facts, "completion", "assistant", source), facts)
    return conversation_of(facts, shown_before + written, row, source, name="prompt + completion")


def _said(facts: Object, name: str, speaker: str, source: Source) -> list[Indexed]:
    """The messages of a column, or one message where it holds text."""
    found = facts.get(name)
    value = from_json(found)
    if isinstance(found, str) and not are_messages(value):
        value = [{"role": speaker, "content": found}]
    if not isinstance(value, list):
        raise wrong(name, "text or a list of messages", value)
    return indexed_steps(value, source.options, name)


def _rewarded(indexed: list[Indexed], facts: Object) -> list[Indexed]:
    """Each assistant step with its number of `turn_rewards`."""
    rewards = listing(facts.get("turn_rewards"), "turn_rewards")
    if rewards is None:
        return indexed
    decisions = [i for i, (step, _) in enumerate(indexed) if step.is_decision]
    if len(rewards) != len(decisions):
        raise RefusedError(
            "missing_field",
            f"{len(decisions)} turn_rewards, one for each assistant message of the completion",
            f"{len(rewards)}",
            "export one number for each",
            "turn_rewards",
        )
    out = list(indexed)
    for i, reward in zip(decisions, rewards, strict=True):
        value = number(reward, "turn_rewards")
        if value is None:
            raise wrong("turn_rewards", "a number", None)
        out[i] = (replace(out[i][0], reward=value), out[i][1])
    return out


CHAT_READERS: Mapping[str, Reader] = {
    "openai": openai,
    "sharegpt": sharegpt,
    "trl": trl,
    "turnwise": canonical,
}


def id_of(row: Row) -> str | None:
    """The id a refused row gives itself, where it can be told."""
    value = first(cast(Object, row.value), "conversation_id", "id") if _is_object(row) else None
    return value if isinstance(value, str) else str(value) if type(value) is int else None


def _is_object(row: Row) -> bool:
    return isinstance(row.value, dict)
