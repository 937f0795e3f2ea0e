"""The models of a run: one base, and what learns on it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from turnwise.backends.protocol import Capabilities, Learner, Sampler, Scorer
from turnwise.training.config import RunConfig
from turnwise.training.critic import ValueCritic
from turnwise.training.judging import Jury
from turnwise.training.prm import ImplicitPrm, PassLimits


@dataclass
class Learners:
    """What a step works with; `sampler` is replaced when the policy has moved."""

    policy: Learner
    reference: Scorer
    prm: ImplicitPrm | None
    sampler: Sampler  # of the policy as last published
    critic: ValueCritic | None = None
    judge: Jury | None = None
    capabilities: Capabilities = Capabilities()  # of the backend
    ways: Mapping[str, int] = field(default_factory=dict)  # how it read rows with branches


def needs_kl(config: RunConfig) -> bool:
    """Whether leaving the reference costs something, in the loss or in the turn rewards."""
    return config.train.beta > 0 or config.train.beta_in_reward > 0


def pass_limits(config: RunConfig) -> PassLimits:
    """How much of a step goes through a model at once."""
    return PassLimits(config.train.per_device_train_batch_size, config.train.max_tokens_per_pass)
