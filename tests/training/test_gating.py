"""InfoPO's sum as settings choose it, on the worked group of the method's page (section 9.2).

Three siblings, outcomes 1, 0, 0; gains (.3, .1), (.2), (0), each followed by a last turn.
"""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.advantages import JudgedTurns, scale_by_rms
from turnwise.errors import ConfigError
from turnwise.training.config import InfoConfig, RunConfig, Schedule
from turnwise.training.credits import TokenRewards, TurnGains, TurnRewards
from turnwise.training.diagnosis import credit_findings
from turnwise.training.evidence import Evidence, InfoScores, PrmScores
from turnwise.training.gating import gate, info_advantage
from turnwise.training.methods import credit_metrics, token_advantages
from turnwise.training.metrics import turn_mean
from turnwise.training.presets import resolved

LENGTHS = [[20, 40, 10], [25, 10], [50, 15]]
GAIN_BK = tensor([[0.3, 0.1, 0.0], [0.2, 0.0, 0.0], [0.0, 0.0, 0.0]]).double()
ELIGIBLE_BK = tensor([[1, 1, 0], [1, 0, 0], [1, 0, 0]]).bool()
IS_TURN_BK = tensor([[1, 1, 1], [1, 1, 0], [1, 1, 0]]).bool()


def rows(lengths: list[list[int]]) -> Tensor:
    """Turns of these lengths, one token of the user before each."""
    turns = [[t for k, n in enumerate(row) for t in (-1, *[k] * n)] for row in lengths]
    width = max(map(len, turns))
    return tensor([row + [-1] * (width - len(row)) for row in turns])


def infopo(gain_BK: Tensor = GAIN_BK, is_eligible_BK: Tensor = ELIGIBLE_BK) -> InfoScores:
    B, K = gain_BK.shape
    words = [["" if is_asked else "last turn" for is_asked in row] for row in is_eligible_BK]
    nothing_BK = torch.zeros(B, K)
    return InfoScores(
        gain_BK, is_eligible_BK, nothing_BK, nothing_BK, nothing_BK, torch.ones(B).bool(), words,
        words,
    )  # fmt: skip


def group(outcomes: tuple[float, ...] = (1, 0, 0), step: int = 1) -> Evidence:
    turn_BT = rows(LENGTHS)
    return Evidence(
        turn_of_token_BT=turn_BT,
        length_B=torch.full((3,), turn_BT.shape[1]),
        budget_tokens=100,
        outcome_B=tensor(outcomes).double(),
        penalty_B=torch.zeros(3).double(),
        group_B=torch.zeros(3).long(),
        dialogue_key_B=torch.arange(3),
        step=step,
        seed=0,
        info=infopo(),
    )


def settings(keys: Mapping[str, object] = {}, /, **info: object) -> RunConfig:
    method = {"credit": "infopo", "estimator": "grpo", "length_penalty": 0.0, **keys}
    return resolved(RunConfig.model_validate({"method": method, "info": info}))


def by_turn(config: RunConfig, of: Evidence | None = None) -> Tensor:
    of = of or group()
    advantage_BT = token_advantages(of, config.method, config.info)
    assert not advantage_BT[~of.written_BT].any()
    return turn_mean(advantage_BT, of)


def close(found_BK: Tensor, expected: list[list[float]]) -> None:
    width = found_BK.shape[1]
    padded = [row + [0.0] * (width - len(row)) for row in expected]
    assert_close(found_BK, tensor(padded).double(), atol=1e-4, rtol=0)


def test_the_default_gives_the_pages_advantages() -> None:
    expected = [[1.2939, 1.1083, 1.1547], [-0.5309, -0.5773], [-0.7166, -0.5773]]
    close(by_turn(settings()), expected)


def test_the_public_code_gives_its_own() -> None:
    # sum_with_last_max changes R where tasks reward turns; here R is given.
    expected = [[1.3443, 1.0459, 1.1547], [-0.5549, -0.5773], [-0.5773, -0.5773]]
    close(by_turn(settings({"preset": "public-code"})), expected)


def test_without_spread_of_outcomes_the_information_term_alone_trains() -> None:
    expected = [[0.2905, -0.0968, 0.0], [0.0968, 0.0], [-0.2905, 0.0]]
    close(by_turn(settings(), group((0, 0, 0))), expected)


def test_what_a_step_reports_of_it() -> None:
    found = credit_findings(settings(), group(), None)  # a task without exact truth
    assert found["info/share"] == pytest.approx(0.0843, abs=1e-4)
    assert found["info/gate_mean"] == pytest.approx(0.2396, abs=1e-4)
    assert found["info/gain_mean"] == pytest.approx(0.15)
    assert found["info/flat_groups"] == 0.0
    assert "info/clamped_tokens" not in found


def test_flat_groups_are_scored_ones_whose_gains_say_nothing() -> None:
    same_BK = torch.where(ELIGIBLE_BK, 0.2, 0.0).double()
    two = group_pair(same_BK, GAIN_BK)
    assert credit_findings(settings(), two, None)["info/flat_groups"] == 1.0
    assert two.info is not None
    closed = replace(two, info=replace(two.info, is_scored_B=tensor([0, 0, 0, 1, 1, 1]).bool()))
    assert credit_findings(settings(), closed, None)["info/flat_groups"] == 0.0
    # .1 between them counts as none where less than 1 nat is noise.
    noisy = credit_findings(settings(min_info_std=1.0), two, None)
    assert noisy["info/flat_groups"] == 2.0
    flat_BK = info_advantage(TurnGains(same_BK, ELIGIBLE_BK), group(), InfoConfig())
    assert not flat_BK.any()


def group_pair(first_BK: Tensor, second_BK: Tensor) -> Evidence:
    """Two groups that differ in their gains alone."""
    one = group()
    return replace(
        one,
        turn_of_token_BT=torch.cat([one.turn_of_token_BT] * 2),
        length_B=torch.cat([one.length_B] * 2),
        outcome_B=torch.cat([one.outcome_B] * 2),
        penalty_B=torch.cat([one.penalty_B] * 2),
        group_B=tensor([0, 0, 0, 1, 1, 1]),
        dialogue_key_B=torch.arange(6),
        info=infopo(torch.cat([first_BK, second_BK]), torch.cat([ELIGIBLE_BK] * 2)),
    )


# The information term at β = 1 with an open gate: what is left of A once A_ext is taken away.
@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({}, [[1.1619, -0.3873], [0.3873], [-1.1619]]),
        ({"normalisation": "centre"}, [[0.15, -0.05], [0.05], [-0.15]]),  # mean .15
        ({"normalisation": "none"}, [[0.3, 0.1], [0.2], [0.0]]),
        # Turn 0: .3, .2, 0 over their mean .1667; the lone turn 1 keeps .1. Mean .025, std
        # √((.1083² + .0083² + .1917² + .075²)/3).
        ({"centre": "turn_index", "normalisation": "none"}, [[0.1333, 0.1], [0.0333], [-0.1667]]),
        (
            {"centre": "turn_index", "normalisation": "centre"},
            [[0.1083, 0.075], [0.0083], [-0.1917]],
        ),
        ({"centre": "turn_index"}, [[0.8062, 0.5582], [0.0620], [-1.4264]]),
        # Without the gain of exactly 0: mean .2, std .1.
        ({"validity": "nonzero"}, [[1.0, -1.0], [0.0], [0.0]]),
    ],
)
def test_each_switch_changes_the_term_it_names(
    info: dict[str, object], expected: list[list[float]]
) -> None:
    config = settings({"credit": {"infopo": 1.0}, "scaling": "none"}, gate="open", **info)
    close(by_turn(config), expected)


def test_the_gate_is_the_pages_and_can_be_left_open() -> None:
    of = group()
    assert gate(of, InfoConfig()).tolist() == pytest.approx([0.2396] * 3, abs=1e-4)
    assert gate(of, InfoConfig(gate="open")).tolist() == [1.0] * 3
    term_BK = by_turn(settings(gate="open")) - by_turn(settings(beta=0.0))
    close(term_BK, [[0.5 * 1.1619, 0.5 * -0.3873], [0.5 * 0.3873], [0.5 * -1.1619]])


def test_the_cap_holds_the_term_to_the_outcomes_size() -> None:
    # Raw gains of 100 times the size: std over the 170 written tokens is far above 1.
    large = replace(group(), info=infopo(100 * GAIN_BK))
    loose = settings(gate="open", normalisation="none")
    capped = settings(gate="open", normalisation="none", cap=True)
    without_BK = by_turn(settings(beta=0.0), large)
    term_BK = by_turn(loose, large) - without_BK
    capped_BK = by_turn(capped, large) - without_BK
    ratio = float(capped_BK[0, 0] / term_BK[0, 0])
    assert 0 < ratio < 0.2
    assert_close(capped_BK, ratio * term_BK)


@pytest.mark.parametrize("step", [1, 4])
def test_infopo_is_a_sum_of_outcome_and_information_bit_for_bit(step: int) -> None:
    alone = settings(beta=0.3)
    weights = {"trajectory": 1.0, "infopo": 0.3}
    for summed in (
        settings({"credit": weights}),
        settings({"credit": dict(reversed(weights.items()))}),
    ):
        of = group(step=step)
        one = token_advantages(of, alone.method, alone.info)
        assert torch.equal(token_advantages(of, summed.method, summed.info), one)
    assert alone.method.scaling == "none"


def test_without_weight_it_is_the_estimator_alone_bit_for_bit() -> None:
    plain = settings({"credit": "trajectory", "scaling": "none"})
    expected_BT = token_advantages(group(), plain.method)
    of = replace(group(), info=None)  # nobody is asked
    for config in (settings(beta=0.0), settings({"credit": {"trajectory": 1.0, "infopo": 0.0}})):
        assert torch.equal(token_advantages(of, config.method, config.info), expected_BT)
        assert set(credit_metrics(of, config.method)) == set(credit_metrics(of, plain.method))


def test_decay_counts_once_or_twice_from_the_second_step_on() -> None:
    def share(step: int, **info: object) -> float:
        term_BK = by_turn(settings(beta=0.5, **info), group(step=step))
        term_BK = term_BK - by_turn(settings(beta=0.0), group())
        return float(term_BK[0, 0] / (by_turn(settings()) - by_turn(settings(beta=0.0)))[0, 0])

    assert share(1, decay=0.1) == pytest.approx(1.0)
    assert share(4, decay=0.1) == pytest.approx(0.3704 / 0.5, abs=1e-4)
    assert share(4, decay=0.1, decay_twice=True) == pytest.approx(0.2744 / 0.5, abs=1e-4)


def test_a_schedule_moves_the_term_from_start_to_end() -> None:
    moving = Schedule(start=0.5, end=0.0, steps=3)
    config = settings({"credit": {"trajectory": 1.0, "infopo": moving}})
    plain_BK = by_turn(settings(beta=0.0))
    full_BK = by_turn(settings(beta=0.5)) - plain_BK
    for step, share in ((1, 1.0), (2, 0.5), (3, 0.0), (9, 0.0)):
        assert_close(by_turn(config, group(step=step)) - plain_BK, share * full_BK)


def test_a_dialogue_without_siblings_has_no_information_term() -> None:
    lone = replace(group(), group_B=tensor([0, 1, 1]))
    assert not by_turn(settings(), lone)[0].any()
    # The other two are compared with each other: gains .2 and 0.
    close(by_turn(settings(beta=0.0), lone)[1:], [[0.0, 0.0], [0.0, 0.0]])
    assert by_turn(settings(), lone)[1, 0] > 0


def test_as_published_a_dialogue_without_siblings_is_worth_its_outcome() -> None:
    lone = replace(group(), group_B=tensor([0, 1, 1]), outcome_B=tensor([0.7, 1.0, 0.0]).double())
    config = settings(group_of_one="raw", beta=0.0)
    # (1 − .5)/√.5 = .7071
    close(by_turn(config, lone), [[0.7] * 3, [0.7071] * 2, [-0.7071] * 2])
    # Its own two gains, .3 and .1, are then standardised by themselves: ±.7071, gate .5, β .5.
    close(by_turn(settings(group_of_one="raw"), lone)[:1], [[0.7 + 0.1768, 0.7 - 0.1768, 0.7]])
    assert not by_turn(settings(), lone)[0].any()


def learned(trust: float) -> Evidence:
    """The group with a reward model that likes later turns."""
    of = group()
    reward_BT = torch.where(of.written_BT, 0.01 * of.turn_of_token_BT, 0).double()
    sums_BK = torch.zeros(3, 3).double()
    prm = PrmScores(reward_BT, sums_BK, torch.zeros(3).double(), JudgedTurns.none(), trust)
    return replace(of, prm=prm)


def rloo(credit: object, **keys: object) -> RunConfig:
    return settings({"credit": credit, "estimator": "rloo", **keys})


def test_of_a_sum_each_weight_counts_under_trust_too() -> None:
    # Against a fault: what stood beside a learned credit was scaled by itself, its weight with it.
    unscaled: dict[str, object] = {"scaling": "none"}
    for trust in (0.0, 1.0):
        of = learned(trust)
        itpo_BK, outcome_BK = (
            by_turn(rloo("itpo", **unscaled), of),
            by_turn(rloo("trajectory", **unscaled), of),
        )
        info_BK = by_turn(rloo({"infopo": 1.0}, **unscaled), of)
        mixed = rloo({"trajectory": 0.5, "itpo": 2.0, "infopo": 0.25}, **unscaled)
        assert_close(by_turn(mixed, of), 0.5 * outcome_BK + 2 * itpo_BK + 0.25 * info_BK)
        scaled_BT = token_advantages(of, rloo({"itpo": 1.0, "infopo": 0.3}).method)
        raw_BT = token_advantages(of, rloo({"itpo": 1.0, "infopo": 0.3}, **unscaled).method)
        assert_close(scaled_BT, scale_by_rms(raw_BT, of.written_BT))


def test_half_trusted_a_sum_is_half_of_what_it_is_with_the_outcome_in_the_learned_ones_place() -> (
    None
):
    credit = {"itpo": 1.0, "infopo": 0.3}
    whole_BK, none_BK = by_turn(rloo(credit), learned(1.0)), by_turn(rloo(credit), learned(0.0))
    assert_close(by_turn(rloo(credit), learned(0.5)), (whole_BK + none_BK) / 2)
    assert_close(none_BK, by_turn(rloo({"trajectory": 1.0, "infopo": 0.3}, scaling="rms")))


def test_any_turn_rewards_can_be_added_as_gains_are() -> None:
    of = replace(group(), oracle_BK=torch.where(IS_TURN_BK, GAIN_BK, 0.0))
    gated = settings(
        {"credit": {"trajectory": 1.0, "oracle": 0.5}, "gated": True, "scaling": "none"}
    )
    all_turns = TurnRewards(GAIN_BK, False)
    term_BK = info_advantage(all_turns, of, InfoConfig())
    # Last turns count here: gains .3, .1, 0, .2, 0, 0, 0 of seven turns: mean .0857, std .1215.
    close(term_BK, [[1.7637, 0.1176, -0.7055], [0.9406, -0.7055], [-0.7055, -0.7055]])
    close(by_turn(gated, of) - by_turn(settings(beta=0.0)), (0.5 * 0.2396 * term_BK).tolist())


def test_rewards_of_tokens_have_no_turn_to_be_gated() -> None:
    with pytest.raises(ConfigError, match=r"method\.gated = true adds turn rewards"):
        info_advantage(TokenRewards(torch.zeros(3, 72)), group(), InfoConfig())
