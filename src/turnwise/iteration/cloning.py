"""What a model is to imitate so that it becomes the policy of logs."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from turnwise.conversation import LoggedConversation, Trajectory
from turnwise.iteration.episodes import check_usable, is_own
from turnwise.iteration.rows import RowBuilder, rewritten_by
from turnwise.tokens import ChatFormat


def rows_to_clone(
    conversations: Iterable[LoggedConversation], chat: ChatFormat, *, max_tokens: int
) -> Iterator[Trajectory]:
    """Conversations with the turns that the logging policy wrote by itself, whatever they earned.

    Not among them: what a person wrote, and steps at which somebody explored. Where a person
    changed a reply, the turn is what the model had proposed. Rows are those that a Q-function
    reads; a step beyond `max_tokens` is left out.
    Raises LogsError for a conversation whose consent forbids training.
    """
    builder = RowBuilder(chat, max_tokens, rewritten_by(chat), Counter())
    for conversation in conversations:
        check_usable(conversation)
        steps = conversation.decisions
        for row in builder.rows(conversation):
            pairs = zip(row.trajectory.turns, row.turn_index, strict=True)
            turns = tuple(turn for turn, k in pairs if is_own(steps[k], None))
            if turns:
                yield replace(row.trajectory, turns=turns)
