"""What `turnwise iterate` and `turnwise q` are told: pydantic models that forbid unknown keys.

Names of choices follow the method page of Iterative PPO; TRL's field names where they mean the
same.
"""

from typing import Annotated, Literal

from pydantic import Field

from turnwise.training.config import (
    Count,
    JudgeConfig,
    ModelConfig,
    NotNegative,
    Positive,
    RolloutConfig,
    Section,
    Share,
    TaskConfig,
    WarmStartConfig,
)

PresetName = Literal["default", "paper", "iterative-grpo", "public-code"]
WholeNumber = Annotated[int, Field(ge=0)]


class LogsConfig(Section):
    """Logged conversations as the world; canonical Parquet files that `turnwise logs import` wrote.

    Round k reads the files of `rounds[k]` and pools them with those of earlier rounds.
    """

    rounds: list[list[str]] = Field(
        default_factory=list, description="canonical Parquet files of each round, round 0 first"
    )
    version: str = Field(
        "", description="policy version that round 0's logs are of; empty = whoever wrote them"
    )


class CollectConfig(Section):
    """How a task stands in for the world."""

    conversations: Count = Field(2000, description="played in each round")
    explore: Literal["none", "temperature"] = Field(
        "none", description="temperature: one step of each conversation deviates"
    )
    explore_temperature: Positive = Field(1.5, description="of the deviating step")
    max_censored: Share = Field(0.5, description="share of censored conversations that is refused")


class QConfig(Section):
    """The Q-function: what it is fitted to and how."""

    head: Literal["auto", "scalar", "verdict"] = Field(
        "auto", description="auto = scalar where the backend has value heads"
    )
    loss: Literal["bce", "mse", "hl-gauss"] = "bce"
    return_low: float = Field(0.0, description="the lowest return there can be")
    return_high: float = Field(1.0, description="the highest return there can be")
    num_heads: Count = Field(3, description="E; 1 = no ensemble")
    pessimism: NotNegative = Field(0.0, description="κ: reward = mean − κ·std over the heads")
    end_weight: Share = Field(0.9, description="share of a reply's loss on its end token")
    num_bins: Annotated[int, Field(ge=21, le=255)] = Field(51, description="of hl-gauss")
    bin_sigmas: Positive = Field(0.75, description="σ of hl-gauss, in bins")
    targets: Literal["auto", "mc", "fqe"] = "auto"
    fqe_samples: Count = Field(2, description="M: replies of the policy at each next state")
    fqe_sweeps: Count = 6
    fqe_tolerance: NotNegative = 0.005
    learning_rate: Positive = 1e-4
    num_epochs: Count = 3
    batch_size: Count = Field(32, description="conversations of an optimizer step")
    early_stop_share: Share = Field(0.1, description="of a fold's own customers")
    start: Literal["previous", "fresh"] = "previous"
    pool: Literal["pooled", "drop"] = Field("pooled", description="conversations of earlier rounds")
    age_weight: Share = Field(0.5, description="per round of age, where old data meet Monte Carlo")
    full_weights: bool = False
    lora_rank: Count = 16
    lora_alpha: Positive = 32.0
    max_grad_norm: Positive = 1.0
    verdict_question: str = "\nDid the assistant reach the goal of this conversation? Answer:"
    verdict_yes: str = " yes"
    verdict_no: str = " no"


class GateConfig(Section):
    """What a Q-function must show before a policy is moved by it."""

    mode: Literal["hard", "warn"] = Field("hard", description="warn: for studies; marks ungated")
    min_customers: Count = Field(30, description="per fold")
    min_rarer: Count = Field(20, description="conversations of the rarer outcome, per fold")
    max_ece: Share = 0.05
    refuse_ece: Share = 0.15
    num_bootstrap: Count = 2000
    judge: Literal["self", "endpoint", "none"] = Field(
        "self", description="self: the policy's base is asked; endpoint: the section [judge]"
    )
    coverage_prompts: Count = 256
    leakage: Share = Field(0.3, description="largest partial correlation of Q − V with style")


class ImproveConfig(Section):
    """The single-turn improvement step."""

    estimator: Literal["rloo", "grpo", "ppo"] = "rloo"
    num_prompts: Count = Field(32, description="prompts of an update")
    num_generations: Count = Field(8, description="replies of each prompt (n)")
    learning_rate: Positive = 1e-5
    max_steps: WholeNumber = 200
    epsilon: Positive = 0.2
    max_grad_norm: Positive = 1.0
    kl_direction: Literal["reverse", "forward"] = "reverse"
    kl_estimator: Literal["reward", "k3-loss"] = Field(
        "reward", description="k3-loss has the forward KL's gradient"
    )
    kl_budget: NotNegative | Literal["auto"] = Field(
        "auto", description="nats per reply; auto = min(0.02 × mean reply tokens, cap)"
    )
    kl_cap: Positive = Field(5.0, description="nats per reply")
    beta: Positive | Literal["auto"] = Field("auto", description="fixed β; auto = controlled")
    max_total_kl: NotNegative = Field(0.0, description="KL(π_k ‖ π_0) that ends the loop; 0 = off")
    reward_space: Literal["probability", "logit"] = "probability"
    scale_rewards: Literal["round", "none", "group"] = Field(
        "round", description="group divides by each prompt's own spread, and warns"
    )
    prompt_weight: Literal["discount", "per_conversation"] = "discount"
    scale_prompts: Count = Field(256, description="prompts on which the scale is measured")
    check_every: Count = Field(10, description="updates between checks for over-optimisation")
    check_prompts: Count = 256
    patience: Count = Field(3, description="checks without a better gain under the other Q")
    max_truncated: Share = 0.1
    reference: Literal["round", "initial"] = Field(
        "round", description="initial: for studies; not monotone, and says so"
    )


class PreviewConfig(Section):
    """The gain to be had without training: best of n under Q."""

    num_prompts: Count = 256
    num_generations: Count = 8


class ConfirmConfig(Section):
    """Is the new policy better? Paired scenarios of the task, or the logs of two arms."""

    scenarios: Count = Field(512, description="of the task, paired")
    lift: Positive = Field(0.05, description="difference that the plan must be able to see")
    alpha: Share = 0.05
    power: Share = 0.8
    looks: Count = Field(1, description="declared looks; each spends alpha / looks")
    max_violation: NotNegative = Field(0.05, description="margin by which a violation may rise")


class IterateConfig(Section):
    """Everything `turnwise iterate` is told; `config.toml` in its folder holds it resolved."""

    seed: int = 0
    output_dir: str = "runs/iterate"
    num_threads: WholeNumber = Field(0, description="torch threads; 0 = torch's choice")
    preset: PresetName = "default"
    world: Literal["task", "logs"] = "task"
    rounds: Count = 3
    turn_discount: Share = Field(1.0, description="γ per turn, never per token")
    violation_weight: NotNegative = Field(0.0, description="λ: what a violation costs")
    project_salt: str = Field("turnwise", description="key of the folds; the same in all rounds")
    model: ModelConfig = ModelConfig()
    warm_start: WarmStartConfig = WarmStartConfig()
    task: TaskConfig = TaskConfig(name="sell", preset="medium")
    rollout: RolloutConfig = RolloutConfig()
    logs: LogsConfig = LogsConfig()
    collect: CollectConfig = CollectConfig()
    q: QConfig = QConfig()
    gate: GateConfig = GateConfig()
    judge: JudgeConfig = JudgeConfig()
    preview: PreviewConfig = PreviewConfig()
    improve: ImproveConfig = ImproveConfig()
    confirm: ConfirmConfig = ConfirmConfig()
