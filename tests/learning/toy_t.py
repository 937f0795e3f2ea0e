"""Toy T: one of three turns decides, the policy is fixed; how near is each advantage to the truth?

Vocabulary 12; token 0 starts every dialogue, all others are uniform on 1..11. The policy writes
positions 1-3, 6-8, 11-13 (turns 0, 1, 2); the rest is the user's. The outcome is 1 if token 1
occurs in the decisive turn (rate 1 − (10/11)³ = .2487). The ideal advantage is y − .2487 on that
turn and 0 elsewhere. The PRM is a GRU language model of width 32.
"""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from turnwise.losses import implicit_prm_bce, implicit_prm_logits

VOCABULARY, WIDTH, T, K, G = 12, 32, 14, 3, 8
TURN_OF_TOKEN_T = torch.tensor([-1, 0, 0, 0, -1, -1, 1, 1, 1, -1, -1, 2, 2, 2])
BASE_RATE = 1 - (10 / 11) ** 3
BETA, LEARNING_RATE, BIAS_LEARNING_RATE, BATCH = 0.1, 3e-3, 3e-2, 64


class GruModel(nn.Module):
    """A language model that scores every token from those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, WIDTH)
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, VOCABULARY)

    def logp(self, token_BT: Tensor) -> Tensor:
        """Log-probability of each token, nats; column 0 is 0. Returns logp_BT."""
        hidden, _ = self.gru(self.token(token_BT[:, :-1]))
        logp_BTV = self.head(hidden).log_softmax(-1)
        logp_BT = logp_BTV.gather(2, token_BT[:, 1:].unsqueeze(2)).squeeze(2)
        return nn.functional.pad(logp_BT, (1, 0))


@dataclass(frozen=True)
class Dialogues:
    """B dialogues of the uniform policy and their outcomes."""

    token_BT: Tensor
    outcome_B: Tensor

    @property
    def turn_of_token_BT(self) -> Tensor:
        return TURN_OF_TOKEN_T.expand(self.token_BT.shape)

    @property
    def group_B(self) -> Tensor:
        """Every G rows are siblings."""
        return torch.arange(len(self.outcome_B)) // G


def dialogues(count: int, decisive: int, generator: torch.Generator) -> Dialogues:
    token_BT = torch.randint(1, VOCABULARY, (count, T), generator=generator)
    token_BT[:, 0] = 0
    is_hit_BT = (token_BT == 1) & (decisive == TURN_OF_TOKEN_T)
    return Dialogues(token_BT, is_hit_BT.any(dim=1).float())


@dataclass(frozen=True)
class Prm:
    """A trained copy, its frozen start and the learned bias."""

    model: GruModel
    reference: GruModel
    bias: Tensor

    def logits(self, played: Dialogues) -> Tensor:
        with torch.no_grad():
            logp_reference_BT = self.reference.logp(played.token_BT)
        return implicit_prm_logits(
            self.model.logp(played.token_BT),
            logp_reference_BT,
            played.turn_of_token_BT,
            beta=BETA,
            bias=self.bias,
        )


def trained_prms(decisive: int, seed: int, stops: tuple[int, ...]) -> Iterator[tuple[int, Prm]]:
    """The PRM after each number of optimizer steps in `stops`, fresh dialogues in every step."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(1000 * decisive + seed)
    model, bias = GruModel(), torch.zeros((), requires_grad=True)
    prm = Prm(model, copy.deepcopy(model).requires_grad_(False), bias)
    groups = [
        {"params": list(model.parameters()), "lr": LEARNING_RATE},
        {"params": [bias], "lr": BIAS_LEARNING_RATE},
    ]
    optimizer = torch.optim.Adam(groups, fused=True)
    for step in range(max(stops) + 1):
        if step in stops:
            yield step, prm
        played = dialogues(BATCH, decisive, generator)
        optimizer.zero_grad()
        is_valid_B = torch.ones(BATCH, dtype=torch.bool)
        loss_B = implicit_prm_bce(prm.logits(played), played.outcome_B, is_valid_B)
        torch.autograd.backward(loss_B.mean())
        optimizer.step()


def ideal_advantage(outcome_B: Tensor, decisive: int) -> Tensor:
    """The outcome minus its rate on the decisive turn, 0 elsewhere. Returns advantage_BK."""
    advantage_BK = torch.zeros(len(outcome_B), K)
    advantage_BK[:, decisive] = outcome_B - BASE_RATE
    return advantage_BK


def cosine(a_BK: Tensor, b_BK: Tensor) -> float:
    """Over all turns of all dialogues at once."""
    return float((a_BK * b_BK).sum() / math.sqrt(float(a_BK.square().sum() * b_BK.square().sum())))
