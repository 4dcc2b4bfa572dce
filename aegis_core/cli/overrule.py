"""`aegis overrule`: the user's own verdict on an answer, written beside the measured one."""

from typing import Annotated

import typer
from rich.console import Console

from ..chat.overruling import overrule as decide
from ..failures import UsageError
from ..run_directory import RunDirectory
from .work import RunFolder

VERDICTS = {"meaningful": True, "gibberish": False, "withdraw": None}


def overrule(
    run_dir: RunFolder,
    question: Annotated[str, typer.Argument(help="Id of the question, as in the transcript, e.g. time-irreversible.")],
    verdict: Annotated[str, typer.Argument(help="meaningful, gibberish, or withdraw to take your verdict back.")],
    reason: Annotated[str, typer.Option(help="Why, in a few words.")],
) -> None:
    """Set your own verdict on an answer beside the measured one; the run log shows both."""
    if verdict not in VERDICTS:
        raise UsageError("There is no verdict {verdict}.", "It is meaningful, gibberish or withdraw.", verdict=verdict)
    done = decide(RunDirectory.open(run_dir), question, VERDICTS[verdict], reason)
    Console().print(
        f"{done.question}: {verdict}, by {done.by}, {done.at}. Write the run log anew with aegis report.", markup=False
    )
