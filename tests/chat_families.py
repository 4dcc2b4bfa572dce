"""The published chat templates in tests/data/templates as tokenizers: each with its control tokens, over single bytes.

`FAMILIES` holds the facts: what the models' own tokenizers call their tokens, and what must be derived from them.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from aegis_core.chat.prompt import ChatPrompts

TEMPLATES = Path(__file__).parent / "data" / "templates"
DAY = datetime(2026, 11, 24, 12, 0)
CHAT = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "U1"},
    {"role": "assistant", "content": "A1"},
    {"role": "user", "content": "U2"},
]
LLAMA = ("<|begin_of_text|>", "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>", "<|end_of_text|>"))
QWEN = ("", "<|im_end|>", ("<|im_start|>", "<|endoftext|>"))
GEMMA = ("<bos>", "<eos>", ("<start_of_turn>", "<end_of_turn>"))
CHATML_STOPS = {"<|im_start|>", "<|im_end|>"}
LLAMA_STOPS = {"<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"}
LLAMA_TALK = (
    "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nU1<|eot_id|><|start_header_id|>assistant<|end_header_id|>"
    "\n\nA1<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nU2<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n"
)
CHATML_TALK = (
    "<|im_start|>user\nU1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n<|im_start|>user\nU2<|im_end|>\n"
    "<|im_start|>assistant\n"
)
SMOLLM3_HEAD = (
    "<|im_start|>system\n## Metadata\n\nKnowledge Cutoff Date: June 2025\nReasoning Mode: /think\n\n"
    "## Custom Instructions\n\n"
)


@dataclass(frozen=True)
class Family:
    """`rendered` is CHAT as the published template renders it; None where it takes no system message."""

    bos: str
    eos: str
    others: tuple[str, ...]
    stops: set[str]
    rendered: str | None
    plain: tuple[str, ...] = ()
    """Added tokens that are not control tokens."""


FAMILIES = {
    "phi-3.5-mini-instruct": Family(
        "<s>",
        "<|endoftext|>",
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        {"<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|endoftext|>"},
        "<|system|>\nS<|end|>\n<|user|>\nU1<|end|>\n<|assistant|>\nA1<|end|>\n<|user|>\nU2<|end|>\n<|assistant|>\n",
    ),
    "llama-3-instruct": Family(
        *LLAMA, LLAMA_STOPS, "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS" + LLAMA_TALK
    ),
    "llama-3.1-instruct": Family(
        *LLAMA,
        LLAMA_STOPS,
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
        "Today Date: 26 Jul 2024\n\nS" + LLAMA_TALK,
    ),
    "llama-3.2-instruct": Family(
        *LLAMA,
        LLAMA_STOPS,
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
        "Today Date: 24 Nov 2026\n\nS" + LLAMA_TALK,
    ),
    "qwen2-instruct": Family(*QWEN, CHATML_STOPS, "<|im_start|>system\nS<|im_end|>\n" + CHATML_TALK),
    "qwen2.5-instruct": Family(*QWEN, CHATML_STOPS, "<|im_start|>system\nS<|im_end|>\n" + CHATML_TALK),
    "qwen3": Family(*QWEN, CHATML_STOPS, "<|im_start|>system\nS<|im_end|>\n" + CHATML_TALK, ("<think>", "</think>")),
    "gemma-3-it": Family(
        *GEMMA,
        {"<eos>", "<start_of_turn>", "<end_of_turn>"},
        "<bos><start_of_turn>user\nS\n\nU1<end_of_turn>\n<start_of_turn>model\nA1<end_of_turn>\n"
        "<start_of_turn>user\nU2<end_of_turn>\n<start_of_turn>model\n",
    ),
    "gemma-2-it": Family(*GEMMA, {"<eos>", "<start_of_turn>", "<end_of_turn>"}, None),
    "mistral-7b-instruct-v0.1": Family(
        "<s>", "</s>", (), {"</s>", "[INST]"}, "<s> [INST] S\n\nU1 [/INST] A1</s> [INST] U2 [/INST]"
    ),
    "mistral-7b-instruct-v0.3": Family(
        "<s>",
        "</s>",
        ("[INST]", "[/INST]", "[TOOL_CALLS]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
        {"</s>", "[INST]", "[/INST]"},
        "<s>[INST] U1[/INST] A1</s>[INST] S\n\nU2[/INST]",
    ),
    "mistral-small-3.1-instruct": Family(
        "<s>",
        "</s>",
        ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
        {"</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"},
        "<s>[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST]U1[/INST]A1</s>[INST]U2[/INST]",
    ),
    "smollm2-instruct": Family(
        "<|im_start|>",
        "<|im_end|>",
        ("<|endoftext|>",),
        CHATML_STOPS,
        "<|im_start|>system\nS<|im_end|>\n" + CHATML_TALK,
    ),
    "smollm3": Family(
        "",
        "<|im_end|>",
        ("<|im_start|>", "<|end_of_text|>"),
        CHATML_STOPS,
        SMOLLM3_HEAD + "S\n\n<|im_end|>\n" + CHATML_TALK,
        ("<think>", "</think>"),
    ),
}


def template(name: str) -> str:
    """The published text, to the byte."""
    return (TEMPLATES / f"{name}.jinja").read_bytes().decode("utf-8")


def prompts_of(name: str, folder: Path, now: datetime = DAY) -> ChatPrompts:
    """The family's chat prompts."""
    return prompts_for(template(name), FAMILIES[name], folder, now)


def prompts_for(source: str, family: Family, folder: Path, now: datetime = DAY) -> ChatPrompts:
    """Any template with a family's tokens, as a tokenizer folder that transformers itself reads and renders."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    raw.decoder = decoders.ByteLevel()
    control = [token for token in (family.bos, family.eos, *family.others) if token]
    raw.add_special_tokens([AddedToken(token, special=True) for token in dict.fromkeys(control)])
    raw.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.plain])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token=family.bos or None, eos_token=family.eos, chat_template=source
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return ChatPrompts(folder, now)
