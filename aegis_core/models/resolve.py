"""From a plan's model source to a folder on this machine whose every weight is known by hash."""

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from ..context import StepContext
from ..events import Progress, note, warning
from ..failures import UserError
from ..plan import DEMO, ModelPlan
from ..run_directory import sha256_of_file
from . import demo, facts
from .consent import Part, code_hash, own_code, require_consent
from .hub import HubModel
from .hub_files import fetch, forget, missing_bytes, remember_revision
from .identity import BaseModel
from .source import DemoModel, LocalModel, license_in, locate, read_config
from .weights import combined_sha256, stored_tensors, weight_files, weight_hashes

_EVERY_SECONDS = 0.2
Check = Callable[[Path, tuple[Part, ...]], None]


def resolve(plan: ModelPlan, ctx: StepContext, require_usable: Check) -> BaseModel:
    """Fetch what is missing and describe the base model; UserError with one sentence if it cannot be used.

    What it will cost is said, and whether the disks can hold it is asked, before anything large is fetched.
    `require_usable` is given a folder with configuration and tokenizer (and, once they are here, weights), and the
    parts of the model that may run code of its own.
    """
    found = locate(plan)
    if isinstance(found, DemoModel):
        return _demo(ctx, require_usable)
    if isinstance(found, LocalModel):
        return _local(plan, found, ctx, require_usable)
    return _from_hub(plan, found, ctx, require_usable)


def _demo(ctx: StepContext, require_usable: Check) -> BaseModel:
    _announce(facts.demo_facts(ctx.run.plan(), ctx.run.path), ctx)
    folder = demo.ensure_demo(ctx.cancel, lambda what: ctx.emit(note(_DEMO_NOTES[what])))
    require_usable(folder, ())
    return describe(DEMO, demo.PACKAGE, folder, demo.LICENSE, ctx)


def _local(plan: ModelPlan, found: LocalModel, ctx: StepContext, require_usable: Check) -> BaseModel:
    if found.commit:
        ctx.emit(
            warning(
                "The hub does not answer; the complete copy of {model} on this machine is used, commit {commit}.",
                model=plan.source,
                commit=found.commit,
            )
        )
    read_config(found.folder)
    source = plan.source if found.commit else str(found.folder)
    parts = own_code(found.folder)
    require_consent(plan.remote_code_consent, source, found.commit or code_hash(found.folder), parts)
    require_usable(found.folder, parts)
    _announce(facts.folder_facts(ctx.run.plan(), ctx.run.path, found), ctx)
    return describe(source, found.commit or "local", found.folder, license_in(found.folder), ctx, parts)


def _from_hub(plan: ModelPlan, model: HubModel, ctx: StepContext, require_usable: Check) -> BaseModel:
    told = facts.hub_facts(ctx.run.plan(), ctx.run.path, model)
    ctx.emit(facts.announcement(told))
    folder = fetch(model, model.small_files, ctx.cancel)
    remember_revision(model)
    parts = own_code(folder)
    require_consent(plan.remote_code_consent, model.source, model.commit, parts)
    if parts:
        fetch(model, model.code_files, ctx.cancel)
    require_usable(folder, parts)
    facts.require_room(told)
    weights = model.weight_files(folder / model.index.name if model.index else None)
    if missing_bytes(model, weights):
        total = sum(file.n_bytes for file in weights)
        fetch(model, weights, ctx.cancel, _now_and_then(ctx, lambda n: Progress(n, total, "bytes", "download")))
    expected = {file.name: file.sha256 for file in weights if file.sha256}
    base = describe(model.source, model.commit, folder, model.license, ctx, parts, expected)
    require_usable(folder, parts)
    return base


_READ_ALONG = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
_DEMO_NOTES = {
    "fetch": "Fetching the demo model, 93 MB, once.",
    "convert": "Converting the demo model into plain weights, once.",
}


def describe(
    source: str,
    revision: str,
    folder: Path,
    license_name: str,
    ctx: StepContext,
    parts: tuple[Part, ...] = (),
    expected: Mapping[str, str] | None = None,
) -> BaseModel:
    """Read config and tensor table of a local folder and hash its weights.

    `expected` are hashes by file name as the hub states them; a file that differs is removed, with a UserError.
    """
    config = read_config(folder)
    total = sum(file.stat().st_size for file in weight_files(folder))
    tell = _now_and_then(ctx, lambda n: Progress(n, total, "bytes", "hash"))
    hashes = weight_hashes(folder, ctx.cancel, _added(tell))
    for name, sha256 in (expected or {}).items():
        if hashes.get(name) != sha256:
            forget(folder / name)
            raise UserError(
                "{name} of {source} is not the file that the hub describes; it was removed.",
                "Run this step again to fetch it anew; if it stays so, something on the way changes files.",
                name=name,
                source=source,
            )
    shapes = {tensor.name: tensor.shape for tensor in stored_tensors(folder)}
    head = shapes.get("lm_head.weight") or shapes.get("model.embed_tokens.weight")
    if head is None:
        raise UserError(
            "The model in {folder} has no LM head and no token embedding of the known names.",
            "Choose a causal language model such as Phi-3, Llama, Mistral, Qwen or Gemma.",
            folder=folder,
        )
    return BaseModel(
        source=source,
        revision=revision,
        folder=str(folder),
        sha256=combined_sha256(hashes),
        license=license_name,
        architecture=(config.get("architectures") or ["unknown"])[0],
        n_parameters=sum(math.prod(shape) for shape in shapes.values()),
        hidden_size=head[1],
        vocabulary_size=head[0],
        tied_embeddings="lm_head.weight" not in shapes,
        files=hashes,
        companions=_companions(folder, parts),
        own_code=parts,
    )


def _companions(folder: Path, parts: tuple[Part, ...]) -> dict[str, str]:
    """Name → SHA-256 of what the model is read from besides its weights."""
    code = sorted(path.name for path in folder.glob("*.py")) if parts else []
    return {name: sha256_of_file(folder / name) for name in (*_READ_ALONG, *code) if (folder / name).is_file()}


def _announce(told: facts.ModelFacts, ctx: StepContext) -> None:
    ctx.emit(facts.announcement(told))
    facts.require_room(told)


def _now_and_then(ctx: StepContext, progress: Callable[[int], Progress]) -> Callable[[int], None]:
    """A listener to the number of bytes done, which reports a few times a second and at the end."""
    last = 0.0

    def on_bytes(n_done: int) -> None:
        nonlocal last
        event = progress(n_done)
        if time.monotonic() - last >= _EVERY_SECONDS or event.done == event.total:
            last = time.monotonic()
            ctx.emit(event)

    return on_bytes


def _added(on_bytes: Callable[[int], None]) -> Callable[[int], None]:
    """A listener to single pieces that passes on their sum."""
    n_done = 0

    def on_piece(n_bytes: int) -> None:
        nonlocal n_done
        n_done += n_bytes
        on_bytes(n_done)

    return on_piece
