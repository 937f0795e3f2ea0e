"""Every source is asked once a step, and only by a method that reads it."""

import asyncio
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from tests.rollouts.toy import answers, backend, stage
from tests.training.small import Recording, dialogues, learners, settings, stepped, yes_or_less
from turnwise.backends import AdapterSpec
from turnwise.conversation import Trajectory
from turnwise.judges import RuleJudge
from turnwise.tokens import turn_batch
from turnwise.training.config import CreditName
from turnwise.training.evidence import outcomes
from turnwise.training.gather import plain_evidence, survey
from turnwise.training.judging import Jury
from turnwise.training.learners import Learners
from turnwise.training.step import StepResult

PLAYED = 16
GRPO: dict[str, object] = {"method.estimator": "grpo"}
PPO: dict[str, object] = {"method.estimator": "ppo"}
SUM = {"itpo-norm": 1.0, "infopo": 0.3}
NOTHING = {"trajectory": 1.0, "infopo": 0.0, "judge": 0.0, "lookahead": 0.0}


def credit(of: object, *more: dict[str, object], **keys: object) -> dict[str, object]:
    out: dict[str, object] = {"method.credit": of, "prm.replay": 0}
    for part in more:
        out |= part
    return out | keys


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # (scored, trained) in passes a dialogue, of each role that is asked at all. Branches stand
        # in their dialogues' rows: information costs the one pass that re-scoring would have cost.
        (credit("infopo"), {"policy": (1, 1), "reference": (1, 0)}),
        (credit("infopo", GRPO, {"train.beta": 0.0}), {"policy": (1, 1)}),
        (
            credit("infopo", {"train.rescore_behaviour": True}),
            {"policy": (1, 1), "reference": (1, 0)},
        ),
        (credit("infopo", {"info.score": "full_kl"}), {"policy": (2, 1), "reference": (1, 0)}),
        (credit("infopo", {"info.beta": 0.0}), {"policy": (0, 1), "reference": (1, 0)}),
        (credit("trajectory", PPO), {"policy": (0, 1), "reference": (1, 0), "critic": (1, 1)}),
        (credit("infopo", PPO), {"policy": (1, 1), "reference": (1, 0), "critic": (1, 1)}),
        (credit("value"), {"policy": (0, 1), "reference": (1, 0), "critic": (1, 1)}),
        (
            credit("value", {"critic.head": "generative", "critic.passes": 2}),
            {"policy": (0, 1), "reference": (1, 0), "critic": (1, 2)},
        ),
        (
            credit("value", {"critic.warm_up_steps": 1}),
            {"reference": (1, 0), "critic": (1, 1)},  # the policy waits
        ),
        (credit("judge"), {"policy": (0, 1), "reference": (1, 0)}),
        (credit("lookahead"), {"policy": (0, 1), "reference": (1, 0)}),
        (credit(SUM), {"policy": (1, 1), "reference": (1, 0), "prm": (1, 1)}),
        (credit(NOTHING), {"policy": (0, 1), "reference": (1, 0)}),
    ],
)
def test_a_step_asks_each_model_once(
    changes: dict[str, object], expected: dict[str, tuple[int, int]]
) -> None:
    config, on = settings(changes), backend()
    stepped(config, learners(config, on))
    found = {
        role: (on.passes[role, "score"] / PLAYED, on.passes[role, "train"] / PLAYED)
        for role, _ in on.passes
    }
    assert found == expected


def judged_by(counted: Counter[int]) -> Jury:
    """Counts how often each dialogue is judged."""

    def judge_of(trajectory: Trajectory) -> RuleJudge:
        counted[trajectory.seed] += 1
        return RuleJudge(yes_or_less)

    return Jury(judge_of)


def test_a_judge_is_asked_once_for_each_dialogue() -> None:
    counted: Counter[int] = Counter()
    config = settings(credit("judge"))
    result = stepped(config, replace(learners(config), judge=judged_by(counted)))
    assert counted == Counter(one.seed for one in result.judged)
    assert result.metrics["credit/judge/valid"] == 1.0
    idle = settings(credit(NOTHING))
    stepped(idle, replace(learners(idle), judge=judged_by(counted)))
    assert sum(counted.values()) == PLAYED


def test_continuations_are_played_from_every_turn_that_is_not_the_last() -> None:
    result = stepped(settings(credit("lookahead", {"lookahead.samples": 3})))
    states = sum(len(one.turns) - 1 for one in result.judged)
    assert result.metrics["lookahead/dialogues"] == 3 * states
    assert result.evidence is not None and result.evidence.lookahead_BK is not None
    start = result.evidence.outcome_B - result.evidence.lookahead_BK.sum(dim=1)
    siblings = result.evidence.outcome_B.view(4, 4)
    others = (siblings.sum(dim=1, keepdim=True) - siblings) / 3
    assert_close(start, others.flatten())  # Σ_k R_k = y − mean of the siblings' outcomes


def test_a_dialogue_alone_has_no_value_before_its_first_turn() -> None:
    config = settings(credit("lookahead"))
    together = dialogues(config)
    apart = [replace(one, group_id=f"{b}") for b, one in enumerate(together)]
    found = []
    for judged in (together, apart):
        of = asyncio.run(survey(stage(), learners(config), config, judged, ["lookahead"]))
        assert of.lookahead_BK is not None
        found.append(of.lookahead_BK)
    assert torch.isfinite(found[0]).all()
    assert torch.isnan(found[1][:, 0]).all()
    assert torch.equal(found[0][:, 1:], found[1][:, 1:])


def test_for_a_weight_of_zero_nothing_is_asked_reported_or_recorded() -> None:
    plain, idle = stepped(settings(credit("trajectory"))), stepped(settings(credit(NOTHING)))
    assert untimed(idle) == untimed(plain)
    times = {name for name in idle.metrics if name.startswith("time/")}
    assert not times & {"time/information", "time/judge", "time/lookahead"}


@pytest.mark.parametrize("name", ["judge", "lookahead"])
def test_a_critic_predicts_the_outcome_where_its_credit_has_no_weight_left(name: str) -> None:
    idle = settings(credit({name: 0.0, "infopo": 0.3}, PPO))
    plain = settings(credit({"infopo": 0.3}, PPO))
    assert untimed(stepped(idle)) == untimed(stepped(plain))


def untimed(result: StepResult) -> dict[str, float]:
    return {
        name: value
        for name, value in result.metrics.items()
        if not name.startswith("time/") and name != "tokens/s"
    }


NEW: dict[str, dict[str, object]] = {
    "infopo": credit("infopo", GRPO),
    "infopo, published": credit("infopo", {"method.preset": "public-code"}),
    "infopo, marginal": credit("infopo", {"info.fill": "marginal", "info.score": "sum"}),
    "value": credit("value"),
    "value, by a verdict": credit("value", {"critic.head": "generative"}),
    "ppo over tokens": credit("uniform", PPO, {"critic.level": "token"}),
    "judge": credit("judge"),
    "lookahead": credit("lookahead"),
    "sum": credit(SUM),
    "gated": credit({"trajectory": 1.0, "lookahead": 0.5}, {"method.gated": True}),
}


@pytest.mark.parametrize("changes", NEW.values(), ids=NEW)
def test_equal_seeds_give_equal_steps(changes: dict[str, object]) -> None:
    config = settings(changes)
    first, second = stepped(config), stepped(config)
    assert untimed(first) == untimed(second)
    assert first.advantage_BK is not None and second.advantage_BK is not None
    assert torch.equal(first.advantage_BK, second.advantage_BK)
    assert first.advantage_BK.any()


PLACES = {
    r"/\d+$": "/{k}",
    r"^credit/[a-z-]+/turn": "credit/{method}/turn",
    r"/refused/.*": "/refused/{reason}",
    r"^stop/.*": "stop/{ending}",
    r"^outcome/.*": "outcome/{part}",
    r"^turns/reward/yes": "turns/reward/{name}",
}


def test_every_metric_of_a_step_is_documented() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "run-folder.md").read_text("utf-8")
    names: set[str] = set()
    for changes in (NEW["sum"], NEW["judge"], NEW["lookahead"], NEW["value"], NEW["infopo"]):
        clamping = {"info.score": "k3", "prm.replay": 8}
        names |= set(stepped(settings(changes | clamping)).metrics)
    for place, name in PLACES.items():
        names = {re.sub(place, name, one) for one in names}
    assert {"info/flat_groups", "info/clamped_tokens", "critic/loss", "prm/trust"} <= names
    assert sorted(name for name in names if f"`{name}`" not in page) == []


def recorded(changes: dict[str, object]) -> tuple[StepResult, Recording]:
    """A step, and the policy that remembers its gradients."""
    config, on = settings(changes), backend()
    policy = Recording(on, "policy", AdapterSpec())
    result = stepped(config, replace(learners(config, on), policy=policy, sampler=policy.publish()))
    return result, policy


@pytest.mark.parametrize("estimator", ["grpo", "rloo"])
def test_without_weight_a_step_is_bit_for_bit_that_of_the_estimator_alone(estimator: str) -> None:
    alike: dict[str, object] = {"method.estimator": estimator, "method.length_penalty": 0.0}
    expected, plain = recorded(credit("trajectory", alike, {"method.scaling": "none"}))
    found, policy = recorded(credit("infopo", alike, {"info.beta": 0.0}))
    assert len(policy.gradients) == len(plain.gradients) == 1
    assert torch.equal(policy.gradients[0], plain.gradients[0])
    batch = turn_batch(dialogues(settings()))
    assert torch.equal(policy.logp(batch), plain.logp(batch))
    assert untimed(found) == untimed(expected)


def test_the_public_outcome_counts_the_largest_reward_in_place_of_the_last() -> None:
    config = settings(credit("infopo", {"method.preset": "public-code"}))
    played = dialogues(config)
    evidence = plain_evidence(config, 1, played, turn_batch(played))
    for b, one in enumerate(played):
        right = [float(text == "yes") for text in answers(one.conversation)]
        score = one.outcome.score
        assert score is not None
        rewards = [*right[:-1], right[-1] + score]
        expected = sum(rewards[:-1]) + max(rewards)
        assert evidence.outcome_B[b].item() == pytest.approx(expected, abs=1e-4)
    plain = plain_evidence(settings(), 1, played, turn_batch(played))
    assert_close(plain.outcome_B, outcomes(played))


def surveyed(of: Learners, changes: dict[str, object], *names: CreditName) -> list[str]:
    asked: list[str] = []
    config = settings(changes)
    evidence = asyncio.run(survey(stage(), of, config, dialogues(config), names, asked.append))
    assert (evidence.info is not None) == ("infopo" in names)
    return asked


def test_a_survey_asks_what_is_there_and_what_is_named_and_teaches_nobody() -> None:
    changes = credit({"itpo-norm": 1.0, "value": 0.5, "judge": 0.5, "infopo": 0.1})
    on = backend()
    of = learners(settings(changes), on)
    models = ["reward model", "critic"]
    assert surveyed(of, changes, "itpo") == models
    assert surveyed(of, changes, "infopo", "judge") == [*models, "information", "judge"]
    assert surveyed(of, changes, "lookahead") == [*models, "continuations"]
    assert not any(kind == "train" for _, kind in on.passes)
