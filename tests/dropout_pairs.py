"""Real pairs of training runs without any gate that differ in nothing but their dropout masks, many at once.

A tiny Llama learns English bytes once; then each pair trains peft's LoRA (the project's own adapter, with dropout) on
another text from one initialisation on one sequence of batches. torch.func runs all of them as one batch.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from aegis_core.plan import LoraPlan
from aegis_core.resources import RESOURCES
from aegis_core.training.gated_model import add_adapter

LENGTH = 32  # bytes per batch
CLIP, WARMUP_STEPS = 1.0, 6
LEARNING_RATE = 7e-4  # with the default dropout of 0.05 the paired noise is then about 0.006 nats, as on SmolLM2
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


def differences(n_pairs: int, n_steps: int, seed: int) -> NDArray[np.float64]:
    """loss(one run) − loss(its twin) on the same batch before every step, in nats: (n_pairs, n_steps)."""
    model = add_adapter(_base_model(), LoraPlan()).train()
    learning = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    fixed = dict([*model.named_parameters(), *model.named_buffers()])

    def loss(own: dict[str, Tensor], tokens: Tensor) -> Tensor:
        logits = functional_call(model, fixed | own, (tokens[None, :-1],), {"use_cache": False}).logits
        return cross_entropy(logits[0], tokens[1:])

    torch.manual_seed(seed)  # from here on also the dropout masks
    twins = {name: _initial(name, p, n_pairs).repeat_interleave(2, 0) for name, p in learning.items()}
    adam = _Adam(twins)
    step = vmap(grad_and_value(loss), randomness="different")
    rows = []
    for batch in _batches(n_pairs, n_steps, seed):
        gradients, losses = step(twins, batch.repeat_interleave(2, 0))
        adam.step(twins, gradients)
        rows.append(losses[0::2] - losses[1::2])
    return torch.stack(rows, 1).double().numpy()


def _initial(name: str, parameter: Tensor, n_pairs: int) -> Tensor:
    """As peft starts: A uniform, B zero; another A for every pair."""
    if "lora_B" in name:
        return torch.zeros(n_pairs, *parameter.shape)
    return (2 * torch.rand(n_pairs, *parameter.shape) - 1) / math.sqrt(parameter.shape[1])


class _Adam:
    """Adam with warm-up and clipping, for every run on its own: all tensors are (runs, …)."""

    def __init__(self, parameters: dict[str, Tensor]) -> None:
        self._n = 0
        self._mean = {name: torch.zeros_like(p) for name, p in parameters.items()}
        self._square = {name: torch.zeros_like(p) for name, p in parameters.items()}

    def step(self, parameters: dict[str, Tensor], gradients: dict[str, Tensor]) -> None:
        self._n += 1
        rate = LEARNING_RATE * min(1.0, self._n / WARMUP_STEPS)
        norm = sum(g.flatten(1).square().sum(1) for g in gradients.values()).sqrt()
        shorten = (CLIP / norm.clamp(min=EPSILON)).clamp(max=1)
        for name, gradient in gradients.items():
            g = gradient * shorten.view(-1, *[1] * (gradient.dim() - 1))
            self._mean[name].lerp_(g, 1 - BETA_1)
            self._square[name].lerp_(g.square(), 1 - BETA_2)
            mean = self._mean[name] / (1 - BETA_1**self._n)
            square = self._square[name] / (1 - BETA_2**self._n)
            parameters[name] -= rate * mean / (square.sqrt() + EPSILON)


def _text() -> tuple[Tensor, Tensor]:
    """The bundled English questions as bytes: one half to learn the language from, one for the adapters."""
    data = (RESOURCES / "physics" / "en.jsonl").read_text(encoding="utf-8").encode("ascii", "replace")
    tokens = torch.tensor(list(data))
    return tokens[: len(tokens) // 2], tokens[len(tokens) // 2 :]


def _batches(n_pairs: int, n_steps: int, seed: int) -> list[Tensor]:
    tokens = _text()[1]
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(tokens) - LENGTH - 1, (n_steps, n_pairs, 1), generator=generator)
    return list(tokens[starts + torch.arange(LENGTH + 1)])


def _base_model() -> LlamaForCausalLM:
    """Two layers, H = 32, eager attention (which torch.func can vectorise), trained on bytes for 150 steps."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=128, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=False, attn_implementation="eager",
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    tokens = _text()[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        starts = torch.randint(len(tokens) - LENGTH - 1, (16, 1), generator=generator)
        batch = tokens[starts + torch.arange(LENGTH + 1)]
        logits = model(batch[:, :-1], use_cache=False).logits
        optimizer.zero_grad()
        cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()
    return model
