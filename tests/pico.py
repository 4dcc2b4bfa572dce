"""The smallest real ritual: a two-layer model with random weights and a real tokenizer, a few questions, four steps.

For tests, benchmarks and the trial of a frozen window alike: it imports neither pytest nor Qt.
"""

import json
from pathlib import Path
from typing import Any

from tiny_families import chatml_tokenizer

SETTINGS: dict[str, Any] = {
    "data.sequence_length": 32,
    "train.steps": 4,
    "train.evaluate_steps": 2,
    "train.checkpoint_steps": 2,
    "train.warmup_steps": 1,
    "lora.rank": 4,
    "chat.questions": "en",
    "chat.backend": "embedded",
    "chat.compare_base": False,  # a conversion and as many answers again
}


def build(folder: Path, *, tied: bool) -> Path:
    """A folder with a Llama (H = 64, random weights) and a byte-level BPE tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = chatml_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_questions(path: Path, n_each: int = 4) -> Path:
    """So many questions with answers on each of three topics."""
    rows = [
        {"topic": topic, "question": f"What does number {n} of {topic} do?", "answer": f"It moves {n} {topic} at once."}
        for topic in ("waves", "atoms", "stars")
        for n in range(n_each)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def settings(model: Path, data: Path) -> dict[str, Any]:
    """What the plan of this ritual changes."""
    return {"model.source": str(model), "data.source": str(data), **SETTINGS}
