"""`aegis hub`: the token for gated and private models: entering it, forgetting it, where it comes from."""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from getpass import getpass  # the prompt appears when nothing is shown any more, unlike typer's
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

    state = _answered(as_json, lambda: ("", token_state()))
    return 0 if state and state.is_set else 1


@app.command()
def login(as_json: AsJson = False) -> int:
    """Ask for a token without showing it, or read a line of stdin, and keep it if the hub knows it."""
    from ..models.hub_token import keep, token_state

    token = getpass("Token: ") if sys.stdin.isatty() else sys.stdin.readline()
    return 0 if _answered(as_json, lambda: (keep(token), token_state())) else 1


@app.command()
def logout(as_json: AsJson = False) -> int:
    """Remove the kept token from this computer."""
    from ..models.hub_token import forget

    return 0 if _answered(as_json, lambda: ("", forget())) else 1


def _answered(as_json: bool, work: Callable[[], tuple[str, "TokenState"]]) -> "TokenState | None":
    """Do the work (its account, if it learns one, and how things stand then) and print what came of it.

    As JSON also what went wrong, and None then: the window says it in the person's language.
    """
    try:
        account, state = work()
    except (UserError, OSError) as error:
        if not as_json:
            raise
        print(json.dumps({"failure": vars(explain(error))}))
        return None
    if as_json:
        print(json.dumps({"account": account, **asdict(state)}))
        return state
    for line in _lines(account, state):
        Console().print(line, markup=False, soft_wrap=True)
    return state


def _lines(account: str, state: "TokenState") -> Iterator[str]:
    if account:
        yield f"The hub knows you as {account}."
    yield f"A token is kept in {state.store}." if state.kept else "No token is kept."
    if state.variable:
        yield f"{state.variable} is set and goes before a kept one."
    elif not state.kept:
        yield "aegis hub login asks for one."
