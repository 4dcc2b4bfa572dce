"""A causal language model with the gate between its final norm and its head."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from ..data.packed import IGNORED
from ..failures import UserError
from ..plan import LoraPlan, SoulPlan
from ..soul.gate import Gate
from .lean_dropout import keep_less_of_dropout
from .loss import next_token_loss


class GatedModel(nn.Module):
    """logits = head(gate(decoder(ids))); only adapter and gate learn.

    `model` is a transformers causal LM, bare or wrapped by peft. A gate that is `shut` does nothing and learns
    nothing: that is plain LoRA, the control run. Raises UserError if the head has a bias, since the gate could not be
    folded into it, or if the model has no such inner layer.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, gate: Gate, *, shut: bool = False) -> None:
        super().__init__()
        self.model = model
        self.gate = gate.to(model.device)
        self.shut = shut
        biased = self.head.bias is not None
        if biased:
            raise UserError(
                "This model's LM head has a bias, which the gate cannot be folded into.", "Choose another model."
            )
        self._hooks: list[RemovableHandle] = []
        if shut:
            self.gate.requires_grad_(False)
        else:
            self._hooks = [self._turn_output(int(layer)) for layer in self.gate.inner]

    @property
    def causal(self) -> PreTrainedModel:
        causal = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        assert isinstance(causal, PreTrainedModel)
        return causal

    @property
    def head(self) -> nn.Linear:
        return self.causal.get_output_embeddings()

    @property
    def device(self) -> torch.device:
        return self.model.device

    def hidden(self, input_ids: Tensor) -> Tensor:
        """Gated hidden states: input_ids (B, T) -> (B, T, H), to be multiplied with the head."""
        ids = input_ids.to(self.device)
        states: Tensor = self.causal.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        return self.gated(states)

    def gated(self, states: Tensor) -> Tensor:
        """The final norm's output (…, H) as the head gets it."""
        if self.shut:
            return states
        gated: Tensor = self.gate(states)
        return gated

    def logits(self, input_ids: Tensor) -> Tensor:
        """input_ids (B, T) -> (B, T, V)."""
        logits: Tensor = self.head(self.hidden(input_ids))
        return logits

    def forward(self, input_ids: Tensor, labels: Tensor, num_items_in_batch: Tensor | None = None) -> dict[str, Tensor]:
        """Mean loss in nats over `num_items_in_batch` counted tokens (default: those of this batch)."""
        labels = labels.to(self.device)
        summed = next_token_loss(self.hidden(input_ids), self.head.weight, labels)
        n_counted = (labels[:, 1:] != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        return {"loss": summed / n_counted}

    def save_adapter(self, folder: Path, base_model: str) -> None:
        """Write the adapter into `folder`; the same adapter gives the same bytes in every process."""
        assert isinstance(self.model, PeftModel)
        config: Any = self.model.peft_config["default"]
        config.base_model_name_or_path = base_model
        config.target_modules = sorted(config.target_modules)  # a set has another order in each process
        self.model.save_pretrained(str(folder), save_embedding_layers=False)

    def release(self) -> None:
        """Take adapter and inner rotations out of the base model again, which is then as it was."""
        for hook in self._hooks:
            hook.remove()
        if isinstance(self.model, PeftModel):
            self.model.unload()

    def _turn_output(self, layer: int) -> RemovableHandle:
        layers = self.causal.get_decoder().layers
        if layer >= len(layers):
            raise UserError(
                "There is no layer {layer} for an inner rotation: the model has {n} layers, counted from 0.",
                "Change soul.inner_layers.",
                layer=layer,
                n=len(layers),
            )
        return layers[layer].mlp.down_proj.register_forward_hook(partial(_turned, self.gate, layer))


def _turned(gate: Gate, layer: int, module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return gate.turn(layer, output)


def add_adapter(model: PreTrainedModel, lora: LoraPlan) -> PeftModel:
    """LoRA on the wanted linear layers of the decoder's blocks, by default all; UserError if one matches nothing."""
    present = linear_layers(model)
    if not present:
        raise UserError(
            "No layer of this model can take a LoRA adapter.",
            "Choose a model such as Phi-3, Llama, Mistral, Qwen or Gemma.",
        )
    if unmatched := sorted(set(lora.targets) - set(present)):
        raise UserError(
            "The model has no linear layer named {names}; it has {present}.",
            "Change lora.targets, or leave it empty for all of them.",
            names=", ".join(unmatched),
            present=", ".join(present),
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rank_stabilised,
        use_dora=lora.dora,
        target_modules=sorted(set(lora.targets)) or present,
        task_type="CAUSAL_LM",
    )
    adapted = get_peft_model(model, config)
    keep_less_of_dropout(adapted)
    return adapted


def linear_layers(model: PreTrainedModel) -> list[str]:
    """Last names of the linear layers in the decoder's blocks, e.g. qkv_proj, o_proj, gate_up_proj, down_proj."""
    names = {
        name.rpartition(".")[2]
        for name, module in model.get_decoder().named_modules()
        if isinstance(module, nn.Linear) and ".layers." in f".{name}."
    }
    return sorted(names)


def gated_for_training(
    base: PreTrainedModel, lora: LoraPlan, soul: SoulPlan, seed: int, *, shut: bool = False
) -> GatedModel:
    """A fresh adapter and an identity rotation on `base`; the adapter is the same for the same seed, gate or not."""
    torch.manual_seed(seed)
    gate = Gate(
        base.config.get_text_config().hidden_size,
        calibrate=soul.calibrate,
        alpha=soul.alpha_start,
        learned=soul.alpha == "learned" and not shut,
        train_norm=soul.train_norm and not shut,
        inner_layers=() if shut else sorted(set(soul.inner_layers)),
    )
    return GatedModel(add_adapter(base, lora), gate, shut=shut)
