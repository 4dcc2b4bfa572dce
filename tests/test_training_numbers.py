"""What the hardware decides about a training; CUDA and bitsandbytes are fakes at the library's edge here."""

import importlib.util
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from aegis_core.cancel import CancelToken
from aegis_core.data.packed import Packed
from aegis_core.failures import UserError
from aegis_core.models.loading import load_model
from aegis_core.plan import LoraPlan, Plan, SoulPlan, changed
from aegis_core.training.gated_model import GatedModel, gated_for_training
from aegis_core.training.loss import CHUNK_TOKENS, next_token_loss
from aegis_core.training.numbers import choose_optimizer, enable_checkpointing, trainer_arguments
from aegis_core.training.trainer import Hooks, fit


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: object() if name == "bitsandbytes" else find_spec(name, *rest)
    )


@pytest.fixture
def gated(pico_model: Path) -> GatedModel:
    return gated_for_training(load_model(pico_model, torch.float32), LoraPlan(), SoulPlan(), 0)


def test_a_cpu_gets_plain_adamw_and_never_bitsandbytes() -> None:
    assert choose_optimizer("auto") == choose_optimizer("adamw") == "adamw_torch"
    with pytest.raises(UserError, match="needs an NVIDIA GPU") as caught:
        choose_optimizer("paged_adamw_8bit")
    assert caught.value.changes == {"train.optimizer": "auto"}


def test_a_fake_gpu_with_a_fake_bitsandbytes_gets_the_paged_8_bit_optimiser(fake_gpu: None) -> None:
    assert choose_optimizer("auto") == choose_optimizer("paged_adamw_8bit") == "paged_adamw_8bit"
    assert choose_optimizer("adamw") == "adamw_torch"


def test_a_fake_gpu_without_bitsandbytes_gets_plain_adamw(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "bitsandbytes" else find_spec(name, *rest)
    )
    assert choose_optimizer("auto") == "adamw_torch"


@pytest.mark.parametrize(("setting", "expected"), [("auto", False), ("on", True), ("off", False)])
def test_activations_are_computed_twice_where_the_plan_says_so(gated: GatedModel, setting: str, expected: bool) -> None:
    assert enable_checkpointing(gated, setting) is expected
    assert gated.causal.is_activation_checkpointing is expected


def test_auto_checkpoints_activations_on_a_fake_gpu(gated: GatedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GatedModel, "device", torch.device("cuda"))
    assert enable_checkpointing(gated, "auto")


def test_the_number_format_of_the_model_decides_mixed_precision(tmp_path: Path) -> None:
    plan = Plan()
    assert not trainer_arguments(plan, tmp_path, torch.float32).bf16
    assert trainer_arguments(plan, tmp_path, torch.bfloat16).bf16
    assert not trainer_arguments(plan, tmp_path, torch.float16).fp16  # a CPU has no scaler


def test_checkpointing_changes_no_bit_of_the_gradients(pico_model: Path) -> None:
    ids = torch.arange(64).view(2, 32)
    found = {}
    for setting in ("off", "on"):
        gated = gated_for_training(
            load_model(pico_model, torch.float32), LoraPlan(dropout=0.1), SoulPlan(inner_layers=(0,), alpha_start=0), 0
        ).train()
        enable_checkpointing(gated, setting)
        torch.manual_seed(5)
        gated(ids, ids)["loss"].backward()
        found[setting] = {name: p.grad for name, p in gated.named_parameters() if p.requires_grad}
    assert all(found["on"][name].equal(found["off"][name]) for name in found["off"])


def training(pico_model: Path, tmp_path: Path, **settings: Any) -> None:
    plan = changed(Plan(), {"train.steps": 3, "train.warmup_steps": 0, **settings})
    gated = gated_for_training(load_model(pico_model, torch.float32), plan.lora, plan.soul, 0)
    gated.gate.rotation.generator.register_hook(lambda gradient: gradient * float("inf"))
    ids = torch.arange(128).view(4, 32)
    fit(gated, plan, Packed(ids, ids.clone()), CancelToken(), Hooks(), tmp_path, keep=False)


def test_a_gradient_that_is_not_finite_stops_before_the_step(pico_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gradient is not a finite number at step 1"):
        training(pico_model, tmp_path)


def test_no_tensor_of_all_logits_is_ever_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three chunks of tokens over a large head: the largest tensor made has one chunk's rows."""
    largest = 0

    class Sizes(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
            nonlocal largest
            made = function(*arguments, **(named or {}))
            if isinstance(made, torch.Tensor):
                largest = max(largest, made.numel())
            return made

    n_tokens, vocabulary, width = 3 * CHUNK_TOKENS + 1, 5000, 8
    hidden = torch.randn(1, n_tokens, width, requires_grad=True)
    head, labels = torch.randn(vocabulary, width), torch.randint(0, vocabulary, (1, n_tokens))
    with Sizes():
        next_token_loss(hidden, head, labels).backward()
    assert largest == CHUNK_TOKENS * vocabulary


def test_the_logits_of_a_chunk_are_gone_before_the_next_are_made() -> None:
    n_tokens, vocabulary, width = 3 * CHUNK_TOKENS + 1, 5000, 8
    made_so_far: list[weakref.ref[torch.Tensor]] = []
    most = 0

    class Living(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), named: Any = None) -> Any:
            nonlocal most
            made = function(*arguments, **(named or {}))
            if isinstance(made, torch.Tensor) and made.numel() == CHUNK_TOKENS * vocabulary:
                made_so_far.append(weakref.ref(made))
                alive = [tensor for tensor in (known() for known in made_so_far) if tensor is not None]
                most = max(most, len({tensor.data_ptr() for tensor in alive}))
            return made

    hidden = torch.randn(1, n_tokens, width, requires_grad=True)
    head, labels = torch.randn(vocabulary, width), torch.randint(0, vocabulary, (1, n_tokens))
    with Living():
        next_token_loss(hidden, head, labels).backward()
    assert most == 1
