"""Conversations as token ids, through the tokenizer's own chat template.

Token-in-token-out: what the policy sampled is kept as ids and never decoded and encoded again.
Everything between two sampled messages is cut out of the template once, around a marker, and
tokenised piece by piece, so the ids of a dialogue only ever grow at the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

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

    Raises TemplateError when it is first used if the tokenizer has no template, the template drops
    or rewrites content, or rendering n messages is not a prefix of rendering n + 1.
    """

    tokenizer: ChatTokenizer

    @cached_property
    def _tail_ids(self) -> tuple[int, ...]:
        """Ids that follow an assistant message's content; the first special one ends the turn."""
        text = self._render([Message("user", "a"), Message("assistant", _MARK)], prompt=False)
        tail = self._encode(_split(text, "assistant")[1])
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
        return self._encode(self._render(conversation, prompt=True))

    def message(self, content: str) -> tuple[int, ...]:
        """Ids of an assistant message as a policy would have written it, end-of-turn included."""
        return (*self._encode(content), self.stop_id)

    def text(self, token_ids: Sequence[int]) -> str:
        """The content of a sampled message, without its end-of-turn token."""
        return str(self.tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def continuation(self, replies: Sequence[Message], *, is_closed: bool) -> Piece:
        """Ids from the end of an assistant message to the start of the next one.

        replies: messages it caused, at least one. is_closed: the policy sampled its end-of-turn
        token; otherwise (cut by a length limit) the piece begins with it, as text nobody trains on.
        """
        roles = tuple(reply.role for reply in replies)
        if roles not in self._markup:
            self._markup[roles] = self._markup_around(replies)
        markup = self._markup[roles]
        token_ids = list(
            self._after_stop_ids if is_closed else (self.stop_id, *self._after_stop_ids)
        )
        token_ids += markup[0]
        bodies: list[Span] = []
        for reply, after in zip(replies, markup[1:], strict=True):
            start = len(token_ids)
            token_ids += self._encode(reply.content)
            bodies.append((start, len(token_ids)))
            token_ids += after
        return Piece(tuple(token_ids), tuple(bodies))

    def _markup_around(self, replies: Sequence[Message]) -> tuple[tuple[int, ...], ...]:
        """Ids before, between and after the bodies of replies with these roles."""
        before = [Message("user", "a"), Message("assistant", "b")]
        marked = [
            Message(reply.role, _MARK, reply.name, (), reply.tool_call_id) for reply in replies
        ]
        shorter, longer = (
            self._render(before, prompt=False),
            self._render([*before, *marked], prompt=True),
        )
        if not longer.startswith(shorter):
            raise TemplateError(
                "the chat template is not prefix-preserving: rendering 2 messages gives "
                f"{shorter!r}, which is no prefix of rendering {len(before) + len(marked)}: "
                f"{longer!r}; use a template that only appends"
            )
        parts = longer[len(shorter) :].split(_MARK)
        if len(parts) != len(replies) + 1:
            raise TemplateError(
                f"the chat template shows {len(parts) - 1} of {len(replies)} replies of roles "
                f"{[reply.role for reply in replies]}; use a template that shows each once"
            )
        return tuple(self._encode(part) for part in parts)

    def check(self) -> TemplateReport:
        """The prefix test, before anything is sampled.

        Raises TemplateError if the template is missing or does not preserve prefixes. Dropping
        earlier thinking alone is reported: the ids of a dialogue here keep it all the same.
        """
        self.continuation([Message("user", "a")], is_closed=True)
        thought = [Message("user", "a"), Message("assistant", "<think>\nb\n</think>\n\nc")]
        longer = self._render([*thought, Message("user", "d")], prompt=False)
        keeps_thinking = longer.startswith(self._render(thought, prompt=False))
        lines = ["chat template: prefix-preserving"]
        if not keeps_thinking:
            lines.append(
                "chat template: drops the thinking of earlier turns when a message is added; "
                "training keeps the sampled tokens, so serve with a template that keeps them too"
            )
        return TemplateReport(keeps_thinking, tuple(lines))

    def _render(self, conversation: Sequence[Message], *, prompt: bool) -> str:
        if not self.tokenizer.chat_template:
            raise TemplateError(
                "expected a tokenizer with a chat template, found none; use an instruction-tuned "
                "model, or put a chat_template.jinja beside its tokenizer"
            )
        return str(
            self.tokenizer.apply_chat_template(
                to_openai(tuple(conversation)), tokenize=False, add_generation_prompt=prompt
            )
        )

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False)) if text else ()


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


def tokenise(conversation: Conversation, chat: ChatFormat) -> TokenisedConversation:
    """The ids a dialogue would have had if the policy had written the assistant messages.

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
    rest = list(conversation[first:])
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
        token_ids += chat.message(answer.content)
        turns.append((start, len(token_ids)))
        bodies: tuple[Span, ...] = ()
        if rest:  # nobody reads a last word, so it costs no tokens
            piece = chat.continuation(replies, is_closed=True)
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
