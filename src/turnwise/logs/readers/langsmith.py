"""Runs of LangSmith: bulk exports in Parquet, and runs as JSON lines.

A run's `session_id` is its project; the chat is named in the metadata, often of the outermost run
only, and a trace without one is a chat of its own. Feedback is the outcome.
"""

from collections.abc import Sequence

from turnwise.conversation import LoggedConversation, LoggedOutcome
from turnwise.logs.options import ReaderOptions
from turnwise.logs.readers.calls import Call, policy_facts, prompt_of, reply_of, steps_of_calls
from turnwise.logs.readers.fields import (
    Object,
    exact_id,
    first,
    from_json,
    listing,
    mapping,
    moment,
)
from turnwise.logs.readers.record import Source, conversation_of, outcome_of
from turnwise.logs.readers.refused import RefusedError, Row, shown
from turnwise.logs.readers.store import Store

_NO_FACTS: Object = {}
_THREAD_KEYS = ("thread_id", "session_id", "conversation_id")


def keep(row: Row, store: Store) -> None:
    """Put a run beside the others of its chat. Raises RefusedError without a trace."""
    run = mapping(row.value, "the run") or _NO_FACTS
    trace = exact_id(first(run, "trace_id", "id"), "trace_id")
    if trace is None:
        raise RefusedError("missing_field", "a trace_id", "none", "export it too", "trace_id")
    thread = exact_id(first(_metadata(run), *_THREAD_KEYS) or run.get("thread_id"), "thread_id")
    store.add(row, trace, thread)


def _metadata(run: Object) -> Object:
    extra = mapping(run.get("extra"), "extra") or _NO_FACTS
    return mapping(first(extra, "metadata") or run.get("metadata"), "metadata") or _NO_FACTS


def conversation(conversation_id: str, rows: Sequence[Row], source: Source) -> LoggedConversation:
    """The chat whose runs these are."""
    runs = sorted((mapping(row.value, "the run") or _NO_FACTS for row in rows), key=_order)
    calls = [
        _call(run, source.options)
        for run in runs
        if run.get("run_type") == "llm" and not _has_failed(run)
    ]
    facts = {"conversation_id": conversation_id, **_of_people(runs)}
    indexed = [(step, None) for step in steps_of_calls(calls)]
    outcomes = [one for run in runs for one in _outcomes(run, source.options)]
    return conversation_of(facts, indexed, rows[0], source, name="runs", outcomes=outcomes)


def _has_failed(run: Object) -> bool:
    """Whether the model gave no reply: there is no action to keep."""
    has_ended = run.get("status") not in ("error", "pending") and not run.get("error")
    return run.get("outputs") is None and not has_ended


def _order(run: Object) -> str:
    return str(first(run, "dotted_order", "start_time"))


def _of_people(runs: Sequence[Object]) -> dict[str, object]:
    """Customer, tenant, language and consent as the metadata of any run has them."""
    names = ("customer_key", "customer_id", "user_id", "tenant", "language", "consent")
    told = [_metadata(run) for run in runs]
    found = {name: next((one[name] for one in told if name in one), None) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def _call(run: Object, options: ReaderOptions) -> Call:
    metadata, extra = _metadata(run), mapping(run.get("extra"), "extra") or _NO_FACTS
    settings = mapping(extra.get("invocation_params"), "invocation_params") or _NO_FACTS
    reply, finish = reply_of(from_json(run.get("outputs")), "outputs", options)
    named = {"temperature": metadata.get("ls_temperature"), **settings}
    version = first(metadata, "policy_version", "ls_model_name")
    return Call(
        prompt_of(from_json(run.get("inputs")), "inputs", options),
        reply,
        moment(run.get("start_time"), "start_time", options),
        moment(run.get("end_time"), "end_time", options),
        policy_facts(version or first(settings, "model", "model_name"), named, finish),
    )


def _outcomes(run: Object, options: ReaderOptions) -> list[LoggedOutcome]:
    """Feedback under the wanted name, or any if none is wanted."""
    out = []
    for key, stats in (mapping(run.get("feedback_stats"), "feedback_stats") or _NO_FACTS).items():
        if options.outcome_name in (None, key):
            value = _agreed(key, mapping(stats, key) or _NO_FACTS)
            if value is not None:
                out.append(outcome_of({"value": value}, key, options, f"feedback_stats.{key}"))
    for one in listing(run.get("feedback"), "feedback") or ():
        given = mapping(one, "feedback") or _NO_FACTS
        key = str(given.get("key"))
        value = first(given, "score", "value")
        if options.outcome_name in (None, key) and value is not None:
            said = {"value": value, "observed_at": given.get("created_at")}
            out.append(outcome_of(said, key, options, f"feedback.{key}"))
    return out


def _agreed(key: str, stats: Object) -> object:
    """The value on which all who gave this feedback agree."""
    words = mapping(stats.get("values"), key) or _NO_FACTS
    is_split = (stats.get("n") or 1) != 1 and stats.get("stdev") not in (0, 0.0)
    if len(words) > 1 or (is_split and not words):
        found = shown(dict(words) or f"{stats.get('n')} values with the mean {stats.get('avg')}")
        raise RefusedError(
            "two_outcomes",
            "one outcome per conversation",
            found,
            "keep one",
            f"feedback_stats.{key}",
        )
    return next(iter(words), None) if stats.get("avg") is None else stats.get("avg")
