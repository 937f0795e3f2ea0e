"""LoRA adapters on one shared base: which is active, whose weights are whose, snapshots.

PEFT switches adapters module by module and freezes the ones it leaves; here the base has one
switch, `use`, and a learner's weights are turned back on whenever it trains.
"""

import copy

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from turnwise.backends.protocol import AdapterSpec
from turnwise.backends.storage import copy_into
from turnwise.errors import ModelError


class AdapterBank:
    """The base model of a backend and every adapter on it."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self._tuner: LoraModel | None = None
        self._layers: dict[str, BaseTunerLayer] = {}  # by the name of the module they wrap
        self._active: str | None = None

    def add(self, name: str, spec: AdapterSpec) -> LoraConfig:
        """A new adapter on every linear layer but the head. It starts equal to the base.

        Raises ModelError if the model has no linear layer to adapt.
        """
        config = LoraConfig(
            r=spec.rank,
            lora_alpha=spec.alpha,  # type: ignore[arg-type]  # any number; PEFT divides by the rank
            lora_dropout=0.0,
            target_modules=sorted(self._targets()),
            fan_in_fan_out=any(isinstance(module, Conv1D) for module in self.model.modules()),
            task_type="CAUSAL_LM",
            base_model_name_or_path=self.model.name_or_path or None,
        )
        with torch.random.fork_rng(_cuda_devices(self.model)):
            torch.manual_seed(spec.seed)  # PEFT draws the A matrices from the global generator
            if self._tuner is None:
                self._tuner = LoraModel(self.model, config, name)
            else:
                self._tuner.peft_config[name] = config
                self._tuner.inject_adapter(self.model, name)
        self._layers = {
            module_name: module
            for module_name, module in self.model.named_modules()
            if isinstance(module, BaseTunerLayer)
        }
        for parameter in self.parameters(name).values():
            parameter.data = parameter.data.float()  # small, and bf16 would swallow small steps
        self._active = None  # injection leaves PEFT's own idea of what is active
        self._switch(None)
        return config

    def _targets(self) -> set[str]:
        head = self.model.get_output_embeddings()
        names = {
            name.removesuffix(".base_layer").rsplit(".", 1)[-1]
            for name, module in self.model.named_modules()
            if isinstance(module, (nn.Linear, Conv1D))
            and module is not head
            and "lora_" not in name
        }
        if not names:
            raise ModelError(
                f"{type(self.model).__name__} has no linear layer for a LoRA adapter; "
                "train full weights instead"
            )
        return names

    def parameters(self, name: str) -> dict[str, nn.Parameter]:
        """The adapter's weights by their name in PEFT's file format."""
        marker = f".{name}."
        return {
            f"base_model.model.{parameter_name.replace(marker, '.')}": parameter
            for parameter_name, parameter in self.model.named_parameters()
            if "lora_" in parameter_name and marker in parameter_name
        }

    def use(self, name: str | None, *, training: bool = False) -> None:
        """Make one adapter act, or none (the reference); turn its gradients on for training."""
        if name != self._active:
            self._switch(name)
        if name is not None and training:
            for parameter in self.parameters(name).values():
                parameter.requires_grad_(True)

    def _switch(self, name: str | None) -> None:
        for layer in self._layers.values():
            if name is None:
                layer.enable_adapters(False)
            else:
                layer.enable_adapters(True)
                layer.set_adapter([name])
        self._active = name

    def copy_adapter(self, name: str, to: str, spec: AdapterSpec) -> None:
        """A frozen second adapter with the weights that `name` has now."""
        self.add(to, spec)
        copy_into(self.parameters(to), self.parameters(name))

    def remove(self, name: str) -> None:
        """Forget an adapter and free its memory."""
        if self._tuner is not None:
            self._tuner.delete_adapter(name)
            self._active = "?"  # whatever PEFT chose instead: the next `use` switches
            self.use(None)

    def plain_copy(self, merged: str | None = None) -> PreTrainedModel:
        """A model of its own without any adapter layer, one adapter folded into its weights."""
        twin = copy.deepcopy(self.model)
        layers = {
            name: module
            for name, module in twin.named_modules()
            if isinstance(module, BaseTunerLayer)
        }
        for name, layer in layers.items():
            if merged is not None:
                layer.merge(adapter_names=[merged])
            base_layer = layer.get_base_layer()
            twin.set_submodule(name, base_layer)
        if hasattr(twin, "peft_config"):
            del twin.peft_config
        return twin


def _cuda_devices(model: PreTrainedModel) -> list[torch.device]:
    return [model.device] if model.device.type == "cuda" else []
