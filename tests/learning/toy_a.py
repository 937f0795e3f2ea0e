"""Toy A: does the policy learn? One run of one method, and the methods themselves.

`python -m tests.learning.toy_a NAME SEED` prints the share of right answers of every step.
An iteration is section 6 of the method's specification in small: play, train the PRM (first pass
prequential), replay, score again, give advantages to turns, two clipped policy steps.
"""

import copy
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tests.learning.toy_a_model import (
    LOGP_UNIFORM,
    NUM_ANSWERS,
    NUM_CUES,
    TURN_OF_TOKEN_T,
    K,
    Model,
    play,
    right_answers,
)
from turnwise.advantages import (
    JudgedTurns,
    TurnCalibration,
    fit_turn_calibration,
    group_offset_values,
    implicit_value_advantages,
    implicit_values,
    lambda_under_trust,
    leave_one_out,
    loo_turn_index,
    mix_by_trust,
    own_turn,
    redistribute_direct,
    reward_to_go,
    same_for_all_turns,
    scale_by_rms,
)
from turnwise.arrays import spread_to_tokens, turn_sum
from turnwise.credit import (
    Trust,
    mix_with_uniform,
    order_accuracy,
    robust_batch_scale,
    signed_turn_weights,
    turn_logits_sum,
    turn_weights,
)
from turnwise.losses import (
    ClipRange,
    implicit_prm_bce,
    implicit_prm_logits,
    initial_bias,
    loss_divisor,
    loss_weights,
    policy_objective,
)

P, G, STEPS = 16, 8, 150
B = P * G
POLICY_RATE, POLICY_MINI_BATCHES = 1e-3, 2
PRM_MINI_BATCH, REPLAY_MINI_BATCH, BIAS_RATE = 16, 64, 0.01
CHANCE = 1 / NUM_ANSWERS


@dataclass(frozen=True)
class Played:
    """The dialogues of one iteration; the reference is uniform and needs no forward."""

    token_BT: Tensor
    logp_behaviour_BT: Tensor
    is_right_BK: Tensor
    outcome_B: Tensor

    @property
    def turn_of_token_BT(self) -> Tensor:
        return TURN_OF_TOKEN_T.expand(self.token_BT.shape)

    def rows(self, index: Tensor) -> "Played":
        return Played(
            self.token_BT[index],
            self.logp_behaviour_BT[index],
            self.is_right_BK[index],
            self.outcome_B[index],
        )


GROUP_B = torch.arange(P).repeat_interleave(G)
VALID_B = torch.ones(B, dtype=torch.bool)
TURN_BK = torch.ones(B, K, dtype=torch.bool)


@dataclass(frozen=True)
class Evidence:
    """What an iteration knows when it hands out advantages. Turn sums are in logits."""

    played: Played
    post_BK: Tensor  # turn sums of the PRM after it was trained on this batch
    prequential_BK: Tensor  # each dialogue's before its own outcome was used
    bias: float  # before this batch
    calibration: TurnCalibration  # from earlier batches
    gate: float  # trust g; 1 for methods that trust blindly

    @property
    def centred_B(self) -> Tensor:
        return leave_one_out(self.played.outcome_B, GROUP_B, VALID_B)


Advantage = Callable[[Evidence], Tensor]


def oracle(evidence: Evidence) -> Tensor:
    return evidence.played.is_right_BK.float() - CHANCE


def trajectory(evidence: Evidence) -> Tensor:
    return same_for_all_turns(evidence.centred_B, TURN_BK)


def norm_same(evidence: Evidence) -> Tensor:
    logit_BK = turn_logits_sum(evidence.post_BK)
    scale = robust_batch_scale(logit_BK, TURN_BK, VALID_B)
    weight_BK = turn_weights(logit_BK, TURN_BK, scale=scale, temperature=1.0)
    weight_BK = mix_with_uniform(weight_BK, TURN_BK, trust=evidence.gate)
    return redistribute_direct(evidence.centred_B, weight_BK, TURN_BK)


def norm_signed(evidence: Evidence) -> Tensor:
    logit_BK = turn_logits_sum(evidence.post_BK)
    scale = robust_batch_scale(logit_BK, TURN_BK, VALID_B)
    weight_BK = signed_turn_weights(
        logit_BK, TURN_BK, evidence.centred_B, scale=scale, temperature=1.0
    )
    weight_BK = mix_with_uniform(weight_BK, TURN_BK, trust=evidence.gate)
    return redistribute_direct(evidence.centred_B, weight_BK, TURN_BK)


def under_trust(evidence: Evidence, advantage_BK: Tensor) -> Tensor:
    return mix_by_trust(
        scale_by_rms(advantage_BK, TURN_BK),
        scale_by_rms(trajectory(evidence), TURN_BK),
        trust=evidence.gate,
    )


def itpo(evidence: Evidence) -> Tensor:
    return_BK = reward_to_go(evidence.post_BK, TURN_BK, discount=1.0)
    return under_trust(evidence, loo_turn_index(return_BK, TURN_BK, GROUP_B, VALID_B))


def own(evidence: Evidence) -> Tensor:
    return under_trust(evidence, own_turn(evidence.post_BK, TURN_BK, GROUP_B, VALID_B))


def implicit_raw(evidence: Evidence) -> Tensor:
    value_BK = implicit_values(evidence.prequential_BK, TURN_BK, evidence.bias)
    return value_advantages(evidence, value_BK)


def implicit_calibrated(evidence: Evidence) -> Tensor:
    value_BK = evidence.calibration.values(evidence.prequential_BK, TURN_BK)
    return value_advantages(evidence, value_BK)


def value_advantages(evidence: Evidence, value_BK: Tensor) -> Tensor:
    outcome_B = evidence.played.outcome_B
    return implicit_value_advantages(
        group_offset_values(value_BK, outcome_B, TURN_BK, GROUP_B, VALID_B),
        outcome_B,
        TURN_BK,
        VALID_B,
        discount=1.0,
        turn_lambda=lambda_under_trust(0.5, trust=evidence.gate),
    )


@dataclass(frozen=True)
class PrmSettings:
    """How the reward model learns; replay in iterations kept and extra steps of 64 dialogues."""

    beta: float = 0.3
    learning_rate: float = 1e-3
    replay: int = 1
    replay_steps: int = 0
    is_trusted_blindly: bool = False


@dataclass(frozen=True)
class Method:
    advantage: Advantage
    prm: PrmSettings | None = None


ONE_PASS, BLIND = PrmSettings(), PrmSettings(is_trusted_blindly=True)
REPLAYED = PrmSettings(replay=8, replay_steps=16)
METHODS = {
    "oracle": Method(oracle),
    "trajectory": Method(trajectory),
    "norm same, no trust": Method(norm_same, BLIND),
    "norm signed, no trust": Method(norm_signed, BLIND),
    "itpo, no trust": Method(itpo, BLIND),
    "own turn, no trust": Method(own, BLIND),
    "norm same, trust": Method(norm_same, ONE_PASS),
    "norm signed, trust": Method(norm_signed, ONE_PASS),
    "itpo, trust": Method(itpo, ONE_PASS),
    "own turn, trust": Method(own, ONE_PASS),
    "implicit value raw, trust": Method(implicit_raw, ONE_PASS),
    "implicit value calibrated, trust": Method(implicit_calibrated, ONE_PASS),
    "norm same, trust, replay": Method(norm_same, REPLAYED),
    "norm signed, trust, replay": Method(norm_signed, REPLAYED),
    "itpo, trust, replay": Method(itpo, REPLAYED),
    "own turn, trust, replay": Method(own, REPLAYED),
    "own turn, trust, replay, rate 3e-3, β .1": Method(
        own, replace(REPLAYED, learning_rate=3e-3, beta=0.1)
    ),
    "implicit value calibrated, trust, replay": Method(implicit_calibrated, REPLAYED),
}


class RewardModel:
    """The implicit PRM with all it remembers between iterations."""

    def __init__(self, start: Model, settings: PrmSettings, generator: torch.Generator) -> None:
        self.model, self.settings, self.generator = copy.deepcopy(start), settings, generator
        self.bias = torch.zeros((), requires_grad=True)
        groups = [
            {"params": list(self.model.parameters()), "lr": settings.learning_rate},
            {"params": [self.bias], "lr": BIAS_RATE},
        ]
        self.optimizer = torch.optim.Adam(groups, fused=True)
        self.kept: deque[Played] = deque(maxlen=settings.replay)
        self.trust, self.judged = Trust(), JudgedTurns.none()

    def learn(self, played: Played) -> Evidence:
        if not self.kept:
            self.bias.data.fill_(initial_bias(played.outcome_B))
        bias, calibration = float(self.bias.detach()), self._calibration()
        prequential_BK, z_B = self._first_pass(played)
        self.trust = self.trust.updated(order_accuracy(z_B, played.outcome_B, GROUP_B, VALID_B))
        self.judged = self.judged.extended(prequential_BK, TURN_BK, played.outcome_B, VALID_B)
        self.kept.append(played)
        self._replay()
        with torch.no_grad():
            post_BK = self._turn_sums(self.model.logp(played.token_BT), played)
        gate = 1.0 if self.settings.is_trusted_blindly else self.trust.gate
        return Evidence(played, post_BK, prequential_BK, bias, calibration, gate)

    def _calibration(self) -> TurnCalibration:
        return fit_turn_calibration(self.judged, bias=float(self.bias.detach()))

    def _first_pass(self, played: Played) -> tuple[Tensor, Tensor]:
        """One step for every two groups, in random order; the scores are from before each step."""
        turn_sum_BK, z_B = torch.zeros(B, K), torch.zeros(B)
        order_P = torch.randperm(P, generator=self.generator)
        row_PG = torch.arange(B).view(P, G)[order_P]
        for rows in row_PG.view(-1, PRM_MINI_BATCH).unbind():
            part = played.rows(rows)
            logp_BT, z_B[rows] = self._step(part)
            turn_sum_BK[rows] = self._turn_sums(logp_BT, part)
        return turn_sum_BK, z_B

    def _replay(self) -> None:
        memory = Played(
            torch.cat([played.token_BT for played in self.kept]),
            torch.cat([played.logp_behaviour_BT for played in self.kept]),
            torch.cat([played.is_right_BK for played in self.kept]),
            torch.cat([played.outcome_B for played in self.kept]),
        )
        for _ in range(self.settings.replay_steps):
            rows = torch.randperm(len(memory.outcome_B), generator=self.generator)
            self._step(memory.rows(rows[:REPLAY_MINI_BATCH]))

    def _step(self, played: Played) -> tuple[Tensor, Tensor]:
        """One optimizer step. Returns logp_BT and z_B from before it."""
        logp_BT = self.model.logp(played.token_BT)
        z_B = implicit_prm_logits(
            logp_BT,
            torch.full_like(logp_BT, LOGP_UNIFORM),
            played.turn_of_token_BT,
            beta=self.settings.beta,
            bias=self.bias,
        )
        loss_B = implicit_prm_bce(z_B, played.outcome_B, torch.ones_like(z_B, dtype=torch.bool))
        step(self.optimizer, loss_B.mean(), max_grad_norm=10.0)
        return logp_BT.detach(), z_B.detach()

    def _turn_sums(self, logp_BT: Tensor, played: Played) -> Tensor:
        reward_BT = self.settings.beta * (logp_BT - LOGP_UNIFORM)
        return turn_sum(reward_BT, played.turn_of_token_BT, K)


def step(optimizer: torch.optim.Optimizer, loss: Tensor, *, max_grad_norm: float) -> None:
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    optimizer.step()


def improve(
    policy: Model,
    optimizer: torch.optim.Optimizer,
    played: Played,
    advantage_BK: Tensor,
    generator: torch.Generator,
) -> None:
    """Two clipped steps on mini-batches of whole groups."""
    written_BT = played.turn_of_token_BT >= 0
    advantage_BT = spread_to_tokens(advantage_BK, played.turn_of_token_BT)
    advantage_BT = scale_by_rms(advantage_BT, written_BT)
    row_PG = torch.arange(B).view(P, G)[torch.randperm(P, generator=generator)]
    for rows in row_PG.view(POLICY_MINI_BATCHES, -1).unbind():
        divisor = loss_divisor(written_BT[rows].sum(dim=1), kind="tokens")
        loss = policy_objective(
            policy.logp(played.token_BT[rows]),
            played.logp_behaviour_BT[rows],
            advantage_BT[rows],
            loss_weights(written_BT[rows], kind="tokens", divisor=divisor),
            clip=ClipRange(),
            dual_clip=3.0,
        )
        step(optimizer, loss, max_grad_norm=1.0)


def learning_curve(method: Method, seed: int, *, steps: int = STEPS) -> Iterator[float]:
    """Share of right answers among the dialogues of each iteration."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    permutation = torch.randperm(NUM_CUES, generator=generator)
    policy = Model()
    # Its own generator: where the gate stays closed, the dialogues are those of `trajectory`.
    own_generator = torch.Generator().manual_seed(10_000 + seed)
    reward_model = RewardModel(policy, method.prm, own_generator) if method.prm else None
    optimizer = torch.optim.Adam(policy.parameters(), lr=POLICY_RATE, fused=True)
    nothing_BK, no_turns = torch.zeros(B, K), fit_turn_calibration(JudgedTurns.none(), bias=0.0)
    for _ in range(steps):
        cue_PK = torch.randint(0, NUM_CUES, (P, K), generator=generator)
        token_BT, logp_BT = play(policy, cue_PK.repeat_interleave(G, dim=0), generator)
        is_right_BK = right_answers(token_BT, permutation)
        share_B = is_right_BK.float().mean(dim=1)
        outcome_B = (torch.rand(B, generator=generator) < share_B).float()
        played = Played(token_BT, logp_BT, is_right_BK, outcome_B)
        evidence = (
            reward_model.learn(played)
            if reward_model
            else Evidence(played, nothing_BK, nothing_BK, 0.0, no_turns, 0.0)
        )
        improve(policy, optimizer, played, method.advantage(evidence), generator)
        yield float(share_B.mean())


if __name__ == "__main__":
    torch.set_num_threads(1)
    for share in learning_curve(METHODS[sys.argv[1]], int(sys.argv[2])):
        sys.stdout.write(f"{share:.3f}\n")
