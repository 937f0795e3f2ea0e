"""What a run is told: pydantic models that forbid unknown keys.

A config stops at the door: below this room functions take plain arguments. Field names are TRL's
where the meaning is the same.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]

CreditName = Literal["trajectory", "uniform", "random", "prime", "itpo", "itpo-norm", "oracle"]
EstimatorName = Literal["rloo", "grpo", "implicit-value"]
PresetName = Literal["default", "paper", "public-code"]


class Section(BaseModel):
    """Forbids keys it does not know; frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class ModelConfig(Section):
    """The language model and the weights that learn."""

    name: str = Field("tiny", description='"tiny", a model directory or a hub id')
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    full_weights: bool = Field(False, description="train all weights instead of LoRA adapters")
    lora_rank: Count = 16
    lora_alpha: Positive = 32.0
    gradient_checkpointing: bool = False
    hidden_size: Count = Field(192, description="tiny only: width, a multiple of 64")
    num_layers: Count = Field(2, description="tiny only")
    vocab_size: Count = Field(1024, description="tiny only: upper limit of the tokenizer")


class WarmStartConfig(Section):
    """Supervised learning on the task's noisy demonstrations before training; tiny only."""

    demonstrations: Count = 4000
    epochs: Count = 4
    learning_rate: Positive = 3e-3
    batch_size: Count = 16
    seed: int = 0


class TaskConfig(Section):
    """What is played."""

    name: str = "clarify"
    preset: str = "medium"
    knobs: dict[str, bool | int | float | str] = Field(
        default_factory=dict, description="task settings that override the preset's"
    )


class RolloutConfig(Section):
    """How dialogues are played."""

    max_turns: Count | None = Field(None, description="assistant turns; None = the task's own")
    max_turn_tokens: Count = Field(48, description="tokens of one assistant turn")
    max_conversation_tokens: Count = Field(512, description="tokens of the whole dialogue")
    timeout_s: Positive = Field(600.0, description="wall-clock limit of one dialogue")
    temperature: Positive = 1.0
    slots: Count = Field(128, description="dialogues decoded together")


class MethodConfig(Section):
    """Credit × estimator. Defaults are those of preset "default"; a key that is not given takes the
    value of the chosen preset (training/presets.py)."""

    credit: CreditName = "itpo-norm"
    estimator: EstimatorName = "rloo"
    preset: PresetName = "default"
    turn_discount: Share = Field(1.0, description="γ per turn, never per token")
    turn_lambda: Share = Field(0.5, description="λ of implicit-value, under trust")
    logits: Literal["sum", "sum_over_length_power", "mean_times_global_length"] = "sum"
    length_power: Share = Field(0.5, description="α of sum_over_length_power")
    weight_temperature: Positive = Field(1.0, description="η of itpo-norm")
    scale: Literal["none", "batch_std", "max_return"] = "batch_std"
    redistribution: Literal["direct", "to_go"] = "direct"
    blame: Literal["same", "signed"] = Field(
        "signed", description="whom a failed dialogue blames: its best-scored turn, or its worst"
    )
    trust_mix: bool = Field(True, description="an untrusted PRM counts as the trajectory credit")
    baseline: Literal[
        "auto", "redistribute", "loo_turn_index", "loo_total", "own_turn", "masked_rloo"
    ] = Field("auto", description="of rloo; auto = redistribute for weights, else by credit")
    scaling: Literal["rms", "shift"] = "rms"
    scaling_floor: NotNegative = Field(0.1, description="outcome units; of scaling rms")
    calibration: Literal["per_turn", "shared_bias"] = "per_turn"
    value_offset: Literal["group", "none"] = "group"
    length_penalty: NotNegative = Field(4e-5, description="λ: outcome units per token or word")
    penalty_count: Literal["written_tokens", "words_all_messages"] = "written_tokens"
    coef_outcome: float = Field(0.0, description="of the outcome as a second source; masked_rloo")
    coef_prm: float = Field(1.0, description="of the turn rewards; masked_rloo")
    turn_source: Literal["recorded", "mask_runs"] = "recorded"
    drop_last_token: bool = Field(False, description="compatibility: a row's last token earns 0")
    dirichlet_alpha: Positive = Field(1.0, description="α of the random credit")


class PrmConfig(Section):
    """The implicit process reward model. A key that is not given takes the preset's value."""

    beta: Positive = 0.01
    learning_rate: Positive = 2e-5
    bias_learning_rate: Positive = 0.01
    max_grad_norm: Positive = 10.0
    passes: Count = 1
    mini_batch: Count = Field(
        16, description="dialogues of one PRM step; shuffled: whole groups, at least one"
    )
    shuffle: bool = Field(True, description="by whole groups, seeded")
    bias: Literal["learned", "none"] = "learned"
    trust: bool = Field(True, description="False: the gate g is 1 from the start")
    replay: Annotated[int, Field(ge=0)] = Field(8, description="iterations kept; 0 = off")
    replay_steps: Annotated[int, Field(ge=0)] | None = Field(
        None, description="extra optimizer steps of an iteration; not given = two passes' worth"
    )
    scores: Literal["auto", "post", "prequential"] = Field(
        "auto", description="auto = prequential for implicit-value, else post"
    )


class TrainConfig(Section):
    """The loop and the policy's objective."""

    max_steps: Count = 60
    num_problems: Count = Field(16, description="scenarios of a step")
    num_generations: Count = Field(8, description="siblings of each scenario (G)")
    num_mini_batches: Count = Field(1, description="optimizer steps of an iteration")
    learning_rate: Positive = 1e-3
    lr_scheduler_type: Literal["constant", "linear"] = Field(
        "constant", description="linear: falls from learning_rate to 0 over max_steps"
    )
    weight_decay: NotNegative = 0.0
    max_grad_norm: Positive = 1.0
    epsilon: Positive = 0.2
    epsilon_high: Positive = 0.2
    dual_clip: Annotated[float, Field(gt=1)] = 3.0
    beta: NotNegative = Field(0.001, description="KL to the reference, in the loss")
    beta_in_reward: NotNegative = Field(0.0, description="KL in the turn rewards")
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    entropy_coef: NotNegative = 0.001
    divisor: Literal["tokens", "dialogues", "budget", "per_dialogue_mean"] = "tokens"
    rescore_behaviour: bool = Field(
        False, description="score behaviour log-probs again before the update"
    )
    per_device_train_batch_size: Count = Field(32, description="rows of one pass")
    max_tokens_per_pass: Count = 16384
    save_steps: Count = Field(1, description="steps that a kill may lose at most")
    save_trajectories_steps: Count = 10


class EvalConfig(Section):
    """Fixed held-out scenarios, fixed seeds."""

    num_scenarios: Count = 128
    every: Annotated[int, Field(ge=0)] = Field(
        10, description="steps between evaluations; 0 = only start and end"
    )
    temperature: NotNegative = 1.0
    num_samples: Count = Field(1, description="dialogues of each scenario")


class RunConfig(Section):
    """Everything a run is told; `config.toml` in its folder holds it resolved."""

    seed: int = 0
    output_dir: str = "runs/clarify"
    num_threads: Annotated[int, Field(ge=0)] = Field(
        0, description="torch threads; 0 = torch's choice"
    )
    model: ModelConfig = ModelConfig()
    warm_start: WarmStartConfig = WarmStartConfig()
    task: TaskConfig = TaskConfig()
    rollout: RolloutConfig = RolloutConfig()
    method: MethodConfig = MethodConfig()
    prm: PrmConfig = PrmConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
