"""Export: the fused folder as GGUF files, each read back, measured and opened by llama.cpp before it gets its name."""

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from torch import Tensor
from transformers import PreTrainedModel

from ..cancel import CancelToken
from ..context import StepContext
from ..evaluation.chain import Chain, free_memory
from ..evaluation.measurement import Measurement, load_measurement, paired
from ..evaluation.reading import Plain, plain
from ..events import Progress, Verdict, note, warning
from ..failures import UserError
from ..fusion.ingredients import finished_files, gather
from ..gguf_export.agreement import Position, check_probabilities, check_tokens, positions
from ..gguf_export.checks import Check
from ..gguf_export.dequantised import dequantised_model
from ..gguf_export.gguf_file import GgufFile
from ..gguf_export.llama import LlamaServer
from ..gguf_export.metadata import RUN_KEY, Metadata
from ..gguf_export.model_folder import ModelFolder
from ..gguf_export.recipe import RECIPES, Recipe
from ..gguf_export.verify import check_file
from ..gguf_export.vocabulary import read_vocabulary
from ..gguf_export.writer import Source, expected_bytes, write_gguf
from ..models.identity import read_base
from ..models.loading import load_tokenizer
from ..plan import Plan
from ..run_directory import (
    RunDirectory,
    read_json,
    rename,
    sha256_of_file,
    sha256_of_json,
    sync,
    sync_folder,
    write_json,
)
from ..soul.gate import load_soul

# Losses of the same model in two number formats; the second is what Q4_K_M usually costs, doubled.
LARGEST_LOSS_DIFFERENCE = {"f16": 0.01, "q4_k_m": 0.15}
GB = 1e9
_DEQUANTISED = "dequantised"


@dataclass(frozen=True)
class Finished:
    """A verified file under its final name; `row` is its entry in files.json."""

    row: dict[str, Any]
    measured: Measurement


def run(plan: Plan, ctx: StepContext) -> None:
    """Write, verify and measure the GGUF files of `plan.export.types`; a file that fails never gets its final name."""
    folder = fused_folder(ctx.run)
    _refuse_other_model(ctx.run, folder.path)
    source = _source(plan, ctx.run, folder)
    target = Path(plan.export.directory).expanduser() if plan.export.directory else ctx.folder
    target.mkdir(parents=True, exist_ok=True)
    content = _content(ctx.run, source)
    kinds: list[str] = [kind for kind in RECIPES if kind in plan.export.types]
    paths = {kind: target / f"{_file_name(plan.chat.model_name)}-{RECIPES[kind].label}.gguf" for kind in kinds}
    for path in paths.values():
        _refuse_foreign(ctx, path)
    chain = Chain.of(ctx, plan)
    written = {kind: row for kind in kinds if (row := _already(ctx, kind, paths[kind], content))}
    _check_space(target, source, [RECIPES[kind] for kind in kinds if kind not in written])
    finished: dict[str, Finished] = {}
    for kind in kinds:
        ctx.cancel.check()
        if kind in written:
            ctx.emit(note("{file} is finished already and is kept.", file=paths[kind].name))
            finished[kind] = _kept(ctx, written[kind], paths[kind], folder, chain)
            continue
        finished[kind] = done = _export(ctx, source, kind, paths[kind], chain)
        chain.keep(kind, done.measured, chain.made_of([done.row["sha256"]], _DEQUANTISED))
        write_json(_marker(ctx, kind), {"content": content, "path": str(paths[kind]), "row": done.row})
    _compare_losses(ctx, finished, chain)
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
        label = RECIPES[row["type"]].label
        try:
            file = GgufFile(run.path / row["path"])
            checks = [_check_hash(file.path, row["sha256"])]
            checks += check_file(file, folder, RECIPES[row["type"]], CancelToken(), lambda done, total: None)
        except UserError as error:
            checks = [Check("file", False, error.reason, "a sound GGUF file")]
        verdicts += [check.verdict(label) for check in checks]
    return verdicts


def _refuse_other_model(run: RunDirectory, folder: Path) -> None:
    """The proof spoke of the model this run fused; what lies in its folder now must be that one."""
    if finished_files(folder, gather(run)) is None:
        raise UserError(
            "The model in {folder} is not the one this run fused.", "Run the fusion step again.", folder=folder
        )


def _refuse_foreign(ctx: StepContext, path: Path) -> None:
    """UserError if another run, or somebody else, has a file of this name in the chosen folder."""
    if path.parent == ctx.folder or not path.exists():
        return
    try:
        ours = GgufFile(path).value(RUN_KEY) == ctx.run.identity()
    except UserError:  # no sound GGUF file, so none that this step gave a name
        ours = False
    if not ours:
        raise UserError(
            "{path} is there already and was not made by this run.",
            "Choose another folder or model name; delete that file first if nobody needs it.",
            path=path,
        )


def _export(ctx: StepContext, source: Source, kind: str, path: Path, chain: Chain) -> Finished:
    """One file from draft to final name."""
    recipe = RECIPES[kind]
    draft = path.with_name(f"{path.name}.{ctx.run.identity()}.part")
    try:
        digests = write_gguf(draft, source, recipe, ctx.cancel, _bytes(ctx, f"writing {recipe.label}"))
        sync(draft)
        checks, measured = _examined(ctx, source, draft, recipe, digests, chain)
        failed = [check for check in checks if check.blocking and not check.passed]
        if failed:
            raise UserError(
                "{file} failed its check: {name}: {measured}, expected {expected}.",
                "Nothing was kept under that name. Run the export step again; if it stays, report it with the run log.",
                file=path.name,
                name=failed[0].name,
                measured=failed[0].measured,
                expected=failed[0].expected,
            )
        types = GgufFile(draft).tensor_types()
        sha256 = sha256_of_file(draft)
        _refuse_foreign(ctx, path)  # once more: another run may have been quicker
        rename(draft, path)
        sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)
    row = {
        "path": ctx.run.name_of(path),
        "type": kind,
        "bytes": path.stat().st_size,
        "sha256": sha256,
        "n_tensors": sum(types.values()),
        "tensor_types": types,
        "checks": [check.row() for check in checks],
    }
    return Finished(row, measured)


def _examined(
    ctx: StepContext, source: Source, draft: Path, recipe: Recipe, digests: dict[str, str], chain: Chain
) -> tuple[list[Check], Measurement]:
    """All checks of a draft, each told as it is made, and its held-out losses."""
    label = recipe.label

    def told(checks: list[Check]) -> list[Check]:
        for check in checks:
            ctx.emit(check.verdict(label))
        return checks

    file = GgufFile(draft)
    checks = told(check_file(file, source.folder, recipe, ctx.cancel, _bytes(ctx, f"checking {label}"), digests))
    measured, places = _measured(ctx, file, source.folder, chain, label)
    ctx.emit(Progress(0, len(places), "positions", f"comparing {label} with llama.cpp"))
    n_threads = psutil.cpu_count(logical=False) or 1
    with LlamaServer(draft, n_ctx=512, n_threads=n_threads) as server:
        checks += told([check_tokens(server, load_tokenizer(source.folder.path))])
        checks += told(check_probabilities(server, places, recipe, ctx.cancel))
    ctx.emit(Progress(len(places), len(places), "positions", f"comparing {label} with llama.cpp"))
    return checks, measured


def _measured(
    ctx: StepContext, file: GgufFile, folder: ModelFolder, chain: Chain, label: str
) -> tuple[Measurement, list[Position]]:
    """Held-out losses of the file's own tensors in torch, and torch's view of some positions."""
    model, measured = _read(ctx, file, folder, chain, label)
    places = positions(Plain(model).logits, chain.held_out, ctx.cancel)
    del model
    free_memory()  # it is needed for llama.cpp next
    return measured, places


def _read(
    ctx: StepContext, file: GgufFile, folder: ModelFolder, chain: Chain, label: str
) -> tuple[PreTrainedModel, Measurement]:
    distance = chain.distance()
    model = dequantised_model(file, folder, ctx.cancel)
    return model, chain.measure(f"measuring {label}", plain(model, chain.held_out.input_ids[0]), distance)


def _kept(ctx: StepContext, row: dict[str, Any], path: Path, folder: ModelFolder, chain: Chain) -> Finished:
    """A finished file; measured again where the plan now asks for more (KL on more tokens) than was measured."""
    kind = row["type"]
    of = chain.made_of([row["sha256"]], _DEQUANTISED)
    measured = chain.kept(kind, of)
    if measured is None:
        measured = _read(ctx, GgufFile(path), folder, chain, RECIPES[kind].label)[1]
        free_memory()
        chain.keep(kind, measured, of)
    return Finished(row, measured)


def _compare_losses(ctx: StepContext, finished: dict[str, Finished], chain: Chain) -> None:
    """Each file's held-out loss against the finest one before it; a red verdict and a warning, but no failure."""
    reference, name = _fused_losses(ctx.run, chain), "fused"
    for kind, done in finished.items():
        label, limit = RECIPES[kind].label, LARGEST_LOSS_DIFFERENCE[kind]
        if reference is not None:
            more, error, _ = paired(done.measured.losses, reference)
            passed = abs(more) <= limit if kind == "f16" else more <= limit
            check = Check(
                f"held-out loss against {name}",
                passed,
                f"{more:+.4f} ± {error:.4f} nats",
                f"at most {limit} nats more",
                False,
            )
            ctx.emit(check.verdict(label))
            done.row["checks"] = [c for c in done.row["checks"] if c["name"] != check.name] + [check.row()]
            if not passed:
                ctx.emit(
                    warning(
                        "{label} loses {more} nats against {name}: use a finer type.",
                        label=label,
                        more=f"{more:.3f}",
                        name=name,
                    )
                )
        if kind == "f16":
            reference, name = done.measured.losses, label


def _fused_losses(run: RunDirectory, chain: Chain) -> Tensor | None:
    """Token by token; None where the fused model was measured on other tokens, or by an earlier version."""
    path = run.step_folder("fuse") / "measured" / "fused.safetensors"
    if not path.is_file():
        return None
    measured, of = load_measurement(path)
    return measured.losses if of.get("tokens") == chain.tokens_sha256 else None


def _leave(ctx: StepContext, finished: dict[str, Finished], paths: dict[str, Path], chain: Chain) -> None:
    write_json(ctx.folder / "files.json", [done.row for done in finished.values()])
    for kind, done in finished.items():
        ctx.artifact(paths[kind], done.row["sha256"])
    ctx.artifact(ctx.folder / "files.json")
    for path in chain.files():
        ctx.artifact(path, evidence=True)
    chain.forget_base()  # 200 MB for a small model; the last stage is measured


def _source(plan: Plan, run: RunDirectory, folder: ModelFolder) -> Source:
    soul = load_soul(run.step_folder("train") / "soul.safetensors")
    vocabulary = read_vocabulary(folder.path, folder.config.vocab_size)
    # Only a file outside the run says whose it is: inside, the same plan gives the same bytes in every run.
    owner = run.identity() if plan.export.directory else ""
    return Source(folder, vocabulary, Metadata(plan.chat.model_name, read_base(run).license, soul, owner))


def _content(run: RunDirectory, source: Source) -> str:
    """Fingerprint of what the files are made from: the fused weights and the header's own words."""
    done = run.done("fuse")
    weights = {path.name: path.stat().st_size for path in sorted(source.folder.path.glob("*.safetensors"))}
    meta = source.metadata
    soul = [meta.soul.alpha, meta.soul.base_sha256] if meta.soul else []
    header = [meta.name, meta.license, soul, list(source.vocabulary.tokens)]
    return sha256_of_json([done.digest if done else "", weights, header])


def _already(ctx: StepContext, kind: str, path: Path, content: str) -> dict[str, Any] | None:
    """The row of a file that an earlier attempt finished from the same content, its bytes still the same."""
    marker = _marker(ctx, kind)
    if not (marker.is_file() and path.is_file()):
        return None
    record = read_json(marker)
    if record["content"] != content or record["path"] != str(path):
        return None
    row: dict[str, Any] = record["row"]
    return row if sha256_of_file(path) == row["sha256"] else None


def _marker(ctx: StepContext, kind: str) -> Path:
    return ctx.folder / f"finished-{kind}.json"


def _check_space(target: Path, source: Source, recipes: list[Recipe]) -> None:
    needed = sum(expected_bytes(source, recipe) for recipe in recipes)
    free = shutil.disk_usage(target).free
    if needed > free:
        raise UserError(
            "The GGUF files need {needed} GB, but only {free} GB are free in {folder}.",
            "Free some space there, or choose a folder on another drive for the GGUF files.",
            needed=f"{needed / GB:.2f}",
            free=f"{free / GB:.2f}",
            folder=target,
        )


def _check_hash(path: Path, expected: str) -> Check:
    found = sha256_of_file(path)
    return Check("SHA-256", found == expected, found, expected)


def _file_name(model_name: str) -> str:
    """The model's name with everything a file system may not like replaced."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", model_name)


def _bytes(ctx: StepContext, phase: str) -> Callable[[int, int], None]:
    return lambda done, total: ctx.emit(Progress(done, total, "bytes", phase))
