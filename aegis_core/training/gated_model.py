"""A causal language model with the gate between its final norm and its head."""

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..data.packed import IGNORED
from ..failures import UserError
from ..plan import LoraPlan, SoulPlan
from ..soul.gate import Gate
from .loss import next_token_loss


class GatedModel(nn.Module):
    """logits = head(gate(decoder(ids))); only adapter and rotation learn.

    `model` is a transformers causal LM, bare or wrapped by peft. Raises UserError if its head has a bias, since the
    gate could not be folded into it.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, gate: Gate) -> None:
        super().__init__()
        self.model = model
        self.gate = gate.to(model.device)
        if self.head.bias is not None:
            raise UserError(
                "This model's LM head has a bias, which the gate cannot be folded into.", "Choose another model."
            )

    @property
    def causal(self) -> PreTrainedModel:
        causal = self.model.get_base_model() if isinstance(self.model, PeftModel) else self.model
        assert isinstance(causal, PreTrainedModel)
        return causal

    @property
    def head(self) -> nn.Linear:
        return self.causal.get_output_embeddings()

    def hidden(self, input_ids: Tensor) -> Tensor:
        """Gated hidden states: input_ids (B, T) -> (B, T, H), to be multiplied with the head."""
        states = self.causal.get_decoder()(input_ids=input_ids, use_cache=False).last_hidden_state
        gated: Tensor = self.gate(states)
        return gated

    def logits(self, input_ids: Tensor) -> Tensor:
        """input_ids (B, T) -> (B, T, V)."""
        logits: Tensor = self.head(self.hidden(input_ids.to(self.model.device)))
        return logits

    def forward(self, input_ids: Tensor, labels: Tensor, num_items_in_batch: Tensor | None = None) -> dict[str, Tensor]:
        """Mean loss in nats over `num_items_in_batch` counted tokens (default: those of this batch)."""
        summed = next_token_loss(self.hidden(input_ids), self.head.weight, labels)
        n_counted = (labels[:, 1:] != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        return {"loss": summed / n_counted}


def add_adapter(model: PreTrainedModel, lora: LoraPlan) -> PeftModel:
    """LoRA on every linear layer of the decoder's blocks; UserError if there is none."""
    targets = linear_layers(model)
    if not targets:
        raise UserError(
            "No layer of this model can take a LoRA adapter.",
            "Choose a model such as Phi-3, Llama, Mistral, Qwen or Gemma.",
        )
    config = LoraConfig(
        r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def linear_layers(model: PreTrainedModel) -> list[str]:
    """Last names of the linear layers in the decoder's blocks, e.g. qkv_proj, o_proj, gate_up_proj, down_proj."""
    names = {
        name.rpartition(".")[2]
        for name, module in model.get_decoder().named_modules()
        if isinstance(module, nn.Linear) and ".layers." in f".{name}."
    }
    return sorted(names)


def gated_for_training(base: PreTrainedModel, lora: LoraPlan, soul: SoulPlan, seed: int) -> GatedModel:
    """A fresh adapter and an identity rotation on `base`, the same for the same seed."""
    torch.manual_seed(seed)
    gate = Gate(base.config.get_text_config().hidden_size, calibrate=soul.calibrate, alpha=soul.alpha_start)
    return GatedModel(add_adapter(base, lora), gate)
