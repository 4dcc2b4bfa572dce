"""Step 2: the base model on this machine, and the dataset as packed tokens."""

from transformers import PreTrainedTokenizerBase

from ..context import StepContext
from ..data.packed import Packed, save_packed
from ..data.packing import Tokens, pack, split, tokenise
from ..data.readers import Sample, read_samples
from ..events import Progress, note
from ..models.identity import write_base
from ..models.loading import load_tokenizer
from ..models.resolve import resolve
from ..models.usable import require_usable
from ..plan import Plan
from ..run_directory import sha256_of_json, write_json


def run(plan: Plan, ctx: StepContext) -> None:
    samples = read_samples(plan.data)
    train, held_out = split(samples, plan.data.held_out_fraction, plan.data.seed)
    base = resolve(plan.model, ctx, require_usable)
    tokenizer = load_tokenizer(base.path)
    length = plan.data.sequence_length
    train_tokens = _tokenised(train, tokenizer, ctx, "train")
    held_out_tokens = _tokenised(held_out, tokenizer, ctx, "held out")
    packed = {"train": pack(train_tokens, length), "held_out": pack(held_out_tokens, length)}
    for name, sequences in packed.items():
        path = ctx.folder / f"{name}.safetensors"
        save_packed(path, sequences)
        ctx.artifact(path)
    facts = {
        "source": plan.data.source,
        "sha256": sha256_of_json([[sample.question, sample.answer, sample.topic] for sample in samples]),
        "n_samples": len(samples),
        "n_blank": sum(sample.blank for sample in samples),
        "n_longer_than_sequence": sum(len(tokens.ids) > length for tokens in train_tokens + held_out_tokens),
        "held_out_topics": sorted({sample.topic for sample in held_out if sample.topic}),
        "train": _counts(packed["train"], train),
        "held_out": _counts(packed["held_out"], held_out),
        "example": tokenizer.decode(train_tokens[0].ids),
    }
    write_json(ctx.folder / "data.json", facts)
    ctx.artifact(ctx.folder / "data.json")
    ctx.artifact(write_base(ctx.run, base))
    ctx.emit(
        note(
            "{model} with {parameters} million parameters; {train} training and {held_out} held-out sequences.",
            model=base.source,
            parameters=round(base.n_parameters / 1e6),
            train=len(packed["train"]),
            held_out=len(packed["held_out"]),
        )
    )


def _tokenised(samples: list[Sample], tokenizer: PreTrainedTokenizerBase, ctx: StepContext, phase: str) -> list[Tokens]:
    tokens = []
    for n_done, sample in enumerate(samples, start=1):
        ctx.cancel.check()
        tokens.append(tokenise(sample, tokenizer))
        if n_done % 50 == 0 or n_done == len(samples):
            ctx.emit(Progress(n_done, len(samples), "samples", phase))
    return tokens


def _counts(packed: Packed, samples: list[Sample]) -> dict[str, int]:
    return {
        "n_samples": len(samples),
        "n_sequences": len(packed),
        "n_tokens": packed.input_ids.numel(),
        "n_counted_tokens": packed.n_counted,
    }
