"""What is missing, too short or broken has a stated value, or an error that says where it is."""

import math
from dataclasses import replace
from typing import cast, get_args

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from tests.rollouts.toy import CHAT, LIMITS, answers, backend
from tests.training import asking
from tests.training.asking import dialogue
from tests.training.small import dialogues, learners, settings, stepped
from tests.training.test_information import SPOKEN, local, scored
from tests.training.test_step import OneUnjudged
from turnwise.backends import AdapterSpec
from turnwise.backends.fake import FakeBackend, FakeLearner
from turnwise.backends.protocol import Tokenizer
from turnwise.conversation import Conversation, Trajectory
from turnwise.errors import LogProbError, SpeakerError, TrainingError
from turnwise.judges import RuleJudge, TurnJudge
from turnwise.rollouts import Stage
from turnwise.tokens import TurnBatch, turn_batch
from turnwise.tokens.tree import Places
from turnwise.training.config import InfoConfig, RunConfig
from turnwise.training.diagnosis import credit_findings
from turnwise.training.evidence import Evidence
from turnwise.training.gather import plain_evidence
from turnwise.training.judging import Jury
from turnwise.training.methods import token_advantages

INFOPO: dict[str, object] = {"method.credit": "infopo", "method.estimator": "grpo"}


def informed(trajectories: list[Trajectory], **info: object) -> tuple[RunConfig, Evidence]:
    """The dialogues as an InfoPO step sees them, measured by a model that has learnt nothing."""
    config = settings(INFOPO | {f"info.{key}": value for key, value in info.items()})
    _, scores = scored(local(), config.info, trajectories=trajectories)
    batch = turn_batch(trajectories)
    return config, replace(plain_evidence(config, 1, trajectories, batch), info=scores)


def outcome_alone(config: RunConfig, evidence: Evidence) -> Tensor:
    return token_advantages(evidence, config.method, config.info.model_copy(update={"beta": 0.0}))


def told_nothing(one: Trajectory) -> Trajectory:
    """The dialogue without a word on where the user's replies stand."""
    return replace(one, turns=tuple(replace(turn, feedback=()) for turn in one.turns))


@pytest.mark.parametrize("preset", ["default", "paper", "public-code"])
def test_without_spans_of_feedback_the_outcome_alone_trains(preset: str) -> None:
    scores = (1.0, 0.0, 0.5, 0.0)
    silent = [
        told_nothing(replace(one, outcome=replace(one.outcome, score=score)))
        for one, score in zip(SPOKEN, scores, strict=True)
    ]
    config = settings({"method.credit": "infopo", "method.preset": preset})
    _, info = scored(local(), config.info, trajectories=silent)
    evidence = replace(plain_evidence(config, 1, silent, turn_batch(silent)), info=info)
    assert info.refusal == (
        ("no feedback", "last turn"),
        *[("no feedback", "no feedback", "last turn")] * 3,
    )
    assert not info.is_eligible_BK.any() and not info.gain_BK.any()
    advantage_BT = token_advantages(evidence, config.method, config.info)
    assert torch.equal(advantage_BT, outcome_alone(config, evidence))
    assert advantage_BT.any()
    found = credit_findings(config, evidence, None)
    assert found["credit/infopo/refused/no_feedback"] == 7.0
    assert found["info/flat_groups"] == 2.0
    assert "info/gain_mean" not in found


def test_a_dialogue_of_one_turn_has_no_gain_and_its_siblings_have_theirs() -> None:
    mixed = [dialogue("hello", "red", score=0.0), *SPOKEN[:2]]
    config, evidence = informed(mixed)
    assert evidence.info is not None
    assert evidence.info.refusal[0] == ("last turn",)
    advantage_BT = token_advantages(evidence, config.method, config.info)
    alone_BT = outcome_alone(config, evidence)
    assert torch.equal(advantage_BT[0], alone_BT[0])
    assert not torch.equal(advantage_BT[1], alone_BT[1])
    # Where nobody spoke twice, nobody asked.
    config, evidence = informed([dialogue("hello", "red"), dialogue("hello", "blue", score=0.0)])
    assert torch.equal(
        token_advantages(evidence, config.method, config.info), outcome_alone(config, evidence)
    )


def test_feedback_of_one_token_is_measured_though_the_placeholder_is_longer() -> None:
    short = [
        dialogue("hello", "ask", "red", "red"),
        dialogue("hello", "ask", "?", "blue", score=0.0),
    ]
    for fill, used in (("gap", "compact"), ("pad_repeat", "pad_repeat"), ("drop", "drop")):
        _, evidence = informed(short, fill=fill)
        info = evidence.info
        assert info is not None
        assert info.fill == ((used, ""), (used, ""))
        assert bool((info.gain_BK[:, 0] != 0).all())
    # A placeholder of one token fits, and leaves no hole.
    _, evidence = informed(short, placeholder="sorry")
    assert evidence.info is not None and evidence.info.fill[0] == ("gap", "")


def test_a_placeholder_longer_than_the_feedback_moves_what_follows() -> None:
    long = "No information found. No information found."
    one, other = (informed(SPOKEN, placeholder=long, fill=fill)[1] for fill in ("gap", "compact"))
    assert one.info is not None and other.info is not None
    assert {word for words in one.info.fill for word in words} == {"compact", ""}
    assert torch.equal(one.info.gain_BK, other.info.gain_BK)


class Faulty(FakeLearner):
    """A scorer that loses one number: of the `at`-th scored token from the end of the last row."""

    bad, at = math.nan, 1

    def logp(self, batch: TurnBatch, *, temperature: float = 1.0) -> Tensor:
        out_BT = super().logp(batch, temperature=temperature).clone()
        row, column = batch.written_BT.nonzero()[-self.at].tolist()
        out_BT[row, column] = self.bad
        return out_BT

    def divergence(
        self, batch: TurnBatch, here: Places, there: Places, *, temperature: float = 1.0
    ) -> Tensor:
        out_N = super().divergence(batch, here, there, temperature=temperature).clone()
        out_N[-1] = self.bad
        return out_N


def faulty(bad: float = math.nan, at: int = 1) -> Faulty:
    on = FakeBackend(cast(Tokenizer, asking.TOKENIZER), len(asking.TOKENIZER))
    policy = Faulty(on, "policy", AdapterSpec())
    policy.bad, policy.at = bad, at
    return policy


ALLOWED = [
    (score, fill)
    for score in get_args(InfoConfig.model_fields["score"].annotation)
    for fill in ("gap", "drop", "marginal")
    if fill != "marginal" or score in ("mean", "sum")
]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("score", "fill"), ALLOWED)
def test_a_number_lost_at_a_measured_turn_is_named_by_dialogue_and_turn(
    score: str, fill: str, bad: float
) -> None:
    # Last is the last turn of the last dialogue, which the turn before it is credited with.
    info = InfoConfig.model_validate({"score": score, "fill": fill})
    with pytest.raises(LogProbError, match=r"dialogue 3, turn 1: expected"):
        scored(faulty(bad), info)


def test_a_number_lost_in_a_branch_is_named_too() -> None:
    # Rows end with the dialogue's own last piece: 2 tokens, after the branch's 2.
    with pytest.raises(LogProbError, match=r"dialogue 3, turn 1: expected a finite log-ratio"):
        scored(faulty(at=3), InfoConfig())


def test_a_number_lost_where_nothing_is_measured_is_named_by_position() -> None:
    one = [dialogue("hello", "red"), dialogue("hello", "ask", "it is red", "red")]
    place = one[0].turns[0].start
    # From the end: two turns of two tokens (one alone is not compared: no branch), <|end|>, "red".
    with pytest.raises(LogProbError, match=rf"policy: .*dialogue 0, position {place}"):
        scored(faulty(at=2 + 2 + 2), InfoConfig(), trajectories=one)


def test_weights_that_diverged_end_the_step_before_anything_is_learnt() -> None:
    config, on = settings(INFOPO), backend()
    of = learners(config, on)
    of.policy.forward_backward(turn_batch(dialogues(config)), lambda logp_BT: -logp_BT.sum())
    of.policy.optim_step(math.nan)
    on.passes.clear()
    before = of.sampler
    with pytest.raises(LogProbError, match=r"policy: expected finite.*dialogue 0.*turn 0"):
        stepped(config, of)
    assert of.sampler is before
    assert not any(kind == "train" for _, kind in on.passes)


@pytest.mark.parametrize("preset", ["default", "public-code"])
def test_a_group_of_one_as_published_learns_from_its_outcome(preset: str) -> None:
    alone: dict[str, object] = {"train.num_generations": 1, "info.group_of_one": "raw"}
    result = stepped(settings(INFOPO | alone | {"method.preset": preset}))
    evidence = result.evidence
    assert evidence is not None and result.advantage_BK is not None
    # A bigram gains nothing, so this is all: R on every turn.
    assert_close(result.advantage_BK, evidence.outcome_B[:, None] * evidence.is_turn_BK)
    assert result.advantage_BK.any()
    assert result.metrics["policy/grad_norm"] > 0


def test_a_dialogue_that_lost_its_siblings_learns_nothing_and_is_counted() -> None:
    result = stepped(settings(INFOPO), on=Stage(OneUnjudged(), CHAT, LIMITS))
    assert result.metrics["group/too_small"] == 1.0
    assert result.evidence is not None and result.advantage_BK is not None
    sizes_B = torch.bincount(result.evidence.group_B)[result.evidence.group_B]
    assert not result.advantage_BK[sizes_B == 1].any()


class Mute:
    async def weigh(self, conversation: Conversation) -> tuple[float, ...]:
        raise SpeakerError("expected weights, found: I cannot say")


JUDGES: dict[str, TurnJudge] = {
    "fails": Mute(),
    "forgets the last turn": RuleJudge(lambda said: [1.0 for _ in answers(said)[:-1]]),
}


@pytest.mark.parametrize("judge", JUDGES.values(), ids=JUDGES)
@pytest.mark.parametrize("estimator", ["rloo", "grpo", "ppo"])
def test_a_judge_without_an_answer_leaves_turns_alike_and_is_counted(
    judge: TurnJudge, estimator: str
) -> None:
    changes: dict[str, object] = {"method.estimator": estimator}
    config = settings(changes | {"method.credit": "judge"})
    told: list[str] = []
    jury = Jury(lambda trajectory: judge, on_failure=told.append)
    result = stepped(config, replace(learners(config), judge=jury))
    uniform = stepped(settings(changes | {"method.credit": "uniform"}))
    assert result.advantage_BK is not None and uniform.advantage_BK is not None
    assert torch.equal(result.advantage_BK, uniform.advantage_BK)
    metrics = result.metrics
    assert (metrics["judge/failed"], metrics["credit/judge/valid"]) == (16.0, 0.0)
    assert len(told) == 1 and "16 of 16" in told[0]


@pytest.mark.parametrize("level", ["turn", "token"])
@pytest.mark.parametrize("credit", ["trajectory", "infopo"])
def test_a_critic_whose_values_are_no_numbers_is_named(credit: str, level: str) -> None:
    ppo: dict[str, object] = {"method.credit": credit, "method.estimator": "ppo"}
    config = settings(ppo | {"critic.initial_value": math.nan, "critic.level": level})
    of = learners(config)
    before = of.sampler
    with pytest.raises(TrainingError, match=r"critic: expected finite values, found nan at dial"):
        stepped(config, of)
    assert of.sampler is before
