"""Step 6: adapter, gate and rotation folded into plain weights, and the proof that nothing was lost."""

import shutil
from collections.abc import Callable
from pathlib import Path

from ..context import StepContext
from ..evaluation.chain import Chain
from ..events import Progress, note, warning
from ..failures import UserError
from ..fusion.base_check import check_base_unchanged
from ..fusion.ingredients import DEQUANTISED, RECORD, Ingredients, finished_files, fused_folder, gather, read_record
from ..fusion.merge import merge
from ..fusion.portrait import portrait
from ..fusion.proof import Proof, prove
from ..fusion.target import give_name, refuse_foreign, unproven
from ..models.loading import load_tokenizer
from ..models.weights import weight_files
from ..plan import Plan
from ..report.card import early_card
from ..run_directory import rename, settle, sha256_of_file, write_json, write_text

_REPORT_BYTES = 1 << 26


def run(plan: Plan, ctx: StepContext) -> None:
    ingredients = gather(ctx.run, plan.fuse.base)
    folder = fused_folder(plan, ctx.run)
    refuse_foreign(folder, ingredients.run)
    settle(folder)
    model = next((place for place in (folder, unproven(folder)) if _is_whole(place, ingredients, ctx)), None)
    if model:
        n_base_bytes = sum(file.stat().st_size for file in weight_files(ingredients.base.path))
        check_base_unchanged(ingredients.base, ctx.cancel, _adding(ctx, n_base_bytes, "hash"))
        ctx.emit(note("The fused model in {folder} is complete; only its proof is still to be given.", folder=model))
    else:
        model = unproven(folder)
        merge(ingredients, model, ctx.cancel, _reporting(ctx, "merge"))
    chain = Chain.of(ctx, plan)
    chain.place()  # says where both will run
    if ingredients.dequantised:  # the other merge base, so that the report can hold one against the other
        trained = ctx.run.step_folder("train")
        chain.adapted("gated", ingredients.adapter, trained / "soul.safetensors")
    proof = prove(
        ingredients, model, chain.held_out, ctx.folder, ctx.cancel, _sequences(ctx), chain.distance, chain.dtype
    )
    for verdict in proof.verdicts():
        ctx.emit(verdict)
    if not proof.passed:
        _refuse(model, folder, proof, ctx)
    if model != folder:
        give_name(folder)
    shutil.rmtree(unproven(folder), ignore_errors=True)  # of an attempt with settings that were taken back
    parts = [ingredients.adapter_sha256, ingredients.soul_sha256]
    form = [DEQUANTISED] if ingredients.dequantised else []
    reference = f"gated_{DEQUANTISED}" if ingredients.dequantised else "gated"
    chain.keep(reference, proof.measured_gated, chain.made_of([*parts, *form], proof.computed_in))
    chain.keep("fused", proof.measured_fused, chain.made_of([*parts, *form, "fused"], proof.computed_in))
    if not ingredients.dequantised:
        chain.forget(f"gated_{DEQUANTISED}")  # of a merge base that was taken back
    write_json(ctx.folder / "proof.json", proof.as_row(ctx.run.name_of(folder)))
    write_json(
        ctx.folder / "head.json",
        portrait(ingredients.base.path, folder, ingredients.soul, _names(ingredients, ctx), ctx.cancel),
    )
    _declare(folder, ingredients, ctx)
    _leave_card(plan, folder, ctx)
    ctx.artifact(ctx.folder / "head.json", evidence=True)
    for path in chain.files():
        ctx.artifact(path, evidence=True)


def _is_whole(folder: Path, ingredients: Ingredients, ctx: StepContext) -> bool:
    """Whether an earlier attempt left exactly this model, every file unharmed."""
    files = finished_files(folder, ingredients)
    if files is None:
        return False
    for name, sha256 in files.items():
        ctx.cancel.check()
        if sha256_of_file(folder / name) != sha256:
            return False
    return True


def _refuse(model: Path, folder: Path, proof: Proof, ctx: StepContext) -> None:
    """Keep the model as evidence beside `folder`, whose name it does not get, and say which claim failed."""
    refused = folder.with_name(folder.name + ".refused")
    shutil.rmtree(refused, ignore_errors=True)
    rename(model, refused)
    write_json(ctx.folder / "proof.json", proof.as_row(ctx.run.name_of(refused)))
    failed = [f"{v.name} {v.measured} ({v.expected})" for v in proof.verdicts() if v.status == "fail"]
    if proof.wants_tokens:
        raise UserError(
            "The loss on {n_tokens} held-out tokens does not show that the fused model is the gated one: {failed}.",
            "Rounding to {dtype} may do that on so few; hold more of the data out. It is kept in {folder} as evidence.",
            n_tokens=proof.n_tokens,
            failed=", ".join(failed),
            dtype=proof.dtype,
            folder=refused,
        )
    raise UserError(
        "The fused model is not the gated one: {failed}.",
        "It is kept in {folder} as evidence; run this step again, and report it if it stays.",
        failed=", ".join(failed),
        folder=refused,
    )


def _declare(folder: Path, ingredients: Ingredients, ctx: StepContext) -> None:
    for name, sha256 in (finished_files(folder, ingredients) or {}).items():
        ctx.artifact(folder / name, sha256)
    for path in (folder / RECORD, ctx.folder / "proof.json"):
        ctx.artifact(path)


def _leave_card(plan: Plan, folder: Path, ctx: StepContext) -> None:
    """The model's card, as evidence: it tells what was measured, and no later step builds on it.

    A folder that an earlier version merged counts the base's card among its files, so there it stays.
    """
    path = folder / "README.md"
    if "README.md" not in read_record(folder).get("files", {}):
        write_text(path, early_card(ctx.run, plan, folder))
        ctx.artifact(path, evidence=True)


def _names(ingredients: Ingredients, ctx: StepContext) -> Callable[[int], str]:
    """What to call a row of the head: its token's text, or its number where there is no tokenizer or no such token."""
    try:
        tokenizer = load_tokenizer(ingredients.base.path, own_code="tokenizer" in ingredients.base.own_code)
    except UserError as error:
        ctx.emit(warning("The head's rows go by number in its picture: {problem}", problem=error.reason))
        return lambda row: f"#{row}"

    def name(row: int) -> str:
        if row >= len(tokenizer):
            return f"#{row}"
        text = str(tokenizer.decode([row]))
        return str(tokenizer.convert_ids_to_tokens(row)) if not text or "\ufffd" in text else text

    return name


def _reporting(ctx: StepContext, phase: str) -> Callable[[int, int], None]:
    """A listener for (bytes done, bytes in all) that reports every 64 MiB and at the end."""
    reported = 0

    def on_progress(done: int, total: int) -> None:
        nonlocal reported
        if done - reported >= _REPORT_BYTES or done == total:
            reported = done
            ctx.emit(Progress(done, total, "bytes", phase))

    return on_progress


def _adding(ctx: StepContext, total: int, phase: str) -> Callable[[int], None]:
    """The same for one who only says how many bytes were just done."""
    report, done = _reporting(ctx, phase), 0

    def on_bytes(n_bytes: int) -> None:
        nonlocal done
        done += n_bytes
        report(done, total)

    return on_bytes


def _sequences(ctx: StepContext) -> Callable[[str, int, int], None]:
    return lambda phase, done, total: ctx.emit(Progress(done, total, "sequences", phase))
