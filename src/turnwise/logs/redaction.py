"""Placeholders for what names a person: PERSON_1, EMAIL_2, the same one for the same text
throughout a conversation.

A recogniser finds spans of text; everything else is the same for every recogniser.
"""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Protocol

from turnwise.conversation import EndReason, LoggedConversation, Message, Redaction, Step, ToolCall
from turnwise.errors import CapabilityError


class Redactor(Protocol):
    """Takes personal data out of a conversation; says in `redaction` that it did."""

    def redact(self, conversation: LoggedConversation) -> LoggedConversation: ...


@dataclass(frozen=True)
class Span:
    """Characters `start` to `stop` of a text name somebody or something."""

    start: int
    stop: int
    kind: str  # "PERSON", "EMAIL", ...


Find = Callable[[str], Iterable[Span]]  # in any order; overlapping ones become one


@dataclass(frozen=True)
class SpanRedactor:
    """Replaces what `find` finds, in every text of a conversation.

    Tokens and log-probabilities of a text that changed go: they would spell it.
    """

    find: Find
    tool: str
    version: str

    def redact(self, conversation: LoggedConversation) -> LoggedConversation:
        names = _Names(self.find)
        return replace(
            conversation,
            steps=tuple(_step(step, names) for step in conversation.steps),
            redaction=Redaction(self.tool, self.version),
        )


def redacted_text(text: str, redactor: Redactor) -> str:
    """A lone text without personal data."""
    lone = LoggedConversation("", (Step("user", text),), EndReason.CENSORED)
    return redactor.redact(lone).steps[0].content


@dataclass
class _Names:
    """The placeholders of one conversation so far."""

    find: Find
    placeholders: dict[tuple[str, str], str] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)

    def hide(self, text: str) -> str:
        """The text with placeholders."""
        out, edge = list[str](), 0
        for span in _apart(self.find(text)):
            out += [text[edge : span.start], self._name(span.kind, text[span.start : span.stop])]
            edge = span.stop
        return "".join([*out, text[edge:]])

    def _name(self, kind: str, text: str) -> str:
        same = (kind, "".join(text.casefold().split()))
        if same not in self.placeholders:
            self.count[kind] = self.count.get(kind, 0) + 1
            self.placeholders[same] = f"{kind}_{self.count[kind]}"
        return self.placeholders[same]

    def hide_json(self, text: str) -> str:
        """JSON with placeholders, JSON again; untouched where there is nothing to hide."""
        try:
            value = json.loads(text)
        except ValueError:
            return self.hide(text)
        hidden = self._hide_value(value)
        return text if hidden == value else json.dumps(hidden, ensure_ascii=False)

    def _hide_value(self, value: object) -> object:
        if isinstance(value, dict):
            return {self.hide(key): self._hide_value(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self._hide_value(one) for one in value]
        if isinstance(value, bool | float) or value is None:
            return value
        text = str(value)
        return value if (hidden := self.hide(text)) == text else hidden


def _apart(spans: Iterable[Span]) -> list[Span]:
    """The spans in order; those that overlap as one, so that no end of a name stays."""
    out = list[Span]()
    for span in sorted(spans, key=lambda span: (span.start, -span.stop)):
        if out and span.start < out[-1].stop:
            out[-1] = replace(out[-1], stop=max(out[-1].stop, span.stop))
        else:
            out.append(span)
    return out


def _step(step: Step, names: _Names) -> Step:
    hidden = replace(
        step,
        content=names.hide(step.content),
        proposed=None if step.proposed is None else names.hide(step.proposed),
        name=None if step.name is None else names.hide(step.name),
        tool_calls=_calls(step.tool_calls, names),
        context=step.context and tuple(_message(message, names) for message in step.context),
    )
    written = ("content", "proposed", "tool_calls")
    if all(getattr(hidden, name) == getattr(step, name) for name in written):
        return hidden
    return replace(hidden, token_ids=None, token_logp=None, logp_sum=None)


def _message(message: Message, names: _Names) -> Message:
    return replace(
        message,
        content=names.hide(message.content),
        name=None if message.name is None else names.hide(message.name),
        tool_calls=_calls(message.tool_calls, names),
    )


def _calls(calls: tuple[ToolCall, ...], names: _Names) -> tuple[ToolCall, ...]:
    return tuple(replace(call, arguments=names.hide_json(call.arguments)) for call in calls)


# Where two begin at the same place the earlier pattern wins.
_PATTERNS = {
    "EMAIL": r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+",
    "IBAN": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b",
    "ORDER": r"\b(?i:order|invoice|ticket|case|bestellung|rechnung|auftrag)\b"
    r"(?i:\s*(?:no\.?|nr\.?|number|nummer|id)\b\.?)?\s*[:#]?\s*(?P<order>(?=[\w-]*\d)[\w-]{4,})",
    "CARD": r"(?<![\w.])\d(?:[ -]?\d){12,18}(?!\w)",
    "PHONE": r"(?<![\w.])(?!\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b)"
    r"(?:(?:\+|\(0|0)(?:[ ()/.-]{0,2}\d){6,15}|\(?\d{3}\)?[ .-]\d{3}[ .-]\d{4})(?!\w)",
}
_ANY = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _PATTERNS.items()))
_MAYBE = re.compile(r"\d|@")  # without either there is nothing to find


def regex_redactor() -> SpanRedactor:
    """Finds e-mail addresses, IBANs, card, order and telephone numbers; no names of persons."""
    return SpanRedactor(_pattern_spans, "turnwise-regex", "1")


def _pattern_spans(text: str) -> Iterable[Span]:
    if not _MAYBE.search(text):
        return
    for match in _ANY.finditer(text):
        kind = match.lastgroup or ""
        yield Span(*match.span("order" if kind == "ORDER" else kind), kind)


_PRESIDIO_KINDS = {
    "EMAIL_ADDRESS": "EMAIL",
    "PHONE_NUMBER": "PHONE",
    "CREDIT_CARD": "CARD",
    "IBAN_CODE": "IBAN",
}


def presidio_redactor(model: str = "en_core_web_lg", language: str = "en") -> SpanRedactor:
    """Finds what Presidio recognises with a spaCy model, names of persons among it.

    Raises CapabilityError if Presidio or the model is not installed: nothing is downloaded.
    """
    try:
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider
        from spacy.util import is_package
        from tldextract import TLDExtract, tldextract
    except ImportError as error:
        raise CapabilityError(
            f"expected Presidio for --redact presidio, found none ({error}); "
            "pip install 'turnwise[presidio]' and a spaCy model, or use --redact regex"
        ) from error
    if not is_package(model):
        raise CapabilityError(
            f"expected the spaCy model {model} for Presidio, found none; install it with "
            f"`python -m spacy download {model}`, or use --redact regex"
        )
    # Presidio looks up domains of addresses: in the list that came along, not in one it fetches.
    tldextract.TLD_EXTRACTOR = TLDExtract(suffix_list_urls=(), cache_dir=None)
    named = [{"lang_code": language, "model_name": model}]
    provider = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": named})
    engine = AnalyzerEngine(nlp_engine=provider.create_engine(), supported_languages=[language])

    def find(text: str) -> list[Span]:
        found = engine.analyze(text=text, language=language)
        kinds = [_PRESIDIO_KINDS.get(one.entity_type, one.entity_type) for one in found]
        return [Span(one.start, one.end, kind) for one, kind in zip(found, kinds, strict=True)]

    return SpanRedactor(find, f"presidio/{model}", metadata.version("presidio-analyzer"))
