"""Conversations as token ids, through the tokenizer's own chat template.

Token-in-token-out: what the policy sampled is kept as ids and never decoded and encoded again.
Everything between two sampled messages is cut out of the template once, around a marker, and
tokenised piece by piece, so the ids of a dialogue only ever grow at the end.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import jinja2

from turnwise.conversation import Conversation, Message
from turnwise.conversation.messages import to_openai
from turnwise.conversation.trajectory import Span
from turnwise.errors import TemplateError

# Not in any template, and no template strips or escapes it.
_MARK = "\u241fturnwise\u241f"


class ChatTokenizer(Protocol):
    """The part of a Hugging Face tokenizer that turnwise uses."""

    @property
    def chat_template(self) -> object: ...

    @property
    def all_special_ids(self) -> list[int]: ...

    def apply_chat_template(
        self,
        conversation: list[dict[str, object]],
        *,
        tokenize: bool,
        add_generation_prompt: bool,
    ) -> object: ...

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]: ...

    def decode(self, token_ids: list[int], *, skip_special_tokens: bool) -> object: ...


@dataclass(frozen=True)
class Piece:
    """Ids between two assistant messages, and where the bodies of the replies are in them."""

    token_ids: tuple[int, ...]
    bodies: tuple[Span, ...]


@dataclass(frozen=True)
class TemplateReport:
    """What the prefix test found."""

    keeps_thinking: bool  # False: earlier <think> blocks vanish when a message is added
    lines: tuple[str, ...]  # for --dry-run, in plain words


@dataclass(frozen=True)
class ChatFormat:
    """A tokenizer's chat template, taken apart.

    Raises TemplateError when it is first used if the tokenizer has no template, or the template
    drops or rewrites content; `check` looks before.
    """

    tokenizer: ChatTokenizer

    @cached_property
    def _tail_ids(self) -> tuple[int, ...]:
        """Ids that follow an assistant message's content; the first special one ends the turn."""
        text = self._render([Message("user", "a"), Message("assistant", _MARK)], prompt=False)
        tail = self.encode(_split(text, "assistant")[1])
        if not any(i in self.tokenizer.all_special_ids for i in tail):
            raise TemplateError(
                "expected the chat template to end an assistant message with a special token, "
                f"found {tail}; add an end-of-turn token to the template and the tokenizer"
            )
        return tail

    @cached_property
    def stop_id(self) -> int:
        """The end-of-turn token: part of what the policy writes."""
        return next(i for i in self._tail_ids if i in self.tokenizer.all_special_ids)

    @cached_property
    def _after_stop_ids(self) -> tuple[int, ...]:
        return self._tail_ids[self._tail_ids.index(self.stop_id) + 1 :]

    @cached_property
    def _markup(self) -> dict[tuple[str, ...], tuple[tuple[int, ...], ...]]:
        return {}

    def opening(self, conversation: Conversation) -> tuple[int, ...]:
        """Ids of the messages before the first assistant turn, generation prompt included."""
        return self.encode(self._render(conversation, prompt=True))

    def encode(self, text: str) -> tuple[int, ...]:
        """Ids of a text alone, as a body stands in a dialogue."""
        return tuple(self.tokenizer.encode(text, add_special_tokens=False)) if text else ()

    def closing(self, *, is_closed: bool) -> tuple[int, ...]:
        """Ids the template puts right after an assistant message, whatever follows.

        is_closed: the policy sampled its end-of-turn token; otherwise (cut by a length limit) they
        begin with it, as text nobody trains on.
        """
        return self._after_stop_ids if is_closed else (self.stop_id, *self._after_stop_ids)

    def message(self, content: str) -> tuple[int, ...]:
        """Ids of an assistant message as a policy would have written it, end-of-turn included."""
        return (*self.encode(content), self.stop_id)

    def reply(self, before: Conversation, message: Message) -> tuple[int, ...]:
        """Ids of an assistant message as the template shows it there, its tool calls included.

        End-of-turn included. Raises TemplateError if it is not what follows the generation prompt,
        or the template leaves a tool call out.
        """
        prompt = self._render(before, prompt=True)
        text = self._render([*before, message], prompt=False)
        body, ids = text.removeprefix(prompt), self.encode(text.removeprefix(prompt))
        is_shown = all(call.name in body for call in message.tool_calls)
        if not (text.startswith(prompt) and is_shown and self.stop_id in ids):
            raise TemplateError(
                "expected the template to show the assistant message with its "
                f"{len(message.tool_calls)} tool calls after {prompt[-40:]!r}, found "
                f"{text[-80:]!r}; use a template that knows tools"
            )
        return ids[: ids.index(self.stop_id) + 1]

    def text(self, token_ids: Sequence[int]) -> str:
        """The content of a sampled message, without its end-of-turn token."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def continuation(self, replies: Sequence[Message], *, is_closed: bool) -> Piece:
        """Ids from the end of an assistant message to the start of the next one.

        replies: messages it caused; none: the next message follows as if nobody had answered.
        is_closed: see `closing`, whose ids the piece begins with.
        """
        roles = tuple(reply.role for reply in replies)
        if roles not in self._markup:
            self._markup[roles] = self._markup_around(replies)
        markup = self._markup[roles]
        token_ids = [*self.closing(is_closed=is_closed), *markup[0]]
        bodies: list[Span] = []
        for reply, after in zip(replies, markup[1:], strict=True):
            start = len(token_ids)
            token_ids += self.encode(reply.content)
            bodies.append((start, len(token_ids)))
            token_ids += after
        return Piece(tuple(token_ids), tuple(bodies))

    def _markup_around(self, replies: Sequence[Message]) -> tuple[tuple[int, ...], ...]:
        """Ids before, between and after the bodies of replies with these roles."""
        said = [Message("user", "a"), Message("assistant", _MARK)]
        marked = [
            Message(reply.role, _MARK, reply.name, (), reply.tool_call_id) for reply in replies
        ]
        tail = _split(self._render(said, prompt=False), "assistant")[1]
        _, *parts = self._render([*said, *marked], prompt=True).split(_MARK)
        if len(parts) != len(replies) + 1:
            raise TemplateError(
                f"the chat template shows {len(parts)} of {len(replies) + 1} messages of roles "
                f"{['assistant', *(reply.role for reply in replies)]}; use a template that shows "
                "each once"
            )
        if not parts[0].startswith(tail):
            raise TemplateError(
                "the chat template is not prefix-preserving: an assistant message is followed by "
                f"{tail!r}, but by {parts[0]!r} once it is answered; use a template that only "
                "appends"
            )
        return tuple(self.encode(part) for part in (parts[0].removeprefix(tail), *parts[1:]))

    def check(self) -> TemplateReport:
        """The prefix test, before anything is sampled.

        Raises TemplateError if the template is missing or rewrites earlier messages. Dropping
        earlier thinking alone is reported: the ids of a dialogue here keep it all the same.
        """
        answers = ("b", "<think>\nb\n</think>\n\nc")
        kept = [self._keeps(Message("assistant", answer)) for answer in answers]
        keeps_thinking = all(kept)
        lines = ["chat template: prefix-preserving"]
        if not keeps_thinking:
            lines = [
                "chat template: prefix-preserving but for thinking: that of earlier turns is "
                "dropped when a message is added; training keeps the sampled tokens, so serve with "
                "a template that keeps them too"
            ]
        return TemplateReport(keeps_thinking, (*lines, *self._seams()))

    def _keeps(self, answer: Message) -> bool:
        """Whether an answer stays as it was shown when a message follows; False: but for thinking.

        Raises TemplateError if anything else changes.
        """
        said = [Message("user", "a"), answer]
        shorter = self._render(said, prompt=False)
        longer = self._render([*said, Message("user", "d")], prompt=False)
        if longer.startswith(shorter):
            return True
        if _without_thinking(longer).startswith(_without_thinking(shorter)):
            return False
        raise TemplateError(
            f"the chat template is not prefix-preserving: rendering 2 messages gives {shorter!r}, "
            f"which is no prefix of rendering 3: {longer!r}; use a template that only appends"
        )

    def _seams(self) -> list[str]:
        """A line if a conversation tokenised piece by piece has other ids than tokenised whole."""
        said = [Message("user", "a b"), Message("assistant", "c d"), Message("user", "e f")]
        pieces = (
            *self.opening(tuple(said[:1])),
            *self.message(said[1].content),
            *self.continuation(said[2:], is_closed=True).token_ids,
        )
        whole = self.encode(self._render(said, prompt=True))
        if pieces == whole:
            return []
        return [
            f"tokenizer: a dialogue has {len(pieces)} tokens piece by piece and {len(whole)} as a "
            "whole; the policy is trained and must be served piece by piece"
        ]

    def _render(self, conversation: Sequence[Message], *, prompt: bool) -> str:
        if not self.tokenizer.chat_template:
            raise TemplateError(
                "expected a tokenizer with a chat template, found none; use an instruction-tuned "
                "model, or put a chat_template.jinja beside its tokenizer"
            )
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    to_openai(tuple(conversation)), tokenize=False, add_generation_prompt=prompt
                )
            )
        except jinja2.TemplateError as error:
            raise TemplateError(
                f"the chat template refuses messages of roles "
                f"{[message.role for message in conversation]}: {error}; use a template that "
                "knows them, or conversations without them"
            ) from error


def _without_thinking(text: str) -> str:
    return re.sub(r"<think>.*?</think>\s*", "", text, flags=re.DOTALL)


def _split(text: str, role: str) -> tuple[str, str]:
    before, mark, after = text.partition(_MARK)
    if not mark:
        raise TemplateError(
            f"the chat template does not show the content of the {role} message; found {text!r}"
        )
    return before, after


@dataclass(frozen=True)
class TokenisedConversation:
    """A conversation with the spans of its assistant messages."""

    token_ids: tuple[int, ...]
    turns: tuple[Span, ...]  # end-of-turn token included
    feedback: tuple[tuple[Span, ...], ...]  # bodies of the replies each turn caused


def tokenise(
    conversation: Conversation,
    chat: ChatFormat,
    written: Sequence[Sequence[int]] | None = None,
) -> TokenisedConversation:
    """The ids a dialogue would have had if the policy had written the assistant messages.

    written: the ids it did write, one entry for each assistant message; None: those of the texts.
    Raises TemplateError if the conversation does not start with a message to the assistant, or two
    assistant messages follow each other (there is no generation prompt between them).
    """
    first = next((i for i, m in enumerate(conversation) if m.role == "assistant"), None)
    if first is None or first == 0:
        raise TemplateError(
            "expected a conversation that starts with a user message and has an assistant message, "
            f"found the roles {[m.role for m in conversation]}"
        )
    token_ids = list(chat.opening(conversation[:first]))
    turns: list[Span] = []
    feedback: list[tuple[Span, ...]] = []
    rest, served = list(conversation[first:]), iter(written or ())
    while rest:
        answer = rest.pop(0)
        replies: list[Message] = []
        while rest and rest[0].role != "assistant":
            replies.append(rest.pop(0))
        if rest and not replies:
            raise TemplateError(
                "expected a reply between two assistant messages, found none; merge them into one"
            )
        start = len(token_ids)
        token_ids += next(served) if written is not None else chat.message(answer.content)
        turns.append((start, len(token_ids)))
        bodies: tuple[Span, ...] = ()
        if rest:  # nobody reads a last word, so it costs no tokens
            piece = chat.continuation(replies, is_closed=token_ids[-1] == chat.stop_id)
            bodies = tuple((a + len(token_ids), b + len(token_ids)) for a, b in piece.bodies)
            token_ids += piece.token_ids
        feedback.append(bodies)
    return TokenisedConversation(tuple(token_ids), tuple(turns), tuple(feedback))


def mask_preview(
    token_ids: Sequence[int], turns: Sequence[Span], tokenizer: ChatTokenizer
) -> list[tuple[str, bool]]:
    """Text runs of a dialogue with whether the policy wrote (and is trained on) each."""
    edges = [0, *(edge for span in turns for edge in span), len(token_ids)]
    runs = [
        (str(tokenizer.decode(list(token_ids[a:b]), skip_special_tokens=False)), i % 2 == 1)
        for i, (a, b) in enumerate(zip(edges, edges[1:], strict=False))
        if b > a
    ]
    return runs
