"""Tiny models with random weights of every family AEGIS takes, built with transformers' own config classes.

`build("phi3", folder)` writes a whole model folder in milliseconds: two layers, H = 64, heads of 16, and the tests' BPE
tokenizer with a ChatML template. Norms and biases are random too, so that a test notices one that was forgotten.
"""

from pathlib import Path
from typing import Any

HIDDEN, HEAD, LAYERS = 64, 16, 2
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PHI3_PADDING = 24  # rows of the vocabulary that no token uses, as in the real model

# Class name in transformers, then what makes the family itself; everything else is common to all.
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "mistral": ("MistralConfig", {"sliding_window": None, "head_dim": HEAD}),
    "smollm": ("LlamaConfig", {"tie_word_embeddings": True, "rms_norm_eps": 1e-5}),
    "phi3": (
        "Phi3Config",
        {
            "num_key_value_heads": 4,
            "original_max_position_embeddings": 128,
            "pad_token_id": 0,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0 + n / 50 for n in range(HEAD // 2)],
                "long_factor": [1.1 + n * 1.5 for n in range(HEAD // 2)],
            },
        },
    ),
    "qwen2": ("Qwen2Config", {}),
    "qwen3": ("Qwen3Config", {"head_dim": HEAD}),
    "gemma3_text": (
        "Gemma3TextConfig",
        {
            "head_dim": HEAD,
            "query_pre_attn_scalar": HEAD,
            "sliding_window": 32,
            "layer_types": ["sliding_attention", "full_attention"],
            "tie_word_embeddings": True,
        },
    ),
}
FAMILIES = tuple(_FAMILIES)


def build(
    family: str, folder: Path, *, dtype: str = "float32", seed: int = 0, tied: bool | None = None, **config: Any
) -> Path:
    """Write a tiny random model of a family into `folder` and return it; `config` overrides its settings."""
    import torch
    import transformers

    class_name, special = _FAMILIES[family]
    tokenizer = chatml_tokenizer()
    settings = {
        "vocab_size": len(tokenizer) + (PHI3_PADDING if family == "phi3" else 0),
        "hidden_size": HIDDEN,
        "intermediate_size": 2 * HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HIDDEN // HEAD,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.12,  # 1/√H: attention is far from uniform, so that a wrong rotary angle shows
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        **special,
        **({} if tied is None else {"tie_word_embeddings": tied}),
        **config,
    }
    random_state = torch.get_rng_state()
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, class_name)(**settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight") or name.endswith(".bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
    torch.set_rng_state(random_state)
    folder.mkdir(parents=True, exist_ok=True)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def chatml_tokenizer():  # type: ignore[no-untyped-def]
    """A byte-level BPE tokenizer trained on one sentence, with ChatML markers and template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    raw.train_from_iterator(["time moves, waves and atoms and stars move at once 時間"] * 4, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<|im_start|>",
        eos_token="<|im_end|>",
        unk_token="<|endoftext|>",
        pad_token="<|im_end|>",
        chat_template=CHATML,
    )
