import math

import pytest
import torch
from torch import Tensor, tensor
from torch.testing import assert_close

from turnwise.errors import ConfigError, ShapeError
from turnwise.losses import kl_k3
from turnwise.qvalues import first_beta, forward_kl_advantage, kl_budget, next_beta


def test_the_budget_grows_with_the_reply_up_to_a_cap() -> None:
    # 0.02 nat × 40 tokens = 0.8, half of it in the first round; 400 tokens would be 8 > 5
    assert kl_budget(None, mean_tokens=40) == pytest.approx(0.8)
    assert kl_budget(None, mean_tokens=40, share=0.5) == pytest.approx(0.4)
    assert kl_budget(None, mean_tokens=400) == 5.0
    assert kl_budget(0.3, mean_tokens=400, share=2) == pytest.approx(0.6)
    assert kl_budget(0.0, mean_tokens=400) == 0.0
    with pytest.raises(ConfigError, match="0 or more"):
        kl_budget(-0.1, mean_tokens=1)


def test_the_first_beta_leaves_the_reference_by_the_budget() -> None:
    # 1/√(2·0.5) = 1; a reward of spread 0.1 is tilted as much by a tenth of it
    assert first_beta(0.5) == pytest.approx(1.0)
    assert first_beta(0.5, reward_std=0.1) == pytest.approx(0.1)
    # The promise, on 10,001 equally likely replies with normal rewards of variance 1.
    reward = torch.distributions.Normal(0.0, 1.0).icdf(torch.linspace(1e-4, 1 - 1e-4, 10_001))
    reward = (reward / reward.std()).double()
    for budget in (0.05, 0.5):
        logp = (reward / first_beta(budget)).log_softmax(0)
        kl = float((logp.exp() * (logp + math.log(10_001))).sum())
        assert kl == pytest.approx(budget, rel=0.2)
    with pytest.raises(ConfigError, match="stays what it is"):
        first_beta(0.0)


@pytest.mark.parametrize(
    ("kl", "is_stalled", "expected"),
    [
        (0.6, False, 1.2),  # over the budget by 1.2
        (5.0, True, 1.5),  # never by more than 1.5
        (0.5, True, 1.0),  # at the budget
        (0.34, True, 1.0),  # 0.5/1.5 = 0.333: still at the budget
        (0.33, True, 1 / 1.5),
        (0.33, False, 1.0),  # KL starts at 0: no reason of its own
    ],
)
def test_beta_follows_kl_slowly(kl: float, is_stalled: bool, expected: float) -> None:
    assert next_beta(1.0, kl, 0.5, is_stalled=is_stalled) == pytest.approx(expected)


def test_a_price_of_nothing_is_refused() -> None:
    for beta in (0.0, -1.0):
        with pytest.raises(ConfigError, match="beta"):
            next_beta(beta, 0.1, 0.5, is_stalled=False)
        with pytest.raises(ConfigError, match="beta"):
            forward_kl_advantage(tensor([[0.0]]), tensor([[0.0]]), tensor([[0]]), beta=beta)


def test_the_forward_price_by_hand() -> None:
    # w = ½, 3, 2: advantages β·(½ − 1), β·½·(3 − 1), β·1.5·(2 − 1); the prompt pays nothing
    policy_BT = tensor([[0.7, 0.0, 0.0, 0.0]])
    reference_BT = tensor([[9.0, math.log(0.5), math.log(3.0), math.log(2.0)]])
    turn_BT = tensor([[-1, 0, 0, 0]])
    found_BT = forward_kl_advantage(policy_BT, reference_BT, turn_BT, beta=2.0)
    assert_close(found_BT, tensor([[0.0, -1.0, 2.0, 3.0]]))
    assert torch.equal(
        forward_kl_advantage(policy_BT, policy_BT, turn_BT, beta=2.0), torch.zeros(1, 4)
    )
    with pytest.raises(ShapeError):
        forward_kl_advantage(policy_BT, reference_BT[:, 1:], turn_BT, beta=2.0)


def tables(seed: int) -> Tensor:
    """Log-probabilities of a policy that writes two of three tokens: (first, (first, second))."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, 3, generator=generator, dtype=torch.float64)


def logp_of_all(table_43: Tensor) -> Tensor:
    """logp_BT of the nine replies; row 0 of the table speaks first, row 1 + a after a."""
    logp_43 = table_43.log_softmax(dim=1)
    return torch.stack(
        [torch.stack([logp_43[0, a], logp_43[1 + a, b]]) for a in range(3) for b in range(3)]
    )


def test_the_forward_price_has_the_gradient_of_the_forward_kl() -> None:
    policy_43, reference_43 = tables(0).requires_grad_(), tables(1)
    logp_BT, reference_BT = logp_of_all(policy_43), logp_of_all(reference_43)
    turn_BT = torch.zeros(9, 2, dtype=torch.int64)
    forward_kl = (reference_BT.sum(1).exp() * (reference_BT - logp_BT).sum(1)).sum()
    (expected,) = torch.autograd.grad(forward_kl, policy_43, retain_graph=True)
    chance_B = logp_BT.detach().sum(1).exp()
    advantage_BT = forward_kl_advantage(logp_BT, reference_BT, turn_BT, beta=0.3)
    objective = (chance_B[:, None] * advantage_BT * logp_BT).sum()
    (found,) = torch.autograd.grad(objective, policy_43, retain_graph=True)
    assert_close(found, -0.3 * expected, atol=1e-12, rtol=0)
    # k3 in the loss differs from it by where prefixes come from: the first token agrees.
    k3 = (chance_B[:, None] * kl_k3(logp_BT, reference_BT)).sum()
    (of_k3,) = torch.autograd.grad(k3, policy_43)
    assert_close(of_k3[0], expected[0], atol=1e-12, rtol=0)
    assert not torch.allclose(of_k3[1:], expected[1:], atol=1e-3)
