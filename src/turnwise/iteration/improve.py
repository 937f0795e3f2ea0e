"""The improvement phase: a policy is moved towards what Q_A prefers, one turn at a time.

Everything is drawn with keys of (seed, round, update, …): the phase begun again gives the same
numbers. Axes: `S` fixed prompts, `G` replies of each.

Source: Jiang et al., arXiv:2511.21638, the improvement step; KL control, checks and stop rules are
heuristics of this library (`turnwise.qvalues`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from turnwise.backends.protocol import Learner, Sampler, Scorer
from turnwise.errors import (
    LogProbError,
    SpeakerError,
    TokensError,
    TrainingError,
)
from turnwise.iteration.certificate import Certificate, certificate
from turnwise.iteration.config import ImproveConfig
from turnwise.iteration.episodes import Prompt
from turnwise.iteration.improve_start import Setting, Start, check, frozen_scale, measured
from turnwise.iteration.improve_step import (
    RewardRule,
    compared,
    divergence,
    flat_share,
    move_policy,
    reply_advantages,
)
from turnwise.iteration.preview import shortfall
from turnwise.iteration.q_model import QModel
from turnwise.iteration.replies import draw_prompts, values_of
from turnwise.qvalues import (
    Gains,
    StopRules,
    best_gains,
    first_beta,
    has_stalled,
    kl_budget,
    next_beta,
    stop_reason,
)
from turnwise.records import append_metrics, replace_folder_atomically
from turnwise.tokens import ChatFormat
from turnwise.training.observer import Observer
from turnwise.training.prm import PassLimits

_LIMITS = PassLimits()
_CHECK_REPLIES = 2  # of each fixed prompt in a check


@dataclass(frozen=True)
class Improvement:
    """What came of it. Gains are in return units, KL in nats per reply."""

    reason: str  # why it ended
    num_updates: int
    best_update: int  # the policy that was kept; 0: π_k itself
    gain_a: float  # of the kept policy by Q_A, which flatters
    gain_b: float  # by Q_B, which was only watched
    kl: float  # of the kept policy from π_k
    budget: float
    budget_share: float  # what it is of the configured budget: less than was asked at the cap
    scale: float  # std of Q_A − V_A over π_k's replies, frozen
    beta: float  # for the scaled reward, in the kept policy's last update
    truncated: float  # share of the kept policy's replies without an end token
    shortfall: float  # δ: best of n at equal KL minus gain_a
    certificate: Certificate | None  # None: its theorem is about another penalty or reward
    notes: tuple[str, ...]

    @property
    def has_moved(self) -> bool:
        return self.best_update > 0


def improve(
    policy: Learner,
    reference: Scorer,
    q_a: QModel,
    q_b: QModel,
    prompts: Sequence[Prompt],
    config: ImproveConfig,
    *,
    chat: ChatFormat,
    max_turn_tokens: int,
    seed: int,
    round: int,
    folder: Path,
    return_range: tuple[float, float] = (0.0, 1.0),
    pessimism: float = 0.0,
    budget_share: float = 1.0,
    logged_spread: float | None = None,
    limits: PassLimits = _LIMITS,
    observer: Observer,
) -> Improvement:
    """Moves the policy until a stop rule fires; it ends as the one with the best gain by Q_B.

    policy: starts as π_k. reference: π_k, frozen. prompts: of both folds; those of fold A, which
    Q_B did not train on, are watched. folder: gets `policy/` (the best so far, always whole) and
    `metrics.jsonl`. pessimism: κ. budget_share: what the KL budget is multiplied by. logged_spread:
    mean head spread of Q_A on logged replies; None: that on π_k's own.
    Raises FlatRewardError if Q tells no reply from another; TrainingError naming update and
    conversation for a number that is not finite; GroupError, CapabilityError, LogsError.
    """
    low, high = return_range
    rule = RewardRule(config, low, high, pessimism)
    given = Setting(
        policy, reference, q_a, q_b, prompts, config, rule, chat.stop_id, max_turn_tokens, seed,
        round, folder, limits, observer,
    )  # fmt: skip
    (folder / "metrics.jsonl").unlink(missing_ok=True)
    replace_folder_atomically(folder / "policy", policy.save)
    sampler = policy.publish()
    if config.kl_budget == 0 or budget_share == 0:
        return _unmoved("the KL budget is 0: the policy stays what it is", budget_share)
    check(given)
    start = measured(given, sampler)
    asked = None if config.kl_budget == "auto" else config.kl_budget
    wanted, budget = (
        kl_budget(asked, mean_tokens=start.replies.mean_tokens, share=budget_share, cap=cap)
        for cap in (math.inf, config.kl_cap)
    )
    scale, reward_std = frozen_scale(given, start)
    given = replace(given, rule=replace(rule, scale=scale))
    climb = _Climb(given, start, sampler, budget, reward_std, logged_spread)
    return replace(climb.run(), budget_share=budget_share * budget / wanted)


def _unmoved(reason: str, budget_share: float) -> Improvement:
    return Improvement(
        reason=reason, num_updates=0, best_update=0, gain_a=0.0, gain_b=0.0, kl=0.0, budget=0.0,
        budget_share=budget_share, scale=0.0, beta=0.0, truncated=0.0, shortfall=0.0,
        certificate=None, notes=(),
    )  # fmt: skip


class _Climb:
    """The updates, and what is known of them so far."""

    def __init__(
        self,
        given: Setting,
        start: Start,
        sampler: Sampler,
        budget: float,
        reward_std: float,
        logged_spread: float | None,
    ) -> None:
        self._given, self._start, self._sampler = given, start, sampler
        own_spread = float(start.a.spread_BK.mean())
        self._rules = StopRules(
            patience=given.config.patience,
            max_truncated=given.config.max_truncated,
            budget=budget,
            logged_spread=own_spread if logged_spread is None else logged_spread,
        )
        beta = given.config.beta
        std = 1.0 if given.config.scale_rewards == "group" else reward_std
        self._beta = first_beta(budget, reward_std=std) if beta == "auto" else beta
        self._kept_beta = self._beta
        truncated = start.replies.truncated_share
        self._checks = [Gains(0, 0.0, 0.0, 0.0, own_spread, truncated)]

    def run(self) -> Improvement:
        """Updates until a stop rule fires; the policy is the best one then."""
        config, update = self._given.config, 0
        reason = stop_reason(self._checks, self._rules)
        self._given.observer.phase("improve", config.max_steps)
        while reason is None and update < config.max_steps:
            update += 1
            kl = self._update(update)
            is_due = update % config.check_every == 0 or update == config.max_steps
            if is_due:
                reason = self._check(update)
            if config.beta == "auto":
                is_stalled = is_due and has_stalled(self._checks)
                self._beta = next_beta(self._beta, kl, self._rules.budget, is_stalled=is_stalled)
        if best_gains(self._checks).update < update:
            self._given.policy.load(self._given.folder / "policy")
        return self._result(reason or f"max_steps = {config.max_steps}", update)

    def _update(self, update: int) -> float:
        """One optimizer step. Returns the KL of the policy before it, nats per reply."""
        given = self._given
        key = (given.seed, given.round, update)
        prompts = draw_prompts(given.prompts, given.config.num_prompts, key)
        try:
            kl, row = self._moved(update, prompts)
        except (LogProbError, SpeakerError, TokensError, TrainingError) as error:
            names = ", ".join(prompt.conversation_id for prompt in prompts[:3])
            raise TrainingError(
                f"update {update}, on prompts of {names}, …: {error}. The policy as it was at the "
                "last check is intact"
            ) from error
        append_metrics(given.folder / "metrics.jsonl", {"step": update, "kind": "train", **row})
        given.observer.advance("improve", reward=row["reward/mean"], kl=kl, beta=self._beta)
        return kl

    def _moved(self, update: int, prompts: Sequence[Prompt]) -> tuple[float, dict[str, float]]:
        given, config = self._given, self._given.config
        replies = given.sample(self._sampler, prompts, config.num_generations, str(update))
        values = values_of(given.q_a, replies, "Q_A")
        scores = compared(given.policy, given.reference, replies)
        advantage_BT = reply_advantages(values, replies, scores, given.rule, beta=self._beta)
        moved = move_policy(
            given.policy, replies, advantage_BT, scores, config, beta=self._beta,
            limits=given.limits,
        )  # fmt: skip
        self._sampler = given.policy.publish()
        reward_B, kl = given.rule.rewards(values, replies), divergence(scores, config)
        return kl, {
            "reward/mean": float(reward_B.mean()),
            "reward/std": float(reward_B.std(unbiased=False)),
            "q/mean": float(values.q_BK.mean()),
            "kl/reply": kl,
            "kl/budget": self._rules.budget,
            "beta": self._beta,
            "group/zero_variance_frac": flat_share(reward_B, replies),
            "replies/truncated_frac": replies.truncated_share,
            "tokens/mean": replies.mean_tokens,
            **moved,
        }

    def _check(self, update: int) -> str | None:
        """Looks at the fixed prompts, keeps the policy if it is the best. Returns why to stop."""
        given, start = self._given, self._start
        prompts = start.prompts[: given.config.check_prompts]
        # The noise of π_k's first replies: the difference of two policies is less noisy so.
        n = min(_CHECK_REPLIES, given.config.num_generations)
        replies = given.sample(self._sampler, prompts, n, "fixed")
        a, b = (values_of(q, replies, name) for q, name in ((given.q_a, "Q_A"), (given.q_b, "Q_B")))
        S = len(prompts)
        gains = Gains(
            update,
            gain_a=float(a.q_BK.mean() - start.a_SG[:S, :n].mean()),
            gain_b=float(b.q_BK.mean() - start.b_SG[:S, :n].mean()),
            kl=divergence(compared(given.policy, given.reference, replies), given.config),
            spread=float(a.spread_BK.mean()),
            truncated=replies.truncated_share,
        )
        self._checks.append(gains)
        if best_gains(self._checks) is gains:
            self._kept_beta = self._beta
            replace_folder_atomically(given.folder / "policy", given.policy.save)
        append_metrics(
            given.folder / "metrics.jsonl",
            {
                "step": update,
                "kind": "check",
                "gain/a": gains.gain_a,
                "gain/b": gains.gain_b,
                "kl/reply": gains.kl,
                "q/spread": gains.spread,
                "replies/truncated_frac": gains.truncated,
            },
        )
        return stop_reason(self._checks, self._rules)

    def _result(self, reason: str, num_updates: int) -> Improvement:
        best, given = best_gains(self._checks), self._given
        notes = []
        if self._rules.logged_spread == 0:
            notes.append("the heads of Q do not differ: no stop rule looked at their spread")
        if best.update == 0:
            notes.append("no check found a gain by the other Q: the policy stays what it was")
        return Improvement(
            reason=reason,
            num_updates=num_updates,
            best_update=best.update,
            gain_a=best.gain_a,
            gain_b=best.gain_b,
            kl=best.kl,
            budget=self._rules.budget,
            budget_share=1.0,
            scale=given.rule.scale,
            beta=self._kept_beta,
            truncated=best.truncated,
            shortfall=shortfall(self._start.a_SG, kl=best.kl, gain=best.gain_a),
            certificate=certificate(given, self._start, beta=self._kept_beta),
            notes=tuple(notes),
        )
