"""Step 2: the base model on this machine, and the dataset as packed tokens."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..context import StepContext
from ..data.formatting import Formatter, Tokens
from ..data.packed import IGNORED, Packed, save_packed
from ..data.packing import Packer
from ..data.preview import flaw_warnings, preview_of
from ..data.readers import Source, empty, open_source
from ..data.samples import Flaw, Sample
from ..data.splitting import Survey, survey
from ..events import Progress, note, warning
from ..failures import UserError
from ..models.identity import write_base
from ..models.loading import load_tokenizer
from ..models.resolve import resolve
from ..models.usable import require_usable
from ..plan import DataPlan, Plan
from ..run_directory import write_json

_BATCH_SAMPLES = 256
_EXAMPLE_TOKENS = 400
Parts = dict[str, Packer]


@dataclass(frozen=True)
class Done:
    """Samples of each part, the topics kept aside, and the first sequence to train on."""

    n_samples: Counter[str]
    held_out_topics: list[str]
    example: Tokens


def run(plan: Plan, ctx: StepContext) -> None:
    fetching = "Fetching the dataset {source} from the hub; what is already here is not fetched again."
    source = open_source(plan.data, lambda what: ctx.emit(note(fetching, source=plan.data.source)))
    found = _surveyed(source, ctx)
    base = resolve(plan.model, ctx, require_usable)
    tokenizer = load_tokenizer(base.path)
    formatter = Formatter(tokenizer)
    packers = {name: _packer(plan.data, tokenizer) for name in ("train", "held_out")}
    done = _pack(source, found, formatter, packers, ctx)
    packed = {name: packer.packed() for name, packer in packers.items()}
    for name, sequences in packed.items():
        path = ctx.folder / f"{name}.safetensors"
        save_packed(path, sequences)
        ctx.artifact(path)
    facts = _facts(source, found, formatter) | {
        "n_longer_than_sequence": sum(packer.n_over_long for packer in packers.values()),
        "over_long": plan.data.over_long,
        "packing": plan.data.packing,
        "held_out_topics": done.held_out_topics,
        **{name: _counts(done.n_samples[name], packers[name], packed[name]) for name in packers},
        "example": tokenizer.decode(done.example.ids[:_EXAMPLE_TOKENS]),
        "example_parts": _parts(done.example, tokenizer),
    }
    write_json(ctx.folder / "data.json", facts)
    ctx.artifact(ctx.folder / "data.json")
    ctx.artifact(write_base(ctx.run, base))
    _tell(plan.data, found, formatter, packers, ctx)
    ctx.emit(
        note(
            "{model} with {parameters} million parameters; {train} training and {held_out} held-out sequences.",
            model=base.source,
            parameters=round(base.n_parameters / 1e6),
            train=len(packed["train"]),
            held_out=len(packed["held_out"]),
        )
    )


def _surveyed(source: Source, ctx: StepContext) -> Survey:
    """Read everything once: what cannot be read is told before a model is fetched."""
    plan = source.plan
    total = source.n_rows or 0  # 0: not known
    samples = _watched(source.samples(), ctx, lambda n_done: Progress(n_done, total, "rows", "reading"))
    found = survey(samples, plan.held_out_fraction, plan.seed)
    if found.n_usable:
        return found
    if found.n_flawed[Flaw.NO_ANSWER]:
        raise UserError(
            "No sample of {source} has an answer.",
            "Check which columns hold questions and answers (data.question_field, data.answer_field).",
            source=plan.source,
        )
    if found.n_flawed[Flaw.FOREIGN_ROLE]:
        raise UserError(
            "Every chat of {source} has other roles than user, assistant and system.",
            "Rename the roles, or choose another dataset.",
            source=plan.source,
        )
    if found.n_flawed[Flaw.HALF_CHARACTER]:
        raise UserError(
            "Every sample of {source} that has text holds half a character (a lone surrogate).",
            "Write the file again from its origin, as UTF-8.",
            source=plan.source,
        )
    raise empty(plan)


def _packer(plan: DataPlan, tokenizer: PreTrainedTokenizerBase) -> Packer:
    known = (token for token in (tokenizer.pad_token_id, tokenizer.eos_token_id) if token is not None)
    return Packer(
        plan.sequence_length, joins=plan.packing, splits=plan.over_long == "split", padding=next(iter(known), 0)
    )


def _pack(source: Source, found: Survey, formatter: Formatter, packers: Parts, ctx: StepContext) -> Done:
    """Read everything again, sort it into its part and pack it."""
    usable = (sample for sample in source.samples() if not sample.flaw)
    n_samples: Counter[str] = Counter()
    topics: set[str] = set()
    example = None
    watched = _watched(usable, ctx, lambda n_done: Progress(n_done, found.n_usable, "samples", "tokenising"))
    while batch := list(islice(watched, _BATCH_SAMPLES)):
        for sample, sequences in zip(batch, formatter(batch), strict=True):
            part = "held_out" if found.keeps_aside(sample) else "train"
            n_samples[part] += bool(sequences)
            if part == "held_out" and sample.topic:
                topics.add(sample.topic)
            for tokens in sequences:
                packers[part].add(tokens)
                if part == "train":
                    example = example or tokens
    if n_samples.total() + formatter.n_refused != found.n_usable:
        raise UserError(
            "The dataset {source} changed while it was read.",
            "Run this step again once nothing writes there any more.",
            source=source.plan.source,
        )
    if example is None:
        raise UserError(
            "The model's chat template refuses the chats of this dataset: {problem}",
            "Use plain text with this model (data.format=text), or another model.",
            changes={"data.format": "text"},
            problem=formatter.refusal,
        )
    return Done(n_samples, sorted(topics), example)


def _watched(samples: Iterator[Sample], ctx: StepContext, progress: Callable[[int], Progress]) -> Iterator[Sample]:
    """The same samples, with progress told and cancelling heard."""
    n_done = 0
    for n_done, sample in enumerate(samples, start=1):
        if n_done % _BATCH_SAMPLES == 0:
            ctx.cancel.check()
        if n_done % (20 * _BATCH_SAMPLES) == 0:
            ctx.emit(progress(n_done))
        yield sample
    ctx.emit(progress(n_done))


def _facts(source: Source, found: Survey, formatter: Formatter) -> dict[str, Any]:
    return {
        "source": source.plan.source,
        "commit": source.commit,
        "sha256": found.sha256,
        "n_samples": found.n_samples,
        "n_blank": found.n_flawed[Flaw.BLANK],
        "n_without_answer": found.n_flawed[Flaw.NO_ANSWER],
        "n_foreign_role": found.n_flawed[Flaw.FOREIGN_ROLE],
        "n_half_character": found.n_flawed[Flaw.HALF_CHARACTER],
        "n_refused_by_template": formatter.n_refused,
        "n_unrolled": formatter.n_unrolled,
        "preview": preview_of(source).row(),
    }


def _counts(n_samples: int, packer: Packer, packed: Packed) -> dict[str, int]:
    return {
        "n_samples": n_samples,
        "n_sequences": len(packed),
        "n_tokens": packed.input_ids.numel(),
        "n_counted_tokens": packed.n_counted,
        "n_padding_tokens": packer.n_padding,
        "n_left_over_tokens": packer.n_left_over,
        "n_sequences_without_answer": packer.n_without_answer,
    }


def _parts(example: Tokens, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
    """The example as runs of what is learned and what is not: [{"text", "learned"}, …]."""
    runs: list[tuple[bool, list[int]]] = []
    for token, label in list(zip(example.ids, example.labels, strict=True))[:_EXAMPLE_TOKENS]:
        learned = label != IGNORED
        if not runs or runs[-1][0] is not learned:
            runs.append((learned, []))
        runs[-1][1].append(token)
    return [{"text": tokenizer.decode(ids), "learned": learned} for learned, ids in runs]


def _tell(plan: DataPlan, found: Survey, formatter: Formatter, packers: Parts, ctx: StepContext) -> None:
    """Say everything that did not become what it looked like."""
    for said in flaw_warnings(found.n_flawed):
        ctx.emit(said)
    if formatter.n_refused:
        refused = "{n} chats are left out because the model's chat template refuses them: {problem}"
        ctx.emit(warning(refused, n=formatter.n_refused, problem=formatter.refusal))
    if formatter.n_unrolled:
        ctx.emit(
            note(
                "{n} chats became one sequence for each answer: the model's template changes earlier turns.",
                n=formatter.n_unrolled,
            )
        )
    n_over_long = sum(packer.n_over_long for packer in packers.values())
    if n_over_long and plan.over_long == "drop":
        ctx.emit(warning("{n} samples are longer than one sequence and are left out.", n=n_over_long))
    elif n_over_long:
        ctx.emit(note("{n} samples are longer than one sequence and were split.", n=n_over_long))
    if n_empty := sum(packer.n_without_answer for packer in packers.values()):
        ctx.emit(note("{n} sequences hold no part of an answer and are left out.", n=n_empty))
