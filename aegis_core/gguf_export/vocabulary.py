"""A vocabulary as GGUF stores it: token list, types, scores or merges, special tokens, chat template."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
from transformers import PreTrainedTokenizerBase

from ..failures import UserError
from ..models.loading import load_tokenizer
from .byte_level import is_byte_level, merges_of, read_byte_level
from .naming import strips_like_phi3
from .pre_tokenizer import pre_tokenizer_name
from .sentence_piece import prefixes_space, read_sentence_piece
from .token_rows import TokenRows

MODEL_FILE = "tokenizer.model"


@dataclass(frozen=True)
class Vocabulary:
    """`rows` has one entry per row of the embedding; special ids are None where there are none.

    `kind` is llama.cpp's word: gpt2 for byte-level BPE with `merges`, llama for SentencePiece with scores.
    `strips_like_phi3`: blanks after a control token vanish, as the Phi-3 tokenizers have it.
    """

    kind: str
    rows: TokenRows
    merges: tuple[str, ...]
    pre_tokenizer: str
    bos: int | None
    eos: int | None
    unk: int | None
    pad: int | None
    add_bos: bool
    add_eos: bool
    add_space_prefix: bool
    strips_like_phi3: bool
    chat_template: str | None

    @property
    def tokens(self) -> tuple[str, ...]:
        return self.rows.texts

    def describe(self, writer: gguf.GGUFWriter) -> None:
        """Write the vocabulary into a GGUF header."""
        writer.add_tokenizer_model(self.kind)
        writer.add_tokenizer_pre(self.pre_tokenizer)
        writer.add_token_list(self.rows.texts)
        if self.kind == "llama":
            writer.add_token_scores(self.rows.scores)
        writer.add_token_types(self.rows.types)
        if self.merges:
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
        if not self.add_space_prefix:  # unsaid, llama.cpp adds one for SentencePiece
            writer.add_add_space_prefix(False)
        if self.chat_template:
            writer.add_chat_template(self.chat_template)


def read_vocabulary(folder: Path, n_rows: int) -> Vocabulary:
    """The vocabulary of a model folder, padded to the embedding's `n_rows`.

    UserError if it is of another kind, has more tokens than rows, or llama.cpp has no name for its pre-tokenizer.
    """
    tokenizer = load_tokenizer(folder)
    definition = _definition(tokenizer)
    if is_byte_level(definition):
        kind, rows = "gpt2", read_byte_level(definition, n_rows)
        merges, pre, space = merges_of(definition), pre_tokenizer_name(definition), False
    elif (folder / MODEL_FILE).is_file():
        kind, rows = "llama", read_sentence_piece(folder / MODEL_FILE, definition, n_rows)
        merges, pre, space = (), "default", prefixes_space(definition)
    else:
        raise UserError(
            "This kind of vocabulary cannot be written as GGUF yet: {problem}.",
            "Choose a base model with a byte-level BPE tokenizer or with the file tokenizer.model.",
            problem=f"{definition['model']['type']} without byte-level decoding and without {MODEL_FILE}",
        )
    plain = tokenizer.encode("a", add_special_tokens=False)
    framed = tokenizer.encode("a", add_special_tokens=True)
    return Vocabulary(
        kind=kind,
        rows=rows,
        merges=merges,
        pre_tokenizer=pre,
        bos=tokenizer.bos_token_id,
        eos=tokenizer.eos_token_id,
        unk=tokenizer.unk_token_id,
        pad=tokenizer.pad_token_id,
        add_bos=framed[0] != plain[0] and framed[0] == tokenizer.bos_token_id,
        add_eos=framed[-1] != plain[-1] and framed[-1] == tokenizer.eos_token_id,
        add_space_prefix=space,
        strips_like_phi3=strips_like_phi3(definition["added_tokens"]),
        chat_template=tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else None,
    )


def _definition(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What the tokenizer does, in the form of a tokenizer.json."""
    if not tokenizer.is_fast:
        raise UserError(
            "This kind of vocabulary cannot be written as GGUF yet: {problem}.",
            "Choose a base model with a byte-level BPE tokenizer or with the file tokenizer.model.",
            problem="it has no tokenizer.json",
        )
    definition: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return definition
