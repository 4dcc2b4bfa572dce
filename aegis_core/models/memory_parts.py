"""What a training's memory goes into, part by part, in bytes.

- weights: NF4 with double quantisation keeps 4 bits per weight, 8 bits of scale per 64 weights and 32 bits more per
  64·256 (Dettmers et al., QLoRA, 2023, section 3): 4.127 bits. It covers the blocks' linear layers; embeddings, head
  and norms stay as they are. Otherwise 2 or 4 bytes each.
- adapters: LoRA, rotation and what else learns, in float32 (peft keeps the adapters of a 16-bit base so).
- gradients: 4 bytes per learning parameter; optimiser: 8 (AdamW's two float32 moments), or 2 where they have 8 bits.
- activations: what autograd keeps, counted from transformers' and peft's own layers; with gradient checkpointing the
  input of every block and what one block keeps.
- logits: the chunk of our cross-entropy (training/loss.py), 256 tokens × V: in float32 the logits and the copy that
  logsumexp makes.
- allocator: what is held beyond that. On a CPU glibc was measured to keep about as much again as the activations take
  and with checkpointing much of what would have been kept without; CUDA's allocator was measured to keep cuBLAS's
  workspaces and about an eighth.
- context: CUDA's context and libraries; on a CPU Python and its libraries, as measured on Linux.
- others: what other programs hold on this card, or in this machine's RAM, right now.

What is said of CUDA was fitted on one H200 (torch 2.11, CUDA 13.0, bitsandbytes 0.50), Phi-3.5-mini's shape in NF4 at
1 × 512, 2 × 1024 and 2 × 2048 tokens and, with activations kept, 2 × 1024 (benchmarks/cuda.py). Smaller cards have
smaller workspaces; reports of their context range from 0.6 to 1.4 GB.
"""

import importlib.util
from typing import Literal, TypedDict

from ..plan import Plan
from .shape import ModelShape

Device = Literal["cuda", "cpu"]

NF4_BITS = 4 + 8 / 64 + 32 / (64 * 256)
CHUNK_TOKENS = 256  # as in training/loss.py, which the window may not import; a test compares them
CONTEXT_BYTES = {"cuda": 800_000_000, "cpu": 480_000_000}
KEPT_BESIDES, KEPT_OF_FREED = 0.8, 0.65  # glibc 2.36, SmolLM2-135M and small Llamas
CUDA_KEPT_BESIDES, WORKSPACES_BYTES = 1 / 8, 64_000_000
_FP32, _BLOCK, _FREE_PER_BLOCK = 4, 8, 28


class FixedParts(TypedDict):
    weights: int
    adapters: int
    gradients: int
    optimiser: int


class ScalingParts(TypedDict):
    activations: int
    logits: int
    allocator: int


def fixed_parts(shape: ModelShape, plan: Plan, device: Device, quantised: bool) -> FixedParts:
    """What does not depend on batch and length."""
    n_learning = _n_learning(shape, plan)
    return {
        "weights": _weight_bytes(shape, quantised, _compute_bytes(plan, device)),
        "adapters": n_learning * _FP32,
        "gradients": n_learning * _FP32,
        "optimiser": n_learning * (2 if _eight_bit(plan, device) else 8),
    }


def scaling_parts(shape: ModelShape, plan: Plan, device: Device, n_tokens: int) -> ScalingParts:
    """What grows with the tokens of one forward pass."""
    compute = _compute_bytes(plan, device)
    block = _saved_bytes(shape, compute) + _adapted_bytes(shape, plan, device, compute)
    passing = 3 * shape.intermediate_size * compute  # gradients on their way back through one MLP
    activations = n_tokens * _kept_bytes(shape, plan, device, block, passing, shape.hidden_size * compute)
    if is_quantised(plan, device):
        activations += max(linear.n_weights for linear in shape.linears) * compute  # one weight at a time in 16 bits
    return {
        "activations": activations,
        "logits": min(CHUNK_TOKENS, n_tokens) * shape.vocabulary_size * 2 * _FP32,
        "allocator": _allocator_bytes(plan, device, activations, n_tokens * shape.n_layers * block),
    }


def is_quantised(plan: Plan, device: Device) -> bool:
    """Whether the base is kept in 4 bits: auto does so where it can be; never on a CPU."""
    setting = plan.model.quantisation
    return device == "cuda" and (setting == "nf4" or (setting == "auto" and can_quantise(device)))


def can_quantise(device: Device) -> bool:
    """Whether weights in 4 bits and an optimiser in 8 are possible: an NVIDIA GPU and bitsandbytes, only looked for."""
    return device == "cuda" and has_bitsandbytes()


def has_bitsandbytes() -> bool:
    return importlib.util.find_spec("bitsandbytes") is not None


def checkpoints(plan: Plan, device: Device) -> bool:
    """Whether activations are computed twice; auto does so on a GPU."""
    return plan.train.gradient_checkpointing == "on" or (
        plan.train.gradient_checkpointing == "auto" and device == "cuda"
    )


def _eight_bit(plan: Plan, device: Device) -> bool:
    setting = plan.train.optimizer
    return device == "cuda" and setting != "adamw" and (setting != "auto" or can_quantise(device))


def _compute_bytes(plan: Plan, device: Device) -> int:
    name = plan.model.dtype
    return 4 if name == "float32" or (name == "auto" and device == "cpu") else 2


def _n_learning(shape: ModelShape, plan: Plan) -> int:
    rotations = (1 + len(set(plan.soul.inner_layers))) * shape.hidden_size // _BLOCK * _FREE_PER_BLOCK
    norm = shape.hidden_size if plan.soul.train_norm else 0
    return shape.n_lora_parameters(plan.lora.rank, plan.lora.targets, plan.lora.dora) + rotations + norm


def _weight_bytes(shape: ModelShape, quantised: bool, compute: int) -> int:
    if not quantised:
        return shape.n_parameters * compute
    rest = shape.n_parameters - shape.n_linear_weights
    return round(shape.n_linear_weights * NF4_BITS / 8) + rest * compute


def _saved_bytes(shape: ModelShape, compute: int) -> int:
    """What autograd keeps of one block for one token, adapters aside.

    Norms keep their float32 input; scaled-dot-product attention its queries, keys, values and output; the MLP the gate
    before and after its activation and what it multiplies.
    """
    queries, keys = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    norms = shape.n_norms * shape.hidden_size * _FP32 + (queries + keys) * _FP32 * shape.norms_queries
    return norms + (2 * queries + 2 * keys + 3 * shape.intermediate_size) * compute


def _adapted_bytes(shape: ModelShape, plan: Plan, device: Device, compute: int) -> int:
    """What the adapters of one block keep for one token.

    Layers of the same input share it, and with dropout each keeps a byte for every number of it. DoRA, layers of 4-bit
    weights, and 16 bits without dropout keep an input each; DoRA two outputs more.
    """
    adapted = shape.adapted(plan.lora.targets)
    dropout = plan.lora.dropout > 0
    lean = dropout and not plan.lora.dora and not is_quantised(plan, device)
    shared = lean or (not dropout and compute == _FP32)
    mask = 0 if not dropout else 1 if lean or device == "cuda" else _FP32
    inputs = sum(linear.n_in for linear in adapted if not (shared and linear.name in ("k_proj", "v_proj", "up_proj")))
    masks = mask * sum(linear.n_in for linear in adapted)
    lengths = 2 * sum(linear.n_out for linear in adapted) if plan.lora.dora else 0
    inner = 3 * shape.hidden_size * len(set(plan.soul.inner_layers)) // shape.n_layers
    return inputs * compute + masks + (plan.lora.rank * len(adapted) + lengths + inner) * _FP32


def _kept_bytes(shape: ModelShape, plan: Plan, device: Device, block: int, passing: int, entry: int) -> int:
    """What is there at once for one token, from what a block keeps, what passes through it and what enters it.

    With checkpointing a block is computed again when the top is done with; a CPU's C library has not taken that back.
    """
    top = _top_bytes(shape)
    if not checkpoints(plan, device):
        return shape.n_layers * block + passing + top
    now = max(block + passing, top) if device == "cuda" else block + passing + top
    return shape.n_layers * entry + now


def _top_bytes(shape: ModelShape) -> int:
    """Final norm, gate and the hidden states with their gradient, for one token, in float32."""
    return 8 * shape.hidden_size * _FP32


def _allocator_bytes(plan: Plan, device: Device, activations: int, unsaved: int) -> int:
    """What the allocator holds beyond what is in use; `unsaved` are the blocks' activations without checkpointing."""
    if device == "cuda":
        return WORKSPACES_BYTES + round(CUDA_KEPT_BESIDES * activations)
    return round(KEPT_OF_FREED * unsaved) if checkpoints(plan, device) else round(KEPT_BESIDES * activations)
