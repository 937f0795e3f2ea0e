"""Where a turn's reward becomes a token's advantage, on the golden batch of the method's page.

Four dialogues, two groups; the equations' own tests are in tests/advantages. Here: that settings
choose the equations they name, for every credit and every estimator.
"""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from tests.advantages.test_golden_batch import (
    GOLDEN,
    GROUP_B,
    IS_TURN_BK,
    OUTCOME_B,
    PENALTY_B,
    REWARD_BT,
    TURN_BT,
    WRITTEN_BT,
    Rows,
    at_first_tokens,
    close,
    table,
)
from turnwise.advantages import JudgedTurns, leave_one_out, mix_by_trust, scale_by_rms
from turnwise.arrays import spread_to_tokens, turn_sum
from turnwise.errors import ConfigError, GroupError
from turnwise.training.config import CreditName, EstimatorName, MethodConfig, RunConfig
from turnwise.training.credits import CREDITS
from turnwise.training.estimators import ESTIMATORS
from turnwise.training.evidence import CriticScores, Evidence, InfoScores, PrmScores
from turnwise.training.methods import (
    credit_metrics,
    critic_targets,
    token_advantages,
    turn_credit,
)
from turnwise.training.presets import resolved

GROUPS = torch.unique(GROUP_B, return_inverse=True)[1]
CREDIT_NAMES, ESTIMATOR_NAMES = get_args(CreditName), get_args(EstimatorName)
NO_PENALTY_B = torch.zeros_like(PENALTY_B)


def prm_scores(gate: float = 1.0) -> PrmScores:
    bias_B = torch.zeros(4, dtype=torch.float64)
    turn_sum_BK = turn_sum(REWARD_BT, TURN_BT)
    return PrmScores(REWARD_BT, turn_sum_BK, bias_B, JudgedTurns.none(), gate)


def evidence(penalty_B: Tensor = PENALTY_B, gate: float = 1.0) -> Evidence:
    oracle_BK = tensor([[0.5, 0.1, 0.0], [-0.4, 0.0, 0.0], [0.2, 0.0, 0.1], [0.3, -0.3, 0.0]])
    return Evidence(
        turn_of_token_BT=TURN_BT,
        length_B=torch.full((4,), TURN_BT.shape[1]),
        budget_tokens=100,
        outcome_B=OUTCOME_B,
        penalty_B=penalty_B,
        group_B=GROUPS,
        dialogue_key_B=tensor([11, 12, 13, 14]),
        step=3,
        seed=5,
        prm=prm_scores(gate),
        oracle_BK=oracle_BK.double(),
        info=info_scores(),
        critic=CriticScores(VALUE_BK, None),
        judge_BK=tensor(
            [[1.0, 3.0, 0.0], [1.0, 0.0, 0.0], [1.0, 1.0, 2.0], [1.0, 1.0, 0.0]]
        ).double(),
        lookahead_BK=oracle_BK.double().flip(0) * IS_TURN_BK,
    )


VALUE_BK = tensor([[0.6, 0.7, 0.0], [0.4, 0.0, 0.0], [0.5, 0.5, 0.9], [0.7, 0.6, 0.0]]).double()


def info_scores() -> InfoScores:
    gain_BK = tensor([[0.3, 0.0, 0.0], [0.0, 0.0, 0.0], [0.1, 0.5, 0.0], [-0.2, 0.0, 0.0]])
    is_eligible_BK = IS_TURN_BK & torch.roll(IS_TURN_BK, -1, dims=1)
    is_eligible_BK[:, -1] = False
    words = [["" for _ in range(3)] for _ in range(4)]
    return InfoScores(
        gain_BK=gain_BK.double(),
        is_eligible_BK=is_eligible_BK,
        copied_share_BK=torch.zeros(4, 3),
        logp_factual_BK=torch.zeros(4, 3),
        logp_counterfactual_BK=torch.zeros(4, 3),
        is_scored_B=torch.ones(4, dtype=torch.bool),
        refusal=words,
        fill=words,
    )


def method(**keys: object) -> MethodConfig:
    return resolved(RunConfig.model_validate({"method": keys})).method


@pytest.mark.parametrize(
    ("name", "keys"),
    [
        ("norm", {"credit": "itpo-norm"}),
        ("itpo", {"credit": "itpo"}),
        ("itpo, 5:5", {"credit": "itpo", "coef_outcome": 5.0}),
        ("prime", {"credit": "prime"}),
        ("trajectory", {"credit": "trajectory"}),
    ],
)
def test_preset_public_code_gives_the_published_numbers(name: str, keys: dict[str, object]) -> None:
    advantage_BT = token_advantages(evidence(), method(preset="public-code", **keys))
    close(at_first_tokens(advantage_BT), table(GOLDEN[name][1]))


def test_preset_paper_gives_the_papers_norm() -> None:
    rows: Rows = [[1.0, 0.29421], [-1.0], [0, -0.56855, -0.83711], [0, -0.07586]]
    unscaled_BT = spread_to_tokens(table(rows), TURN_BT)
    advantage_BT = token_advantages(evidence(NO_PENALTY_B), method(preset="paper"))
    close(advantage_BT, scale_by_rms(unscaled_BT, WRITTEN_BT, floor=0.0))


@pytest.mark.parametrize(
    ("penalty_B", "rows", "rms"),
    [
        (NO_PENALTY_B, [[1.3986, 0.6014], [-1.0], [], []], 0.70700),
        (PENALTY_B, [[1.3746, 0.5654], [-0.97], [0.006, 0.012, 0.012], [-0.015, -0.005]], 0.68731),
    ],
)
def test_the_default_norm_with_signed_blame_and_full_trust_is_golden(
    penalty_B: Tensor, rows: Rows, rms: float
) -> None:
    advantage_BT = token_advantages(evidence(penalty_B), method(blame="signed"))
    close(at_first_tokens(advantage_BT) * rms, table(rows))


def test_without_trust_every_learned_credit_is_the_trajectory_credit() -> None:
    untrusted = evidence(NO_PENALTY_B, gate=0.0)
    trajectory_BT = token_advantages(untrusted, method(credit="trajectory"))
    for credit in ("itpo-norm", "itpo", "prime"):
        assert_close(token_advantages(untrusted, method(credit=credit)), trajectory_BT)


def test_between_no_trust_and_full_trust_the_advantages_are_mixed() -> None:
    of = method(credit="itpo")
    mixed_BT = mix_by_trust(
        token_advantages(evidence(gate=1.0), of),
        token_advantages(evidence(gate=0.0), of),
        trust=0.3,
    )
    assert_close(token_advantages(evidence(gate=0.3), of), mixed_BT)


def test_trust_is_ignored_where_it_is_switched_off() -> None:
    for credit in ("itpo-norm", "itpo", "prime"):
        off = method(credit=credit, trust_mix=False, blame="same")
        trusted_BT = token_advantages(evidence(gate=1.0), off)
        assert_close(token_advantages(evidence(gate=0.0), off), trusted_BT)


def test_uniform_credit_placed_directly_is_the_trajectory_credit() -> None:
    uniform_BT = token_advantages(evidence(NO_PENALTY_B), method(credit="uniform"))
    trajectory_BT = token_advantages(evidence(NO_PENALTY_B), method(credit="trajectory"))
    assert_close(uniform_BT, trajectory_BT)


def defined(credit: str, estimator: str) -> MethodConfig | None:
    try:
        return method(credit=credit, estimator=estimator)
    except ConfigError as error:
        assert "method.credit" in str(error)
        return None


@pytest.mark.parametrize("estimator", ESTIMATOR_NAMES)
@pytest.mark.parametrize("credit", CREDIT_NAMES)
def test_every_combination_runs_or_is_refused_with_its_reason(credit: str, estimator: str) -> None:
    chosen = defined(credit, estimator)
    told = ("uniform", "random", "judge", "prime", "value", "lookahead", "oracle")
    refused = {(name, "implicit-value") for name in told} | {("value", "ppo")}
    refused |= {(name, "grpo") for name in ("prime", "value", "lookahead", "oracle")}
    assert (chosen is None) == ((credit, estimator) in refused)
    if chosen is None:
        return
    advantage_BT = token_advantages(evidence(), chosen)
    assert advantage_BT.shape == TURN_BT.shape
    assert bool(torch.isfinite(advantage_BT).all())
    assert not advantage_BT[~WRITTEN_BT].any()
    assert advantage_BT.any()


@pytest.mark.parametrize("estimator", ESTIMATOR_NAMES)
@pytest.mark.parametrize("credit", CREDIT_NAMES)
def test_the_order_of_dialogues_does_not_matter(credit: str, estimator: str) -> None:
    chosen = defined(credit, estimator)
    if chosen is None:
        return
    order = tensor([2, 0, 3, 1])
    advantage_BT = token_advantages(evidence(), chosen)
    assert_close(token_advantages(permuted(evidence(), order), chosen), advantage_BT[order])


def permuted(of: Evidence, order: Tensor) -> Evidence:
    prm = of.prm
    assert prm is not None and of.oracle_BK is not None and of.info is not None
    assert of.critic is not None and of.judge_BK is not None and of.lookahead_BK is not None
    return replace(
        of,
        turn_of_token_BT=of.turn_of_token_BT[order],
        length_B=of.length_B[order],
        outcome_B=of.outcome_B[order],
        penalty_B=of.penalty_B[order],
        group_B=of.group_B[order],
        dialogue_key_B=of.dialogue_key_B[order],
        prm=PrmScores(
            prm.token_reward_BT[order],
            prm.turn_sum_BK[order],
            prm.bias_B[order],
            prm.history,
            prm.gate,
        ),
        oracle_BK=of.oracle_BK[order],
        info=replace(
            of.info,
            gain_BK=of.info.gain_BK[order],
            is_eligible_BK=of.info.is_eligible_BK[order],
        ),
        critic=CriticScores(of.critic.value_BK[order], None),
        judge_BK=of.judge_BK[order],
        lookahead_BK=of.lookahead_BK[order],
    )


@pytest.mark.parametrize("estimator", ["rloo", "grpo"])
@pytest.mark.parametrize("credit", ["trajectory", "uniform", "random", "itpo-norm"])
def test_a_group_without_signal_has_advantage_exactly_zero(credit: str, estimator: str) -> None:
    # Dialogues 2 and 3 both reached 1 and are as long as each other here.
    chosen = method(credit=credit, estimator=estimator)
    advantage_BT = token_advantages(evidence(NO_PENALTY_B), chosen)
    assert not advantage_BT[2:].any()
    assert advantage_BT[:2].any()


@pytest.mark.parametrize("credit", CREDIT_NAMES)
def test_a_dialogue_without_a_sibling_learns_nothing(credit: str) -> None:
    alone = replace(evidence(), group_B=tensor([0, 1, 2, 2]))
    chosen = method(credit=credit)
    assert not token_advantages(alone, chosen)[:2].any()


def test_the_published_estimator_refuses_groups_of_unequal_size() -> None:
    unequal = replace(evidence(), group_B=tensor([0, 1, 1, 1]))
    with pytest.raises(GroupError, match="one size"):
        token_advantages(unequal, method(preset="public-code"))


def test_what_the_reference_costs_is_taken_from_the_turns_that_left_it() -> None:
    kl_BK = tensor([[-0.2, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    of = method(credit="trajectory")
    plain = evidence(NO_PENALTY_B)
    costly_BT = token_advantages(replace(plain, kl_reward_BK=kl_BK.double()), of)
    # Dialogue 0: 1 − .2 at turn 1 and 1 at turn 2; dialogue 1: −1 + .2 at its turn.
    unscaled_BT = spread_to_tokens(table([[0.8, 1.0], [-0.8], [], []]), TURN_BT)
    assert_close(costly_BT, scale_by_rms(unscaled_BT, WRITTEN_BT))


def test_implicit_value_without_trust_is_the_trajectory_baseline() -> None:
    # λ_eff = 1 and a PRM that has said nothing yet (all sums 0): plain leave-one-out.
    silent = prm_scores(gate=0.0)
    silent = replace(silent, turn_sum_BK=torch.zeros_like(silent.turn_sum_BK))
    of = replace(evidence(NO_PENALTY_B), prm=silent)
    advantage_BT = token_advantages(of, method(estimator="implicit-value"))
    assert_close(advantage_BT, token_advantages(of, method(credit="trajectory")))


def test_recorded_credit_is_in_outcome_units() -> None:
    full, of = evidence(), method()
    splits: tuple[CreditName, ...] = ("trajectory", "uniform", "random", "judge", "itpo-norm")
    for name in splits:
        credit_BK = turn_credit(full, of, name)
        assert_close(credit_BK.sum(dim=1), OUTCOME_B)  # Σ_k R_k = y
    assert_close(turn_credit(full, of, "itpo"), turn_sum(REWARD_BT, TURN_BT))
    assert_close(turn_credit(full, of, "prime"), turn_sum(REWARD_BT, TURN_BT))
    assert full.oracle_BK is not None
    assert_close(turn_credit(full, of, "oracle"), full.oracle_BK)
    for name in CREDIT_NAMES:
        assert not turn_credit(full, of, name)[~IS_TURN_BK].any()


def test_random_credit_is_keyed_by_seed_step_and_dialogue() -> None:
    of, full = method(credit="random"), evidence()
    first_BK = turn_credit(full, of, "random")
    assert_close(turn_credit(full, of, "random"), first_BK)
    for other in (replace(full, seed=6), replace(full, step=4)):
        assert not torch.allclose(turn_credit(other, of, "random"), first_BK)


def test_mean_credit_by_turn_counts_the_dialogues_that_have_the_turn() -> None:
    numbers = credit_metrics(evidence(), method(credit="itpo"))
    # Turn 1: .2, .08, .3, −.6 over 4; turn 2: −.15, 0, .4 over 3; turn 3: −.2 of one dialogue.
    assert numbers == pytest.approx(
        {
            "credit/itpo/turn/0": (0.2 + 0.08 + 0.3 - 0.6) / 4,
            "credit/itpo/turn/1": (-0.15 + 0.0 + 0.4) / 3,
            "credit/itpo/turn/2": -0.2,
        }
    )


def test_how_far_implicit_values_were_off_is_told_by_turn() -> None:
    numbers = credit_metrics(evidence(), method(estimator="implicit-value"))
    # Nothing judged before: V_1 = σ(0) = .5 against outcomes 1, 0, 1, 1.
    assert numbers["prm/calibration_gap/0"] == pytest.approx(0.5 - 0.75)
    assert "prm/calibration_gap/2" in numbers


def test_a_method_that_needs_the_reward_model_says_so() -> None:
    bare = replace(evidence(), prm=None)
    for keys in ({"credit": "itpo"}, {"credit": "prime"}, {"estimator": "implicit-value"}):
        with pytest.raises(ConfigError, match="implicit PRM"):
            token_advantages(bare, method(**keys))
    with pytest.raises(ConfigError, match="oracle"):
        token_advantages(replace(evidence(), oracle_BK=None), method(credit="oracle"))


def test_a_combination_without_an_estimator_is_refused_at_the_last_door_too() -> None:
    unresolved = MethodConfig(credit="prime", estimator="grpo")
    with pytest.raises(ConfigError, match="grpo is not defined for credit prime"):
        token_advantages(evidence(), unresolved)


def test_every_name_of_the_settings_has_an_entry() -> None:
    assert tuple(CREDITS) == CREDIT_NAMES
    assert {estimator for estimator, _ in ESTIMATORS} == set(ESTIMATOR_NAMES)


def test_rloo_is_what_it_is_called() -> None:
    centred_B = leave_one_out(OUTCOME_B + PENALTY_B, GROUPS, torch.ones(4, dtype=torch.bool))
    expected_BT = scale_by_rms(centred_B[:, None] * WRITTEN_BT, WRITTEN_BT)
    assert_close(token_advantages(evidence(), method(credit="trajectory")), expected_BT)


def test_the_critic_of_credit_value_predicts_the_outcome_whatever_stands_beside_it() -> None:
    alone_BK = critic_targets(evidence(), method(credit="value", turn_lambda=1.0))
    # λ = 1: from each turn on the outcome and the whole penalty, before scaling.
    expected_BK = (OUTCOME_B + PENALTY_B)[:, None] * IS_TURN_BK
    assert_close(alone_BK, expected_BK)
    beside = method(credit={"itpo": 1.0, "value": 0.5}, turn_lambda=1.0)
    assert torch.equal(critic_targets(evidence(), beside), alone_BK)
    # Estimator ppo predicts its credit's own return instead, here from the first turn on.
    own = method(credit={"itpo": 1.0, "infopo": 0.3}, estimator="ppo", turn_lambda=1.0)
    return_B = turn_sum(REWARD_BT, TURN_BT).sum(dim=1) + PENALTY_B
    assert_close(critic_targets(evidence(), own)[:, 0], return_B)
