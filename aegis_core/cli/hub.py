"""`aegis hub`: the token for gated and private models: entering it, forgetting it, where it comes from."""

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from ..failures import UserError, explain

if TYPE_CHECKING:  # the terminal beside the frozen window has these commands' names, but not the engine's packages
    from ..models.hub_token import TokenState

app = typer.Typer(help="The hub: your token for gated and private models.", rich_markup_mode=None)
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


@app.callback(invoke_without_command=True)
def without_command(context: typer.Context) -> int | None:
    """Say whether a token is set; see --help for the commands."""
    return status() if context.invoked_subcommand is None else None


@app.command()
def status(as_json: AsJson = False) -> int:
    """Say whether a token is set and where it comes from, never the token; exit code 1 if there is none."""
    from ..models.hub_token import token_state

    state = token_state()
    if as_json:
        print(json.dumps(asdict(state), ensure_ascii=False))
    else:
        _say(*_lines(state))
    return 0 if state.is_set else 1


@app.command()
def login(as_json: AsJson = False) -> int:
    """Ask for a token without showing it, or read a line of stdin, and keep it if the hub accepts it."""
    from ..models.hub_token import keep, token_state

    token = typer.prompt("Token", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
    try:
        account = keep(token)
    except (UserError, OSError) as error:
        if not as_json:
            raise
        print(json.dumps({"failure": vars(explain(error))}))
        return 1
    state = token_state()
    if as_json:
        print(json.dumps({"account": account, **asdict(state)}))
    else:
        _say(f"The hub knows you as {account}.", *_lines(state))
    return 0


@app.command()
def logout(as_json: AsJson = False) -> int:
    """Remove the kept token from this computer."""
    from ..models.hub_token import forget

    try:
        state = forget()
    except OSError as error:
        if not as_json:
            raise
        print(json.dumps({"failure": vars(explain(error))}))
        return 1
    if as_json:
        print(json.dumps(asdict(state)))
    else:
        _say(*_lines(state))
    return 0


def _lines(state: "TokenState") -> list[str]:
    lines = [f"A token is kept in {state.store}." if state.kept else "No token is kept."]
    if state.variable:
        lines.append(f"{state.variable} is set and goes before a kept one.")
    elif not state.kept:
        lines.append("aegis hub login asks for one.")
    return lines


def _say(*lines: str) -> None:
    for line in lines:
        Console().print(line, markup=False, soft_wrap=True)
