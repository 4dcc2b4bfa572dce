"""LoRA's dropout keeps less for the backward pass and changes no bit of what is learned."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from aegis_core.training.lean_dropout import DroppedLinear, keep_less_of_dropout

IDS = torch.arange(60).view(2, 30)
SHAPE: dict[str, Any] = {
    "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "use_cache": False,
}  # fmt: skip


def adapted(lean: bool, dtype: torch.dtype = torch.float32, **lora: Any) -> PeftModel:
    torch.manual_seed(0)
    base = LlamaForCausalLM(LlamaConfig(**SHAPE)).to(dtype)
    config = LoraConfig(**({"r": 4, "lora_dropout": 0.1, "target_modules": "all-linear"} | lora), task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # zero at the start, which would hide A's gradient
            torch.nn.init.normal_(parameter, std=0.1)
    if lean:
        keep_less_of_dropout(model)
    return model.train()


def learned(model: PeftModel, autocast: bool = False) -> tuple[float, dict[str, torch.Tensor]]:
    torch.manual_seed(5)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    return loss.item(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype, autocast", [(torch.float32, False), (torch.bfloat16, True), (torch.bfloat16, False)])
def test_loss_gradients_and_answers_are_pefts_to_the_bit(
    dtype: torch.dtype, autocast: bool, checkpointing: bool
) -> None:
    found = []
    for lean in (False, True):
        model = adapted(lean, dtype)
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        loss, gradients = learned(model, autocast)
        found.append((loss, gradients, model.eval()(input_ids=IDS).logits))
    (loss, gradients, answer), (lean_loss, lean_gradients, lean_answer) = found
    assert loss == lean_loss and answer.equal(lean_answer)
    assert gradients.keys() == lean_gradients.keys()
    assert all(gradient.equal(lean_gradients[name]) for name, gradient in gradients.items())
    assert min(gradient.abs().max() for gradient in gradients.values()) > 0


def test_it_keeps_less_for_the_backward_pass() -> None:
    kept = []
    for lean in (False, True):
        storages: dict[int, int] = {}

        def remember(tensor: torch.Tensor, storages: dict[int, int] = storages) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        model = adapted(lean)
        with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
            loss = model(input_ids=IDS).logits.sum()  # held, so that no storage is used twice
        weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
        kept.append(sum(n_bytes for place, n_bytes in storages.items() if place not in weights))
        del loss
    assert kept[1] < 0.75 * kept[0]


def test_adapters_that_compute_otherwise_stay_as_they_are() -> None:
    for lora in ({"use_dora": True}, {"lora_dropout": 0.0}):
        assert not any(isinstance(module, DroppedLinear) for module in adapted(True, **lora).modules())


def test_the_adapter_is_stored_under_pefts_names() -> None:
    assert adapted(True).state_dict().keys() == adapted(False).state_dict().keys()
