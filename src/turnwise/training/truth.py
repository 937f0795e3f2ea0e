"""What a task knows exactly of a step's dialogues, as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from turnwise.conversation import Conversation, Trajectory
from turnwise.credit import oracle_turn_rewards
from turnwise.rollouts import Stage
from turnwise.tasks import KnowsTruth
from turnwise.tasks.protocol import S


@dataclass(frozen=True)
class Truth:
    """The yardsticks of a credit; 0 where there is no turn."""

    oracle_BK: Tensor  # float32, outcome units: V(after the reply) − V(before the turn)
    gain_BK: Tensor  # float32, nats: posterior entropy that the reply took away


def truth(stage: Stage[S], judged: Sequence[Trajectory], is_turn_BK: Tensor) -> Truth | None:
    """Exact credit and exact information gain of each turn; None where the task knows no truth.

    Raises ShapeError if the task and the batch see different turns.
    """
    if not isinstance(stage.task, KnowsTruth):
        return None
    gain = [
        stage.task.information_gain(
            stage.task.scenario(scenario_seed(one)), one.conversation, one.seed
        )
        for one in judged
    ]
    return Truth(oracle_credit(stage, judged, is_turn_BK), oracle_turn_rewards(gain, is_turn_BK))


def oracle_credit(stage: Stage[S], judged: Sequence[Trajectory], is_turn_BK: Tensor) -> Tensor:
    """The task's exact credit of each turn, oracle_BK."""
    credit = [
        stage.task.oracle(stage.task.scenario(scenario_seed(one)), one.conversation, one.seed)
        for one in judged
    ]
    return oracle_turn_rewards(credit, is_turn_BK)


def informed_weights(
    task: KnowsTruth[S], scenario: S, seed: int, conversation: Conversation
) -> tuple[float, ...]:
    """What an exact judge gives each assistant turn.

        v_k = max(0, information gain of turn k in nats),   v_K += correctness of the end

    The last turn acts and asks nothing: without its own term a right act would earn nothing beside
    the questions before it. A wholly right end counts as one nat. Correctness is the part "recall"
    of the outcome, free of noise, or else its score.
    """
    gain = task.information_gain(scenario, conversation, seed)
    outcome = task.outcome(scenario, conversation, seed)
    correctness = outcome.parts.get("recall", outcome.score or 0.0)
    weights = [max(0.0, nats) for nats in gain]
    if weights:
        weights[-1] += correctness
    return tuple(weights)


def scenario_seed(trajectory: Trajectory) -> int:
    """The seed at the end of a scenario's id, e.g. 17 of "clarify-medium-17"."""
    return int(trajectory.scenario_id.rsplit("-", 1)[1])
