"""AdamW over named weights: clipping, float32 masters of half-precision weights, exact state."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from turnwise.backends.protocol import AdapterSpec, StepStats
from turnwise.errors import EmptyStepError, TrainingError

STATE_KEYS = ("step", "exp_avg", "exp_avg_sq")


class WeightOptimizer:
    """Steps the weights of one learner.

    Half-precision weights get float32 masters: gradients are added up and steps are taken there,
    and the weights are rounded copies.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], spec: AdapterSpec) -> None:
        self.parameters = dict(parameters)
        self.max_grad_norm = spec.max_grad_norm
        self.masters = {
            name: parameter if parameter.dtype == torch.float32 else self._master_of(parameter)
            for name, parameter in self.parameters.items()
        }
        self.adamw = torch.optim.AdamW(
            self.masters.values(),
            lr=0.0,  # given to each step
            betas=(spec.beta1, spec.beta2),
            weight_decay=spec.weight_decay,
            fused=all(master.device.type in ("cpu", "cuda") for master in self.masters.values()),
        )

    @staticmethod
    def _master_of(parameter: nn.Parameter) -> nn.Parameter:
        master = nn.Parameter(parameter.detach().float().clone())

        def add_up(half: Tensor) -> None:
            if half.grad is not None:
                gradient = half.grad.float()
                master.grad = gradient if master.grad is None else master.grad + gradient
                half.grad = None

        parameter.register_post_accumulate_grad_hook(add_up)
        return master

    def step(self, learning_rate: float) -> StepStats:
        """Clip by the global norm, step, and drop the gradients.

        Raises EmptyStepError without any gradient, TrainingError for one that is not finite; the
        weights are unchanged then and the gradients are gone.
        """
        masters = [master for master in self.masters.values() if master.grad is not None]
        if not masters:
            raise EmptyStepError("expected a gradient from forward_backward before optim_step")
        grad_norm = nn.utils.clip_grad_norm_(masters, self.max_grad_norm).item()
        if grad_norm != grad_norm or grad_norm == float("inf"):
            self.adamw.zero_grad(set_to_none=True)
            raise TrainingError(
                f"expected a finite gradient, found norm {grad_norm}; the step was not taken: "
                "lower the learning rate or look for log-probabilities that are not finite"
            )
        for group in self.adamw.param_groups:
            group["lr"] = learning_rate
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)
        self._round_weights()
        return StepStats(grad_norm=grad_norm)

    @torch.no_grad()
    def _round_weights(self) -> None:
        for name, parameter in self.parameters.items():
            if self.masters[name] is not parameter:
                parameter.copy_(self.masters[name])

    def state_tensors(self) -> dict[str, Tensor]:
        """Everything a later step depends on beside the weights, by name."""
        out: dict[str, Tensor] = {}
        for name, master in self.masters.items():
            for key in STATE_KEYS:
                if key in self.adamw.state[master]:
                    out[f"{name}|{key}"] = self.adamw.state[master][key]
            if master is not self.parameters[name]:
                out[f"{name}|master"] = master.detach()
        return out

    def misfit(self, tensors: Mapping[str, Tensor]) -> str | None:
        """What keeps this state from being loaded; None if nothing does."""
        keys = (*STATE_KEYS, "master")
        known = {f"{name}|{key}": master for name, master in self.masters.items() for key in keys}
        for name, tensor in tensors.items():
            if name not in known:
                return f"the optimizer state holds {name}, unknown to this learner"
            if not name.endswith("|step") and tensor.shape != known[name].shape:
                return f"the optimizer state {name} has shape {tuple(tensor.shape)}"
        return None

    def load_state_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """The state that `state_tensors` gave; `misfit` tells whether it is of these weights."""
        self.adamw.zero_grad(set_to_none=True)
        for name, master in self.masters.items():
            if f"{name}|master" in tensors:
                master.data.copy_(tensors[f"{name}|master"])
            self.adamw.state[master] = {
                key: tensors[f"{name}|{key}"].to(master.device, copy=True)
                for key in STATE_KEYS
                if f"{name}|{key}" in tensors
            }
