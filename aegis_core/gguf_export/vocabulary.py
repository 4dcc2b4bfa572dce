"""A byte-level BPE vocabulary as GGUF stores it: token list, types, merges, special tokens, chat template."""

import json
from dataclasses import dataclass
from typing import Any

import gguf
from transformers import PreTrainedTokenizerBase

from ..failures import UserError
from .pre_tokenizer import pre_tokenizer_name

_SPACE_IN_MERGE = chr(ord(" ") + 256)  # merges are written space-separated, so a space inside one is moved away


@dataclass(frozen=True)
class Vocabulary:
    """`tokens` and `types` have one entry per row of the embedding; special ids are None where there are none."""

    tokens: tuple[str, ...]
    types: tuple[gguf.TokenType, ...]
    merges: tuple[str, ...]
    pre_tokenizer: str
    bos: int | None
    eos: int | None
    unk: int | None
    pad: int | None
    add_bos: bool
    add_eos: bool
    chat_template: str | None

    def describe(self, writer: gguf.GGUFWriter) -> None:
        """Write the vocabulary into a GGUF header."""
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(self.pre_tokenizer)
        writer.add_token_list(self.tokens)
        writer.add_token_types(self.types)
        writer.add_token_merges(self.merges)
        for add, token in (
            (writer.add_bos_token_id, self.bos),
            (writer.add_eos_token_id, self.eos),
            (writer.add_unk_token_id, self.unk),
            (writer.add_pad_token_id, self.pad),
        ):
            if token is not None:
                add(token)
        writer.add_add_bos_token(self.add_bos)
        writer.add_add_eos_token(self.add_eos)
        writer.add_add_space_prefix(False)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def read_vocabulary(tokenizer: PreTrainedTokenizerBase, n_rows: int) -> Vocabulary:
    """The vocabulary of a loaded tokenizer, padded to the embedding's `n_rows`.

    UserError if it is of another kind, has more tokens than rows, or llama.cpp has no name for its pre-tokenizer.
    """
    if not tokenizer.is_fast:
        raise _unsupported("it has no tokenizer.json")
    definition = json.loads(tokenizer.backend_tokenizer.to_str())
    model = definition["model"]
    if model["type"] != "BPE" or not _is_byte_level(definition.get("decoder")):
        raise _unsupported(f"its kind is {model['type']} without byte-level decoding")
    tokens, types = _token_list(model["vocab"], definition["added_tokens"], n_rows)
    plain = tokenizer.encode("a", add_special_tokens=False)
    framed = tokenizer.encode("a", add_special_tokens=True)
    return Vocabulary(
        tokens=tokens,
        types=types,
        merges=tuple(_merge(pair) for pair in model["merges"]),
        pre_tokenizer=pre_tokenizer_name(definition),
        bos=tokenizer.bos_token_id,
        eos=tokenizer.eos_token_id,
        unk=tokenizer.unk_token_id,
        pad=tokenizer.pad_token_id,
        add_bos=framed[0] != plain[0] and framed[0] == tokenizer.bos_token_id,
        add_eos=framed[-1] != plain[-1] and framed[-1] == tokenizer.eos_token_id,
        chat_template=tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None,
    )


def _token_list(
    vocabulary: dict[str, int], added: list[dict[str, Any]], n_rows: int
) -> tuple[tuple[str, ...], tuple[gguf.TokenType, ...]]:
    """One token per embedding row; rows without one get a name that can never be produced."""
    tokens = [f"[PAD{row}]" for row in range(n_rows)]
    types = [gguf.TokenType.UNUSED] * n_rows
    entries = [(text, row, gguf.TokenType.NORMAL) for text, row in vocabulary.items()]
    for token in added:
        kind = gguf.TokenType.CONTROL if token["special"] else gguf.TokenType.USER_DEFINED
        entries.append((token["content"], token["id"], kind))
    for text, row, kind in entries:
        if row >= n_rows:
            raise UserError(
                "The tokenizer has the token {text} with number {row}, but the model only {n_rows} rows.",
                "Tokenizer and model do not belong together; choose another base model.",
                text=text,
                row=row,
                n_rows=n_rows,
            )
        tokens[row], types[row] = text, kind
    return tuple(tokens), tuple(types)


def _merge(pair: str | list[str]) -> str:
    if isinstance(pair, str):
        return pair
    return " ".join(part.replace(" ", _SPACE_IN_MERGE) for part in pair)


def _is_byte_level(decoder: dict[str, Any] | None) -> bool:
    if decoder is None:
        return False
    return decoder["type"] == "ByteLevel" or any(_is_byte_level(child) for child in decoder.get("decoders", []))


def _unsupported(problem: str) -> UserError:
    return UserError(
        "This kind of vocabulary cannot be written as GGUF yet: {problem}.",
        "Choose a base model with a byte-level BPE tokenizer, such as SmolLM2 or Llama 3.",
        problem=problem,
    )
