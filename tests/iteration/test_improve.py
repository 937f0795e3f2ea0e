"""A table policy climbs towards Q-functions that can be read off a reply."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from tests.iteration.climbing import (
    SMALL,
    YES,
    Says,
    changed,
    fresh,
    improved,
    policies,
    prompts,
    worth,
)
from tests.rollouts.toy import backend, ids
from turnwise.backends import AdapterSpec, Loss, Sample, SampleRequest
from turnwise.backends.fake import FakeLearner
from turnwise.backends.local import LocalBackend
from turnwise.backends.protocol import Comparison
from turnwise.backends.tiny import tiny_model, tiny_tokenizer
from turnwise.conversation import Message, Trajectory
from turnwise.errors import (
    CapabilityError,
    ConfigError,
    FlatRewardError,
    GroupError,
    TrainingError,
)
from turnwise.iteration.improve import improve
from turnwise.iteration.improve_step import RewardRule, reply_advantages
from turnwise.iteration.q_model import QValues
from turnwise.iteration.replies import Replies, reply_row
from turnwise.tokens import ChatFormat, ChatTokenizer, TurnBatch, turn_batch
from turnwise.training.observer import Silent
from turnwise.training.prm import PassLimits
from turnwise.training.supervised import imitate, supervised_batch


def rows_of(folder: Path, kind: str) -> list[dict[str, float]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["kind"] == kind]


class Listening(Silent):
    """Keeps the warnings, and ends the process in the seventh update if told to."""

    def __init__(self, *, dies: bool = False) -> None:
        self.warnings: list[str] = []
        self._left = 7 if dies else -1

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def advance(self, phase: str, by: int = 1, **metrics: float) -> None:
        self._left -= 1
        if self._left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("estimator", ["rloo", "grpo", "ppo"])
def test_a_policy_rises_towards_q_at_a_kl_near_its_budget(tmp_path: Path, estimator: str) -> None:
    learner, anchor = policies()
    found = improved(tmp_path, changed(estimator=estimator), of=(learner, anchor))
    # From 0.04 to 0.2 and more: with 512 replies each, noise is below 0.02.
    assert worth(learner.publish()) > worth(anchor.publish()) + 0.08
    assert found.gain_b > 0.08 and found.has_moved
    assert 0.25 < found.kl < 1.0  # budget 0.5
    again = policies()[0]
    again.load(tmp_path / "policy")
    batch = fresh(learner.publish(), 4).batch
    assert torch.equal(again.logp(batch), learner.logp(batch))
    first, *_ = rows_of(tmp_path, "train")
    assert first["kl/reply"] == 0 and first["kl/rollout_vs_train"] < 1e-9
    assert first["beta"] == pytest.approx(1.0)  # 1/√(2·0.5)
    assert max(row["policy/clip_frac"] for row in rows_of(tmp_path, "train")) == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"kl_direction": "forward"},
        {"kl_estimator": "k3-loss"},
        {"reward_space": "logit"},
        {"scale_rewards": "none"},
        {"beta": 2.0},
    ],
)
def test_every_way_to_pay_and_to_scale_rises(tmp_path: Path, settings: dict[str, object]) -> None:
    listening = Listening()
    config = changed(max_steps=15, num_generations=6, **settings)
    found = improved(tmp_path, config, observer=listening)
    assert found.gain_b > 0.03 and 0.02 < found.kl < 1.5
    assert len(listening.warnings) == ("kl_estimator" in settings)
    assert (found.certificate is None) == bool(
        settings.keys() & {"kl_direction", "kl_estimator", "reward_space"}
    )


def test_rewards_over_their_own_spread_warn(tmp_path: Path) -> None:
    listening = Listening()
    with pytest.warns(UserWarning, match="each prompt has its own"):
        found = improved(tmp_path, changed(scale_rewards="group", max_steps=2), observer=listening)
    assert "hardly matters" in listening.warnings[0] and found.certificate is None


def flattered(tokens: Sequence[int]) -> float:
    return sum(token == YES for token in tokens) / 6


def true(tokens: Sequence[int]) -> float:
    """The first "yes" is worth something, the second is one too many."""
    return (0.4, 0.9, 0.1, 0.0, 0.0, 0.0, 0.0)[sum(token == YES for token in tokens)]


def test_an_overoptimised_q_stops_before_the_true_value_falls(tmp_path: Path) -> None:
    q_a, q_b = Says(flattered), Says(true, v=0.5)
    # A budget and a rate that carry the policy far beyond the best place.
    config = changed(
        kl_budget=20.0, kl_cap=20.0, learning_rate=0.3, max_steps=25, num_generations=6
    )
    watched, blind = policies(1, ends=1.0), policies(1, ends=1.0)
    found = improved(tmp_path / "a", config, q_a=q_a, q_b=q_b, of=watched)
    improved(tmp_path / "b", config, q_a=q_a, q_b=q_a, of=blind)
    start, kept, last = (worth(one.publish(), q_b) for one in (watched[1], watched[0], blind[0]))
    assert found.reason == "the gain by the other Q has not risen for 3 checks"
    assert found.num_updates == found.best_update + 15
    assert kept > start + 0.2 > last + 0.2
    assert worth(blind[0].publish(), q_a) > worth(watched[0].publish(), q_a)


def test_heads_that_disagree_more_and_more_stop(tmp_path: Path) -> None:
    found = improved(tmp_path, q_a=Says(heads=(0.5, 1.5)))  # in proportion to Q, which rises
    assert found.reason.startswith("the heads of Q disagree")
    assert found.notes == ()


def test_too_many_cut_replies_stop_before_the_first_update(tmp_path: Path) -> None:
    learner, anchor = policies()
    found = improved(tmp_path, changed(max_truncated=0.1), of=(learner, anchor))
    assert "had no end token" in found.reason and found.num_updates == 0
    batch = fresh(anchor.publish(), 4).batch
    assert torch.equal(learner.logp(batch), anchor.logp(batch))
    assert "the policy stays what it was" in found.notes[-1]


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_killed_improvement_begun_again_gives_the_same_files(tmp_path: Path) -> None:
    config = changed(max_steps=10)
    whole = improved(tmp_path / "whole", config)
    with pytest.raises(KeyboardInterrupt):
        improved(tmp_path / "killed", config, observer=Listening(dies=True))
    assert files_of(tmp_path / "killed") != files_of(tmp_path / "whole")
    assert improved(tmp_path / "killed", config) == whole
    assert files_of(tmp_path / "killed") == files_of(tmp_path / "whole")


def test_a_budget_of_zero_leaves_the_policy_byte_for_byte(tmp_path: Path) -> None:
    learner, anchor = policies()
    learner.save(tmp_path / "before")
    found = improved(tmp_path / "after", changed(kl_budget=0.0), of=(learner, anchor))
    assert "KL budget is 0" in found.reason and not found.has_moved
    assert files_of(tmp_path / "after" / "policy") == files_of(tmp_path / "before")


class Blind(Says):
    """The same for every reply; of two kinds, the second not for every prompt."""

    def values(self, rows: Sequence[Trajectory]) -> QValues:
        q_B = tensor([self.v * row.turns[0].start for row in rows])
        return QValues(0.1 + q_B[None, :, None], torch.zeros(1, len(rows), 1), None)


@pytest.mark.parametrize("by_prompt", [0.0, 0.1])
def test_a_q_blind_to_the_reply_is_refused_and_moves_nothing(
    tmp_path: Path, by_prompt: float
) -> None:
    learner, anchor = policies(ends=9.0)  # hardly a reply is cut: that would cost something
    with pytest.raises(FlatRewardError, match="check G1 of the gate"):
        improved(tmp_path, q_a=Blind(v=by_prompt), of=(learner, anchor))
    batch = fresh(anchor.publish(), 4).batch
    assert torch.equal(learner.logp(batch), anchor.logp(batch))


@pytest.mark.parametrize("estimator", ["rloo", "grpo"])
def test_one_reply_of_a_prompt_has_nobody_to_be_compared_with(
    tmp_path: Path, estimator: str
) -> None:
    with pytest.raises(GroupError, match="raise num_generations, or use ppo"):
        improved(tmp_path, changed(num_generations=1, estimator=estimator))


def test_ppo_learns_from_one_reply_of_each_prompt(tmp_path: Path) -> None:
    config = changed(num_generations=1, num_prompts=48, estimator="ppo", max_steps=20)
    found = improved(tmp_path, config)
    assert found.gain_b > 0.02 and found.certificate is None


def test_ppo_needs_values_of_prefixes(tmp_path: Path) -> None:
    with pytest.raises(CapabilityError, match="values after every token"):
        improved(tmp_path, changed(estimator="ppo"), q_a=Says(has_prefixes=False))
    with pytest.raises(ConfigError, match="does not; use rloo"):
        improved(tmp_path, changed(estimator="ppo", scale_rewards="group"))


class FallsSilent(Says):
    """Says NaN of a reply in every batch of an update (8 prompts × 8 replies)."""

    def values(self, rows: Sequence[Trajectory]) -> QValues:
        values = super().values(rows)
        if len(rows) == 64:
            values.q_EBK[0, 5, 0] = float("nan")
        return values


class Diverging(FakeLearner):
    """Its loss is no number from the second update on."""

    def forward_backward(
        self,
        batch: TurnBatch,
        loss: Loss,
        *,
        temperature: float = 1.0,
        entropy_weight_BT: Tensor | None = None,
    ) -> Mapping[str, float]:
        factor = float("nan") if self._backend.passes[self.role, "train"] >= 64 else 1.0
        return super().forward_backward(batch, lambda logp_BT: factor * loss(logp_BT))


def test_a_value_that_is_no_number_stops_and_names_its_conversation(tmp_path: Path) -> None:
    message = r"update 1, on prompts of c\d+, .*conversation c\d+, reply 5 .*finite values of Q_A"
    with pytest.raises(TrainingError, match=message):
        improved(tmp_path, q_a=FallsSilent())
    again = policies()[0]
    again.load(tmp_path / "policy")  # whole


def test_a_loss_that_is_no_number_stops_and_names_its_batch(tmp_path: Path) -> None:
    on = backend()
    learner, anchor = Diverging(on, "policy", AdapterSpec()), on.create("anchor", AdapterSpec())
    with pytest.raises(TrainingError, match=r"update \d+, on prompts of c\d+.* finite gradient"):
        improved(tmp_path, of=(learner, anchor))
    assert torch.isfinite(learner.logp(fresh(anchor.publish(), 4).batch)).all()


def test_a_log_probability_that_is_no_number_names_its_conversation(tmp_path: Path) -> None:
    on = backend()
    learner = on.create("policy", AdapterSpec())
    on.table_VV[ids("bye")[0]] = float("nan")  # of whatever is said after "bye"
    with pytest.raises(TrainingError, match=r"update 1, .*conversation c\d+: anchor: expected"):
        improved(tmp_path, of=(learner, on.create("anchor", AdapterSpec())))


# One update by hand


def two_by_two() -> Replies:
    """Two prompts, two replies each, of one word and the end token; nothing is cut."""
    request = SampleRequest((1, 2), 0, 6, (4,))
    rows = [reply_row(request, Sample((7, 4), (0.0, 0.0), "stop"), f"c{b}") for b in range(4)]
    return Replies(rows, turn_batch(rows), tensor([0, 0, 1, 1]), torch.zeros(4, dtype=torch.bool))


# Rewards (0.5, 0.1) and (0.2, 0.2) over a scale of 0.1; the second prompt's do not differ.
VALUES = QValues(
    q_EBK=tensor([0.7, 0.3, 0.4, 0.4])[None, :, None],
    v_EBK=torch.full((1, 4, 1), 0.2),
    prefix_EBT=tensor([[0, 0, 0.6, 0.7], [0, 0, 0.2, 0.3]]).repeat(2, 1)[None],
)
# log π_θ − log π_k of word and end token.
RATIO_B4 = tensor([[0, 0, 0.5, 0.5], [0, 0, 0.0, 0.0], [0, 0, 0.0, 0.2], [0, 0, 0.0, 0.0]])
SCORES = Comparison(RATIO_B4, torch.zeros(4, 4), torch.zeros(4, 4), torch.zeros(4, 4))


def advantages(**settings: object) -> Tensor:
    rule = RewardRule(changed(**settings), 0.0, 1.0, 0.0, scale=0.1)
    return reply_advantages(VALUES, two_by_two(), SCORES, rule, beta=0.5)


def test_rloo_and_grpo_by_hand() -> None:
    # ρ: 5 − 0.5·1 = 4.5 against 1; and 2 − 0.1 = 1.9 against 2: the reward's part is exactly 0
    expected_B = tensor([3.5, -3.5, -0.1, 0.1])
    found_BT = advantages(estimator="rloo")
    assert_close(found_BT, torch.stack([0 * expected_B, 0 * expected_B, expected_B, expected_B], 1))
    assert_close(advantages(estimator="grpo"), found_BT / 2)


def test_ppo_by_hand() -> None:
    # Row 0: rewards of the tokens −0.25 and 5 − 0.25, values 0 and (0.6 − 0.2)/0.1 = 4 before them:
    # A = 4.5 − 0 and 4.75 − 4. Row 1: values 0 and 0, reward 1.
    found_BT = advantages(estimator="ppo")
    assert_close(found_BT[:2], tensor([[0, 0, 4.5, 0.75], [0, 0, 1.0, 1.0]]))


def test_the_price_is_left_to_the_loss_where_the_loss_has_it() -> None:
    by_loss_BT = advantages(kl_estimator="k3-loss")
    assert_close(by_loss_BT[:, 3], tensor([4.0, -4.0, 0.0, 0.0]))
    # forward: 0.5·(e^−0.5 − 1) at the first token, times e^−0.5 at the second
    paid_B4 = advantages(kl_direction="forward") - by_loss_BT
    first = 0.5 * math.expm1(-0.5)
    assert_close(paid_B4[0], tensor([0, 0, first, math.exp(-0.5) * first]))


def test_a_reply_without_end_token_has_the_lowest_return() -> None:
    replies = replace(two_by_two(), truncated_B=tensor([True, False, False, False]))
    rule = RewardRule(SMALL, -1.0, 1.0, 0.0, scale=0.5)
    # (−1 − 0.2)/0.5 whatever Q says; the others (0.3 − 0.2)/0.5 and twice (0.4 − 0.2)/0.5
    assert_close(rule.rewards(VALUES, replies), tensor([-2.4, 0.2, 0.4, 0.4]))


# A language model


def test_a_language_model_rises_too(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(["which day ?", "friday .", "hello go"] * 3, 320)
    on = LocalBackend(tiny_model(tokenizer, hidden_size=64, num_layers=2, seed=3), tokenizer)
    chat = ChatFormat(cast(ChatTokenizer, tokenizer))
    asked, friday = Message("user", "hello go"), chat.encode("friday")[0]
    spec = AdapterSpec(full_weights=True)
    taught, policy, anchor = (on.create(role, spec) for role in ("taught", "policy", "anchor"))
    says = [(asked, Message("assistant", text)) for text in ("friday .", "which day ?")]
    imitate(
        taught,
        supervised_batch(says, chat, max_tokens=40),
        epochs=40,
        batch_size=2,
        learning_rate=0.003,
        seed=0,
        limits=PassLimits(),
        observer=Silent(),
    )
    taught.save(tmp_path / "taught")
    for one in (policy, anchor):
        one.start_from(tmp_path / "taught")
    states = [replace(prompt, token_ids=chat.opening((asked,))) for prompt in prompts(32)]
    q = Says(lambda tokens: float(tokens[0] == friday), v=0.5)
    config = changed(learning_rate=0.0005, max_steps=4, check_every=4, num_prompts=4)
    found = improve(
        policy,
        anchor,
        q,
        q,
        states,
        config,
        chat=chat,
        max_turn_tokens=6,
        seed=1,
        round=0,
        folder=tmp_path,
        observer=Silent(),
    )
    assert found.gain_b > 0.1 and 0.02 < found.kl < 1.5
    first, *_ = rows_of(tmp_path, "train")
    assert first["kl/reply"] < 1e-6 and abs(first["kl/rollout_vs_train"]) < 1e-6
