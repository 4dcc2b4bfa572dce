"""Names that mean something to llama.cpp: it tells by `general.name` whether blanks after control tokens vanish."""

import re
from typing import Any

# llama.cpp, src/llama-vocab.cpp: for these names every special token but the three below swallows the blanks after it.
_PHI3 = re.compile(r"phi-?3", re.IGNORECASE)
_KEEP_BLANKS = frozenset({"<unk>", "<s>", "<|endoftext|>"})


def strips_like_phi3(added_tokens: list[dict[str, Any]]) -> bool:
    """Whether the added tokens of a tokenizer.json swallow the blanks after them as those of Phi-3 do."""
    swallowing = {token["content"] for token in added_tokens if token["rstrip"]}
    return bool(swallowing) and swallowing == {token["content"] for token in added_tokens} - _KEEP_BLANKS


def name_for_llama_cpp(name: str, strips_like_phi3: bool) -> str:
    """`name` with the mark by which llama.cpp knows such a tokenizer, and without it for any other."""
    if strips_like_phi3:
        return name if _PHI3.search(name) else f"{name} (Phi-3)"
    return _PHI3.sub("Phi 3", name)
