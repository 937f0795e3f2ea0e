"""Runs small enough for a table: settings, learners, and dialogues that were played."""

import asyncio
from collections.abc import Mapping

from torch import Tensor

from tests.rollouts.toy import answers, backend, stage
from turnwise.backends import AdapterSpec, Backend
from turnwise.backends.fake import FakeBackend, FakeLearner
from turnwise.backends.protocol import StepStats
from turnwise.conversation import Conversation, Trajectory
from turnwise.evaluation import evaluate, summary
from turnwise.judges import RuleJudge
from turnwise.records import RunFolder
from turnwise.rollouts import Stage, play
from turnwise.tasks import Scenario
from turnwise.tokens import turn_batch
from turnwise.training.config import RunConfig
from turnwise.training.critic import build_critic
from turnwise.training.evidence import group_index, outcomes
from turnwise.training.judging import Jury
from turnwise.training.learners import Learners, pass_limits
from turnwise.training.loop import train_loop
from turnwise.training.observer import Observer, Silent
from turnwise.training.presets import resolved
from turnwise.training.prm import ImplicitPrm, Judged
from turnwise.training.step import StepResult, plans, training_step
from turnwise.training.terms import credit_names, needs_critic, needs_prm

SMALL: dict[str, dict[str, object]] = {
    "task": {"name": "yes", "preset": "plain"},
    "rollout": {"max_turn_tokens": 3, "max_conversation_tokens": 40},
    "prm": {"learning_rate": 0.05, "beta": 0.5, "mini_batch": 8},
    "train": {
        "num_problems": 4,
        "num_generations": 4,
        "learning_rate": 0.1,
        "max_steps": 6,
        "save_steps": 1,
        "save_trajectories_steps": 3,
        "per_device_train_batch_size": 5,
    },
    "eval": {"num_scenarios": 6, "every": 3},
}


def settings(changes: Mapping[str, object] = {}, seed: int = 0) -> RunConfig:
    """The small run's settings, changed by dotted keys, resolved."""
    table: dict[str, dict[str, object]] = {name: dict(values) for name, values in SMALL.items()}
    for key, value in changes.items():
        section, name = key.split(".")
        table.setdefault(section, {})[name] = value
    return resolved(RunConfig.model_validate({"seed": seed, **table}))


def learners(config: RunConfig, on: Backend | None = None) -> Learners:
    """Policy, reference and what else the method needs, on one base; by default tables."""
    on = on or backend(config.seed)
    spec = AdapterSpec(full_weights=True, max_grad_norm=config.train.max_grad_norm)
    policy = on.create("policy", spec)
    prm = None
    if needs_prm(config):
        learner = on.create("prm", AdapterSpec(max_grad_norm=config.prm.max_grad_norm))
        prm = ImplicitPrm(learner, config.prm, config.seed, pass_limits(config))
    return Learners(
        policy,
        on.reference(),
        prm,
        policy.publish(),
        critic=build_critic(on, config.critic, spec, pass_limits(config), config.seed)
        if needs_critic(config)
        else None,
        judge=Jury(lambda trajectory: RuleJudge(yes_or_less))
        if "judge" in credit_names(config.method)
        else None,
        capabilities=on.capabilities,
        ways=on.ways,
    )


def yes_or_less(conversation: Conversation) -> list[float]:
    """A judge's rule: "yes" is worth three times anything else."""
    return [3.0 if text == "yes" else 1.0 for text in answers(conversation)]


class Recording(FakeLearner):
    """A table that remembers the gradient of each of its optimizer steps."""

    def __init__(self, on: FakeBackend, role: str, spec: AdapterSpec) -> None:
        super().__init__(on, role, spec)
        self.gradients: list[Tensor] = []

    def optim_step(self, learning_rate: float) -> StepStats:
        gradient = self._parameter.grad
        assert gradient is not None
        self.gradients.append(gradient.clone())
        return super().optim_step(learning_rate)


def stepped(
    config: RunConfig,
    of: Learners | None = None,
    step: int = 1,
    on: Stage[Scenario] | None = None,
) -> StepResult:
    """One training step."""
    return asyncio.run(training_step(on or stage(), of or learners(config), config, step))


def dialogues(config: RunConfig, step: int = 1) -> list[Trajectory]:
    """A step's dialogues by the start policy; nothing is learnt."""
    policy = backend(config.seed).create("policy", AdapterSpec()).publish()
    return asyncio.run(play(stage(), policy, plans(config, step)))[0]


def judged(config: RunConfig, step: int = 1) -> Judged:
    """The same as the reward model sees them."""
    played = dialogues(config, step)
    batch = turn_batch(played)
    logp_reference_BT = backend(config.seed).reference().logp(batch)
    return Judged(batch, logp_reference_BT, outcomes(played), group_index(played))


def looped(
    config: RunConfig,
    folder: RunFolder,
    *,
    on: Stage[Scenario] | None = None,
    observer: Observer | None = None,
    of: Learners | None = None,
) -> Learners:
    """The loop with held-out evaluations, from the folder's newest checkpoint if it has one."""
    of, on = of or learners(config), on or stage()

    async def examine(now: Learners, step: int) -> Mapping[str, float]:
        played = await evaluate(
            stage(), now.sampler, num_scenarios=config.eval.num_scenarios, policy_version=step
        )
        return summary(played)

    asyncio.run(train_loop(on, of, config, folder, evaluate=examine, observer=observer or Silent()))
    return of
