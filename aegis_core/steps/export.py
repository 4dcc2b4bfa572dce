"""Export: the fused folder as GGUF files, each read back, measured and opened by llama.cpp before it gets its name."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..cancel import CancelToken
from ..context import StepContext
from ..evaluation.chain import Chain
from ..events import Progress, Verdict, note
from ..failures import UserError
from ..fusion.ingredients import finished_files, gather
from ..gguf_export.checks import Check
from ..gguf_export.draft import Draft, Source
from ..gguf_export.examination import Examination
from ..gguf_export.finished import Finished, Records, file_name, refuse_foreign
from ..gguf_export.forecast import GB, Forecast, forecast, require_space
from ..gguf_export.gguf_file import GgufFile
from ..gguf_export.losses import compare_losses
from ..gguf_export.metadata import Metadata
from ..gguf_export.model_folder import ModelFolder
from ..gguf_export.quantiser import Quantiser
from ..gguf_export.recipe import RECIPES
from ..gguf_export.verify import check_file
from ..gguf_export.vocabulary import read_vocabulary
from ..gguf_export.writer import write_files
from ..models.identity import read_base
from ..plan import Plan
from ..run_directory import RunDirectory, read_json, rename, sync, sync_folder, write_json
from ..soul.gate import load_soul

_DEQUANTISED = "dequantised"


def run(plan: Plan, ctx: StepContext) -> None:
    """Write, verify and measure the GGUF files of `plan.export.types`; a file that fails never gets its final name."""
    folder = fused_folder(ctx.run)
    _refuse_other_model(ctx.run, folder.path)
    source = _source(plan, ctx.run, folder)
    target = Path(plan.export.directory).expanduser() if plan.export.directory else ctx.folder
    target.mkdir(parents=True, exist_ok=True)
    kinds: list[str] = [kind for kind in RECIPES if kind in plan.export.types]
    paths = {kind: target / file_name(plan.chat.model_name, RECIPES[kind].label) for kind in kinds}
    for path in paths.values():
        refuse_foreign(ctx, path)
    chain, records = Chain.of(ctx, plan), Records(ctx, source)
    examination = Examination(ctx, folder, chain)
    kept = {kind: row for kind in kinds if (row := records.find(kind, paths[kind]))}
    finished = {kind: _kept(ctx, row, paths[kind], examination, chain) for kind, row in kept.items()}
    if missing := {kind: path for kind, path in paths.items() if kind not in kept}:
        expected = forecast(source, missing, was_tied=read_base(ctx.run).tied_embeddings)
        require_space(target, expected.n_bytes)
        _tell(ctx, expected, missing)
        finished |= _export(ctx, source, missing, examination, records, chain, expected.quantiser)
    finished = {kind: finished[kind] for kind in kinds}
    compare_losses(ctx, finished, chain)
    _leave(ctx, finished, paths, chain)


def fused_folder(run: RunDirectory) -> ModelFolder:
    """The folder that the fusion step proved equal to the gated model."""
    return ModelFolder(run.path / read_json(run.step_folder("fuse") / "proof.json")["folder"])


def verify(run: RunDirectory) -> list[Verdict]:
    """Recompute the file checks of every exported file: hash, size, tensor table, every tensor against its source.

    A file that is gone or damaged is a failed verdict, not an error.
    """
    folder, verdicts = fused_folder(run), []
    for row in read_json(run.step_folder("export") / "files.json"):
        recipe = RECIPES[row["type"]]
        try:
            file = GgufFile(run.path / row["path"])
            checks = check_file(file, folder, recipe, CancelToken(), lambda done, total: None, row["sha256"], "SHA-256")
        except UserError as error:
            checks = [Check("file", False, error.reason, "a sound GGUF file")]
        verdicts += [check.verdict(recipe.label) for check in checks]
    return verdicts


def _refuse_other_model(run: RunDirectory, folder: Path) -> None:
    """The proof spoke of the model this run fused; what lies in its folder now must be that one."""
    if finished_files(folder, gather(run)) is None:
        raise UserError(
            "The model in {folder} is not the one this run fused.", "Run the fusion step again.", folder=folder
        )


def _source(plan: Plan, run: RunDirectory, folder: ModelFolder) -> Source:
    soul = load_soul(run.step_folder("train") / "soul.safetensors")
    vocabulary = read_vocabulary(folder.path, folder.config.vocab_size)
    # Only a file outside the run says whose it is: inside, the same plan gives the same bytes in every run.
    owner = run.identity() if plan.export.directory else ""
    return Source(folder, vocabulary, Metadata(plan.chat.model_name, read_base(run).license, soul, owner))


def _tell(ctx: StepContext, expected: Forecast, paths: dict[str, Path]) -> None:
    """Sizes, time and means, before anything is written."""
    for file in expected.files:
        formats = ", ".join(f"{n} {name}" for name, n in file.formats.items())
        ctx.emit(
            note(
                "{file} will have {size} GB ({formats}).",
                file=paths[file.kind].name,
                size=f"{file.n_bytes / GB:.2f}",
                formats=formats,
            )
        )
    if expected.untied_bytes:
        ctx.emit(
            note(
                "{size} GB of it are the output layer: the base model shared it with its embeddings, which must stay "
                "as they are.",
                size=f"{expected.untied_bytes / GB:.2f}",
            )
        )
    ctx.emit(
        note(
            "Writing takes about {seconds} seconds, quantising with {quantiser}; all files are written in one pass.",
            seconds=max(1, round(expected.seconds)),
            quantiser=expected.quantiser.name,
        )
    )


def _export(
    ctx: StepContext,
    source: Source,
    paths: dict[str, Path],
    examination: Examination,
    records: Records,
    chain: Chain,
    quantiser: Quantiser,
) -> dict[str, Finished]:
    """All files from drafts to final names: written together, then examined and named one by one."""
    drafts = {kind: path.with_name(f"{path.name}.{ctx.run.identity()}.part") for kind, path in paths.items()}
    try:
        digests = _written(ctx, source, drafts, quantiser)
        finished = {}
        for kind, path in paths.items():
            ctx.cancel.check()
            recipe = RECIPES[kind]
            checks, measured = examination.examine(GgufFile(drafts[kind]), path.name, recipe, digests[kind])
            refuse_foreign(ctx, path)  # once more: another run may have been quicker
            rename(drafts[kind], path)
            sync_folder(path.parent)
            row = _row(ctx, kind, path, digests[kind], checks)
            row |= {"quantiser": quantiser.name} if recipe.type.quantised else {}
            chain.keep(kind, measured, chain.made_of([row["sha256"]], _DEQUANTISED))
            records.keep(kind, path, row)
            finished[kind] = Finished(row, measured)
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)
    return finished


def _written(ctx: StepContext, source: Source, paths: dict[str, Path], quantiser: Quantiser) -> dict[str, str]:
    """All drafts in one pass over the model; their SHA-256 by kind."""
    labels = ", ".join(RECIPES[kind].label for kind in paths)

    def on_bytes(done: int, total: int) -> None:
        ctx.emit(Progress(done, total, "bytes", f"writing {labels}"))

    with ExitStack() as stack:
        drafts = [stack.enter_context(Draft(path, source, RECIPES[kind])) for kind, path in paths.items()]
        digests = write_files(drafts, source.folder, ctx.cancel, on_bytes, quantiser)
    for path in paths.values():
        sync(path)
    return dict(zip(paths, digests, strict=True))


def _row(ctx: StepContext, kind: str, path: Path, sha256: str, checks: list[Check]) -> dict[str, Any]:
    """A file's entry in files.json."""
    types = GgufFile(path).tensor_types()
    return {
        "path": ctx.run.name_of(path),
        "type": kind,
        "bytes": path.stat().st_size,
        "sha256": sha256,
        "n_tensors": sum(types.values()),
        "tensor_types": types,
        "checks": [check.row() for check in checks],
    }


def _kept(ctx: StepContext, row: dict[str, Any], path: Path, examination: Examination, chain: Chain) -> Finished:
    """A finished file; measured again where the plan now asks for more (KL on more tokens) than was measured."""
    ctx.emit(note("{file} is finished already and is kept.", file=path.name))
    kind = row["type"]
    of = chain.made_of([row["sha256"]], _DEQUANTISED)
    measured = chain.kept(kind, of)
    if measured is None:
        measured = examination.losses(GgufFile(path), RECIPES[kind].label)
        chain.keep(kind, measured, of)
    return Finished(row, measured)


def _leave(ctx: StepContext, finished: dict[str, Finished], paths: dict[str, Path], chain: Chain) -> None:
    write_json(ctx.folder / "files.json", [done.row for done in finished.values()])
    for kind, done in finished.items():
        ctx.artifact(paths[kind], done.row["sha256"])
    ctx.artifact(ctx.folder / "files.json")
    for path in chain.files():
        ctx.artifact(path, evidence=True)
    chain.forget_base()  # 200 MB for a small model; the last stage is measured
