"""How a tokenizer cuts text before its merges, by llama.cpp's name for it, found from its own definition."""

from typing import Any

from ..failures import UserError

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASED = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
)

# What each of llama.cpp's names stands for, as (kind, detail) in order; the regexes are those of the published
# tokenizers, which llama.cpp's own ones are made to equal.
_KNOWN: dict[tuple[tuple[str, str], ...], str] = {
    (("bytes", "words"),): "gpt-2",
    (("digits", "single"), ("bytes", "words")): "smollm",
    (("split", _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + _REST), ("bytes", "")): "llama-bpe",
    (("split", _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}" + _REST), ("bytes", "")): "qwen2",
    (
        ("split", _CASED + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"),
        ("bytes", ""),
    ): "tekken",
}
# llama.cpp takes a whole word that is in the vocabulary as it is for these names only.
_WHOLE_WORDS_FIRST = frozenset({"llama-bpe", "tekken"})
_NORMALIZERS: dict[str, tuple[str | None, ...]] = {"qwen2": (None, "NFC")}


def pre_tokenizer_name(definition: dict[str, Any]) -> str:
    """llama.cpp's name for the pre-tokenizer of a tokenizer.json; UserError if none behaves alike."""
    parts = _parts(definition.get("pre_tokenizer"))
    name = _KNOWN.get(parts)
    if name is None:
        raise _unknown("its pre-tokenizer is " + (" + ".join(kind for kind, _ in parts) or "none"))
    normalizer = (definition.get("normalizer") or {}).get("type")
    if normalizer not in _NORMALIZERS.get(name, (None,)):
        raise _unknown(f"it normalises text by {normalizer}")
    if bool(definition["model"].get("ignore_merges")) != (name in _WHOLE_WORDS_FIRST):
        raise _unknown(f"its pre-tokenizer is that of {name}, but its rule for whole words differs")
    return name


def composes_letters(definition: dict[str, Any]) -> bool:
    """Whether the tokenizer composes letters and accents (NFC) before it cuts, which llama.cpp does not."""
    normalizer = definition.get("normalizer") or {}
    return any(part.get("type") == "NFC" for part in (normalizer, *normalizer.get("normalizers", ())))


def _parts(node: dict[str, Any] | None) -> tuple[tuple[str, str], ...]:
    """The definition flattened and without what does not change the cut."""
    if node is None:
        return ()
    if node["type"] == "Sequence":
        return tuple(part for child in node["pretokenizers"] for part in _parts(child))
    if node["type"] == "ByteLevel" and not node.get("add_prefix_space"):
        return (("bytes", "words" if node.get("use_regex", True) else ""),)
    if node["type"] == "Digits":
        return (("digits", "single" if node.get("individual_digits") else "runs"),)
    if node["type"] == "Split" and node.get("behavior") == "Isolated" and not node.get("invert"):
        return (("split", node["pattern"].get("Regex", "")),)
    return ((node["type"], "other"),)


def _unknown(problem: str) -> UserError:
    return UserError(
        "The tokenizer cuts text in a way llama.cpp has no name for: {problem}.",
        "Chat with it through transformers, or choose a base model whose tokenizer llama.cpp knows.",
        problem=problem,
    )
