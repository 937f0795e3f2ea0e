"""Which turns have a gain to be measured, and the reason of each that has none.

Source: InfoPO method page, section 1, rules 1 to 7, and 4.7.
"""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from itertools import chain, pairwise

from torch import Tensor

from turnwise.conversation import Ending, Trajectory, assistant_messages
from turnwise.errors import TokensError
from turnwise.tokens.chat import ChatFormat

Bodies = tuple[tuple[int, ...], ...]  # ids of the bodies of the replies to one turn


class Refusal(StrEnum):
    """Why a turn's gain is not measured."""

    FAILED = "failed"  # the dialogue broke off because a user or service gave no message
    LAST_TURN = "last turn"  # nothing was said after it
    EMPTY_TURN = "empty turn"
    EMPTY_NEXT_TURN = "empty next turn"
    NO_FEEDBACK = "no feedback"  # the dialogue does not say where a reply's body stands
    BLANK_FEEDBACK = "blank feedback"  # no visible character, or no token
    TOKEN_STRADDLES = "token straddles"  # a token holds part of a body and part of what is around
    NO_ALTERNATIVE = "no other feedback"  # of fill marginal
    GATE_CLOSED = "gate closed"  # its group was not to be scored
    FEW_TURNS = "few turns in group"  # too few to be compared


def bodies_of(trajectory: Trajectory, k: int) -> Bodies:
    """The feedback to turn k."""
    return tuple(trajectory.token_ids[start:stop] for start, stop in trajectory.turns[k].feedback)


def eligible(refusal: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    """Dialogue and turn wherever there is no reason against it."""
    return [(b, k) for b, words in enumerate(refusal) for k, word in enumerate(words) if not word]


def refusals(trajectory: Trajectory, chat: ChatFormat | None) -> list[str]:
    """Why each turn is not eligible by itself, rules 1 to 6; "" where it is.

    chat: given, the tokens of a body must be those of its text alone.
    Raises TokensError for a dialogue with more turns than messages of the assistant.
    """
    return [
        _refusal(trajectory, k, replies, chat) for k, replies in enumerate(_replies(trajectory))
    ]


def _refusal(
    trajectory: Trajectory, k: int, replies: Sequence[str], chat: ChatFormat | None
) -> str:
    if trajectory.ending is Ending.SPEAKER_FAILED:
        return Refusal.FAILED
    if k + 1 == len(trajectory.turns):
        return Refusal.LAST_TURN
    turn, following = trajectory.turns[k], trajectory.turns[k + 1]
    if not turn.num_tokens:
        return Refusal.EMPTY_TURN
    if not following.num_tokens:
        return Refusal.EMPTY_NEXT_TURN
    if not turn.feedback:
        return Refusal.NO_FEEDBACK
    is_visible = any(c.isprintable() and not c.isspace() for text in replies for c in text)
    if not is_visible or all(start == stop for start, stop in turn.feedback):
        return Refusal.BLANK_FEEDBACK
    edges = [turn.stop, *chain.from_iterable(turn.feedback), following.start]
    if edges != sorted(edges):
        return Refusal.TOKEN_STRADDLES
    if chat is not None and bodies_of(trajectory, k) != tuple(map(chat.encode, replies)):
        return Refusal.TOKEN_STRADDLES
    return ""


def _replies(trajectory: Trajectory) -> list[list[str]]:
    """Texts between each turn's message and the next one of the assistant."""
    conversation, number = trajectory.conversation, len(trajectory.turns)
    said = assistant_messages(conversation)
    if len(said) < number:
        raise TokensError(
            f"dialogue {trajectory.scenario_id}: expected an assistant message for each of its "
            f"{number} turns, found {len(said)}"
        )
    edges = [*trajectory.message_of_turn, len(conversation)]
    return [[message.content for message in conversation[a + 1 : b]] for a, b in pairwise(edges)]


def refuse_groups(
    trajectories: Sequence[Trajectory],
    refusal: list[list[str]],
    is_scored_B: Tensor | None,
    min_group_turns: int,
) -> None:
    """Writes down rule 7: groups that are not scored."""
    turns = eligible(refusal)
    candidates = Counter(trajectories[b].group_id for b, _ in turns)
    for b, k in turns:
        if is_scored_B is not None and not bool(is_scored_B[b]):
            refusal[b][k] = Refusal.GATE_CLOSED
        elif candidates[trajectories[b].group_id] < min_group_turns:
            refusal[b][k] = Refusal.FEW_TURNS
