"""`aegis ollama`: whether it is there, starting it, its models, and taking them out of its memory or off its disk."""

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ..chat.ollama import InstalledModel, LoadedModel, OllamaClient, full_name
from ..chat.ollama_made import is_ours
from ..chat.ollama_state import OllamaState, look, start_ollama
from ..failures import UserError

app = typer.Typer(help="Ollama: its state, its models.", rich_markup_mode=None)
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]
Name = Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model, as aegis ollama list shows it.")]


@app.callback(invoke_without_command=True)
def without_command(context: typer.Context) -> int | None:
    """Say whether there is an Ollama to work with; see --help for the commands."""
    return status() if context.invoked_subcommand is None else None


@app.command()
def status(as_json: AsJson = False) -> int:
    """Say whether there is an Ollama to work with, and if not, what to do; exit code 1 if there is none."""
    state = look()
    if as_json:
        print(json.dumps(_row(state)))
    else:
        _say(state.sentence().text)
        if state.problem is not None:
            _say(state.problem.advice)
    return 0 if state.usable else 1


@app.command()
def start() -> None:
    """Start the Ollama that is installed here and wait until it answers."""
    _say(start_ollama().sentence().text)


@app.command("list")
def models(as_json: AsJson = False) -> None:
    """List the models that Ollama has, which of them AEGIS made, and which are in its memory."""
    with _client() as client:
        found, loaded = client.models(), {model.digest: model for model in client.loaded()}
    if as_json:
        rows = [_model_row(client.base, model, loaded.get(model.digest)) for model in found]
        print(json.dumps(rows, ensure_ascii=False))
        return
    table = Table("model", "GB", "made by AEGIS", "in memory", box=None, pad_edge=False, header_style="bold")
    for model in found:
        ours = "yes" if is_ours(client.base, model.name, model.digest) else ""
        table.add_row(model.name, f"{model.size_bytes / 1e9:.2f}", ours, _memory(loaded.get(model.digest)))
    Console().print(table)


@app.command()
def unload(
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="Name of a model; without it, all.")] = "",
) -> None:
    """Take a model out of Ollama's memory, or all of them."""
    with _client() as client:
        loaded = [m.name for m in client.loaded() if not model or full_name(m.name) == full_name(model)]
        for name in loaded:
            client.unload(name)
            _say(f"{name} is no longer in memory.")
    if not loaded:
        _say("Nothing to unload.")


@app.command()
def delete(model: Name, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Remove a model from Ollama; asks first if AEGIS did not make it."""
    with _client() as client:
        digest = client.model_digest(model)
        if not digest:
            raise UserError("Ollama has no model {name}.", "aegis ollama list shows what it has.", name=model)
        if not yes and not is_ours(client.base, model, digest):
            typer.confirm(f"AEGIS did not make {model}. Delete it for good?", abort=True)
        client.delete(model)
    _say(f"{model} is deleted.")


def _client() -> OllamaClient:
    """UserError with the state's own sentence where there is nobody to ask."""
    state = look()
    if state.problem is not None:
        raise state.problem
    return OllamaClient(state.address)


def _row(state: OllamaState) -> dict[str, str]:
    return {
        "presence": str(state.presence),
        "address": state.address,
        "version": state.version,
        "program": str(state.program or ""),
        "said": state.sentence().text,
        "advice": state.problem.advice if state.problem else "",
    }


def _model_row(base: str, model: InstalledModel, loaded: LoadedModel | None) -> dict[str, object]:
    return {
        "name": model.name,
        "digest": model.digest,
        "bytes": model.size_bytes,
        "ours": is_ours(base, model.name, model.digest),
        "loaded_bytes": loaded.size_bytes if loaded else 0,
        "vram_bytes": loaded.vram_bytes if loaded else 0,
    }


def _memory(loaded: LoadedModel | None) -> str:
    if loaded is None:
        return ""
    return f"{loaded.size_bytes / 1e9:.2f} GB, {loaded.vram_bytes / 1e9:.2f} GB on the card"


def _say(text: str) -> None:
    Console().print(text, markup=False, soft_wrap=True)
