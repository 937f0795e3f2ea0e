"""Does the policy learn? Orders that must hold on the mean of five seeds.

`norm same` stands apart: it blames a failed dialogue's best-scored turn most, so the better the
reward model, the more it holds the policy back. It is here to show that, not to keep the laws.
"""

import statistics
from collections.abc import Mapping

import pytest
import torch
from torch.testing import assert_close

from tests.learning.toy_a_model import LOGP_UNIFORM, TURN_OF_TOKEN_T, K, Model, play
from tests.learning.toy_a_table import Learned, learned

SAME = "norm same, trust"
TRUSTED = [
    "norm signed, trust, replay",
    "own turn, trust, replay",
    "implicit value calibrated, trust, replay",
    "norm signed, trust",
    "own turn, trust",
    "implicit value calibrated, trust",
]
REPLAYED = [name for name in TRUSTED if "replay" in name]
BELOW = 0.05  # a method with trust may fall this far below trajectory


@pytest.fixture(scope="module")
def learned_of() -> Mapping[str, Learned]:
    # The longest runs come first, so that both processes end together.
    names = sorted([SAME, *TRUSTED], key=lambda name: "replay" not in name)
    return learned([*names, "trajectory", "oracle"])


def test_the_start_is_uniform_and_the_sampler_agrees_with_the_scorer() -> None:
    torch.manual_seed(0)
    model = Model()
    cue_BK = torch.randint(0, 4, (3, K))
    token_BT, logp_BT = play(model, cue_BK, torch.Generator().manual_seed(0))
    assert_close(logp_BT[:, TURN_OF_TOKEN_T >= 0], torch.full((3, K), LOGP_UNIFORM))
    torch.nn.init.normal_(model.head.weight)
    token_BT, logp_BT = play(model, cue_BK, torch.Generator().manual_seed(0))
    assert_close(model.logp(token_BT).detach(), logp_BT, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", REPLAYED)
def test_a_replayed_reward_model_closes_part_of_the_gap_between_trajectory_and_oracle(
    name: str, learned_of: Mapping[str, Learned]
) -> None:
    assert learned_of["trajectory"].mean < learned_of[name].mean < learned_of["oracle"].mean


@pytest.mark.parametrize("name", TRUSTED)
def test_trust_keeps_a_method_from_falling_below_trajectory(
    name: str, learned_of: Mapping[str, Learned]
) -> None:
    assert learned_of[name].mean >= learned_of["trajectory"].mean - BELOW


def test_blaming_the_worst_turn_of_a_failure_teaches_more_than_blaming_the_best(
    learned_of: Mapping[str, Learned],
) -> None:
    assert learned_of["norm signed, trust"].mean > learned_of[SAME].mean + 0.05


def test_the_oracle_learns_the_task(learned_of: Mapping[str, Learned]) -> None:
    assert statistics.mean(learned_of["oracle"].last_steps) > 0.95
