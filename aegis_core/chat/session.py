"""Opening a chat with a run's model: which file, which backend, and that nothing else works on the run."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from ..cancel import CancelToken
from ..events import Event, Progress, note, warning
from ..failures import UserError
from ..models.identity import read_base
from ..plan import Plan
from ..run_directory import RunDirectory, read_json
from .backend import Backend
from .base_gguf import ensure_base_gguf
from .ollama import OllamaClient
from .ollama_made import known, remember
from .ollama_model import OllamaBackend, ensure_model
from .ollama_recipe import Recipe, write_modelfile
from .ollama_state import look
from .prompt import ChatPrompts
from .template import PromptMismatch

MIB = 1 << 20
# What fits most machines and is quick first; BF16 and F32 are slow nearly everywhere.
TO_TALK_TO = ("q4_k_m", "q4_k_s", "q5_k_m", "q6_k", "q8_0", "f16", "bf16", "f32")


def open_backend(
    run: RunDirectory,
    plan: Plan,
    model: str = "aegis",
    emit: Callable[[Event], None] = lambda event: None,
    cancel: CancelToken | None = None,
) -> Backend:
    """The run's fused model (aegis) or the model it came from (base), ready to answer.

    Ollama when the plan allows it, one answers and makes the tokenizer's prompts, else llama.cpp in this process.
    `emit` hears progress and notes. UserError says in one sentence why there is nothing to talk to.
    """
    cancel = cancel or CancelToken()
    gguf = exported_gguf(run) if model == "aegis" else ensure_base_gguf(run, cancel, emit)
    prompts = ChatPrompts(model_folder(run) if model == "aegis" else read_base(run).path)
    if model == "aegis":
        _leave_modelfile(run, plan, gguf, prompts, emit)
    if prompts.states_date:
        emit(
            note(
                "The chat template of this model states the date: {date}. What Ollama holds is renewed on another day.",
                date=prompts.now.date().isoformat(),
            )
        )
    if plan.chat.backend != "embedded" and (version := _ollama_answers(plan, emit)):
        try:
            return _in_ollama(run, plan, model, gguf, prompts, version, emit, cancel)
        except PromptMismatch as mismatch:
            if plan.chat.backend == "ollama":
                raise
            emit(warning("The built-in llama.cpp answers instead of Ollama. {problem}", problem=mismatch.reason))
    from .embedded import EmbeddedBackend  # loads the native library

    emit(note("Loading {file} in the built-in llama.cpp.", file=gguf.name))
    return EmbeddedBackend(gguf, prompts, plan.chat.num_ctx, plan.chat.system if prompts.takes_system else "", emit)


def refuse_while_working(run: RunDirectory) -> None:
    """UserError while a step of the run is at work: training and chat would take each other's memory and cores."""
    if run.is_locked():
        raise UserError("A step of this run is working right now.", "Chat again when it has finished or been stopped.")


def exported_gguf(run: RunDirectory) -> Path:
    """The GGUF to talk to, by TO_TALK_TO; UserError if there is none."""
    listed = run.step_folder("export") / "files.json"
    rows = read_json(listed) if listed.is_file() else []
    best = sorted(rows, key=lambda row: TO_TALK_TO.index(row["type"]))
    path = run.path / best[0]["path"] if best else None
    if path is None or not path.is_file():
        raise UserError("There is no exported model to talk to yet.", "Run the export step first.")
    return path


def model_folder(run: RunDirectory) -> Path:
    """The fused model's folder, whose tokenizer the exported file carries."""
    proof = run.step_folder("fuse") / "proof.json"
    if not proof.is_file():
        raise UserError("There is no fused model yet.", "Run the fusion step first.")
    return run.path / str(read_json(proof)["folder"])


def _ollama_answers(plan: Plan, emit: Callable[[Event], None]) -> str:
    """Its version, empty where there is none to work with; UserError where the plan demands one."""
    state = look()
    emit(state.sentence())
    if state.problem is None:
        return state.version
    if plan.chat.backend == "ollama":
        raise UserError(
            state.problem.reason_template,
            state.problem.advice_template,
            changes={"chat.backend": "auto"},
            **state.problem.values,
        )
    return ""


def _leave_modelfile(
    run: RunDirectory, plan: Plan, gguf: Path, prompts: ChatPrompts, emit: Callable[[Event], None]
) -> None:
    """For use by hand, whichever backend answers here; a model that Ollama cannot be given has none."""
    try:
        recipe = Recipe.of(gguf, prompts, plan.chat, read_base(run).license)
    except UserError as error:
        emit(note("There is no Modelfile for this model: {problem}", problem=error.reason))
        return
    write_modelfile(run, gguf, recipe, plan.chat.model_name, emit)


def _in_ollama(
    run: RunDirectory,
    plan: Plan,
    model: str,
    gguf: Path,
    prompts: ChatPrompts,
    version: str,
    emit: Callable[[Event], None],
    cancel: CancelToken,
) -> Backend:
    name = plan.chat.model_name if model == "aegis" else f"{plan.chat.model_name}-base"
    client = OllamaClient()

    def show(phase: str, done: int, total: int) -> None:
        if phase == "upload":
            emit(Progress(done / MIB, total / MIB, "MiB", "copying to Ollama"))
        else:
            emit(Progress(done / MIB, total / MIB, "MiB", phase) if total else note("Ollama: {status}", status=phase))

    with ExitStack() as on_failure:
        on_failure.callback(client.close)
        made = ensure_model(client, name, gguf, prompts, plan.chat, read_base(run).license, cancel, show, emit)
        backend = OllamaBackend(client, made, prompts, plan.chat, emit)
        _compare_once(backend, version, cancel, emit)
        on_failure.pop_all()  # from here on the backend closes it
    return backend


def _compare_once(backend: OllamaBackend, version: str, cancel: CancelToken, emit: Callable[[Event], None]) -> None:
    """PromptMismatch before the first answer, whoever asks for it; once for each model and version of Ollama, since
    another version may make other prompts of the same model."""
    base, name = backend.client.base, backend.made.name
    noted = known(base, name)
    if noted.get("compared") == version:
        return
    emit(note("Comparing the prompts that Ollama makes with the tokenizer's."))
    check = backend.check_prompts(cancel)
    if check.n_conversations:
        remember(base, name, {**noted, "compared": version})
