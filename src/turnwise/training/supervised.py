"""Learning to imitate conversations: the warm start of the tiny model, and `turnwise sft`."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from turnwise.backends.protocol import Learner
from turnwise.conversation import Conversation, Ending, Outcome, Trajectory, Turn
from turnwise.errors import BudgetError, EmptyStepError
from turnwise.tokens import ChatFormat, TurnBatch, microbatches, tokenise, turn_batch
from turnwise.training.observer import Observer
from turnwise.training.prm import PassLimits


def supervised_batch(
    conversations: Sequence[Conversation], chat: ChatFormat, *, max_tokens: int
) -> TurnBatch:
    """The conversations as one batch in which every assistant token is to be imitated.

    Raises EmptyStepError for none, BudgetError naming the first one longer than `max_tokens`,
    TemplateError for one without an assistant message after a user's.
    """
    rows = []
    for i, conversation in enumerate(conversations):
        tokens = tokenise(conversation, chat)
        if len(tokens.token_ids) > max_tokens:
            raise BudgetError(
                f"conversation {i} has {len(tokens.token_ids)} tokens, more than the "
                f"{max_tokens} allowed; raise rollout.max_conversation_tokens or leave it out"
            )
        turns = tuple(Turn(a, b, (0.0,) * (b - a), "stop") for a, b in tokens.turns)
        rows.append(
            Trajectory(
                str(i), str(i), 0, conversation, tokens.token_ids, turns,
                Outcome(None), Ending.TASK_DONE,
            )
        )  # fmt: skip
    return turn_batch(rows)


def imitate(
    learner: Learner,
    batch: TurnBatch,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    limits: PassLimits,
    observer: Observer,
    phase: str = "warm start",
) -> float:
    """Minimises the mean negative log-likelihood of assistant tokens; returns the last epoch's.

        loss = −Σ log π(a_t) / N      over the N assistant tokens of `batch_size` conversations

    learning_rate: falls linearly to 0 after a rise over the first 5 % of the steps. Nats per token.
    """
    num_rows = len(batch.length_B)
    if num_rows == 0:
        raise EmptyStepError("expected at least one conversation to imitate, got none")
    orders = [np.random.default_rng([seed, e, 4]).permutation(num_rows) for e in range(epochs)]
    steps = [rows for order in orders for rows in _split(order, batch_size)]
    observer.phase(phase, len(steps))
    losses = []
    for number, rows in enumerate(steps):
        loss = _accumulate(learner, batch, torch.from_numpy(rows), limits)
        learner.optim_step(learning_rate * rise_and_fall(number, len(steps)))
        losses.append(loss)
        observer.advance(phase, loss=loss)
    last = losses[-max(1, len(steps) // epochs) :]
    return sum(last) / len(last)


def _split(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[i : i + size] for i in range(0, len(order), size)]


def rise_and_fall(number: int, total: int) -> float:
    """Share of the learning rate in step `number` of 0..total − 1: it rises over the first 5 % of
    the steps and falls linearly to 0."""
    rise = max(1, total // 20)
    return min((number + 1) / rise, (total - number) / max(1, total - rise), 1.0)


def _accumulate(learner: Learner, batch: TurnBatch, rows: Tensor, limits: PassLimits) -> float:
    num_tokens = batch.rows(rows).num_written
    total = 0.0
    for piece in microbatches(
        batch.length_B[rows], max_rows=limits.max_rows, max_tokens=limits.max_tokens
    ):
        out = learner.forward_backward(
            batch.rows(rows[piece]), lambda logp_BT: -logp_BT.sum() / num_tokens
        )
        total += out["loss"]
    return total
