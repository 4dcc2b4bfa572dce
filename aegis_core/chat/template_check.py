"""Whether a backend's prompts are the tokenizer's, token by token, asked of the backend itself.

Ollama can be asked to render without answering (versions since the autumn of 2025); an older one answers with a single
token and says how many it read. The built-in llama.cpp, which is given token ids, tells how it would read the text.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from ..cancel import CancelToken
from .ollama import OllamaClient, whole
from .prompt import ChatPrompts
from .template import Message, PromptMismatch
from .template_verify import probe_conversations, quoted

Row = dict[str, Any]
EXPECTED = "every prompt read as the tokenizer's own tokens"
N_COUNTED = 6  # conversations that an older server is made to read: each costs it a prompt


@dataclass(frozen=True)
class PromptCheck:
    """`how` is rendered, counted or tokenised; `problem` tells the first difference, empty if there is none.

    With `n_conversations` 0 the backend said nothing that could be compared.
    """

    how: str
    n_conversations: int
    problem: str = ""

    def row(self) -> Row:
        """For chat.json and the transcript."""
        status = "fail" if self.problem else "pass" if self.n_conversations else "skipped"
        measured = self.problem or f"{self.n_conversations} conversations {self.how}"
        return {"status": status, "how": self.how, "n": self.n_conversations, "measured": measured}


def check_server(
    client: OllamaClient, model: str, prompts: ChatPrompts, n_ctx: int, cancel: CancelToken, system: str = ""
) -> PromptCheck:
    """What Ollama itself makes of the probe conversations; `system` is the model's own system text, if it has one.

    PromptMismatch with both renderings where one differs from the tokenizer's; Cancelled if the user stops it.
    """
    talks = list(_probes(prompts, n_ctx, system))
    request = {"model": model, "stream": False, "truncate": False, "options": {"num_predict": 1, "num_ctx": n_ctx}}
    n_compared = 0
    while n_compared < len(talks):
        messages, text = talks[n_compared]
        asked = request | {"messages": prompts.for_server(messages), "_debug_render_only": True}
        told = _last(client, asked, cancel).get("_debug_info")
        rendered = told.get("rendered_template") if isinstance(told, dict) else None
        if rendered is None:
            break
        _require_same_text(prompts, text, str(rendered))
        n_compared += 1
    # The leading token is no part of what a server renders, so that one prompt is really read in any case.
    spread = max(len(talks) // N_COUNTED, 1)
    n_counted = 0
    for messages, text in talks[::spread] if n_compared == 0 else talks[:1]:
        asked = request | {"messages": prompts.for_server(messages)}
        n_read = whole(_last(client, asked, cancel).get("prompt_eval_count"))
        if n_read:
            _require_same_count(prompts, text, n_read)
            n_counted += 1
    return PromptCheck("rendered", n_compared) if n_compared else PromptCheck("counted", n_counted)


def check_tokens(tokenize: Callable[[str], list[int]], prompts: ChatPrompts) -> PromptCheck:
    """How llama.cpp reads the texts of the probe conversations: a difference is told, and matters to others alone."""
    n_same = 0
    for _, text in _probes(prompts, None):
        ours, theirs = tokenize(text), prompts.encode(text)
        if ours != theirs:
            problem = f"{quoted(text)} is read as {ours} instead of {theirs}"
            return PromptCheck("tokenised", n_same, problem)
        n_same += 1
    return PromptCheck("tokenised", n_same)


def summary(rows: list[Row]) -> Row:
    """For chat.json, from the transcript's rows: the latest check of a backend, and whether every answer read as many
    tokens as the tokenizer counts."""
    checks = [row["prompt_check"] for row in rows if "prompt_check" in row]
    told = [row for row in rows if row["n_prompt_tokens"]]
    unequal = [row for row in told if row["n_prompt_tokens"] != row["n_expected_prompt_tokens"]]
    checked = checks[-1] if checks else PromptCheck("counted", 0).row()
    if unequal:
        status = "fail"
    elif checked["status"] == "skipped" and told:
        status = "pass"
    else:
        status = checked["status"]
    measured = f"{checked['measured']}; {len(told) - len(unequal)} of {len(rows)} answers to as many tokens as expected"
    return {"status": status, "measured": measured, "expected": EXPECTED}


def _probes(prompts: ChatPrompts, n_ctx: int | None, system: str = "") -> Iterator[tuple[list[Message], str]]:
    """The conversations with the tokenizer's rendering, those alone that fit into the context.

    Ollama puts the model's own system text before a conversation that has none.
    """
    for messages in probe_conversations(with_system=prompts.takes_system):
        if system and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": system}, *messages]
        text = prompts.prompt(messages)
        if n_ctx is None or len(prompts.encode(text)) < n_ctx:
            yield messages, text


def _last(client: OllamaClient, request: Row, cancel: CancelToken) -> Row:
    rows = list(client.chat(request, lambda: cancel.cancelled))
    cancel.check()
    return rows[-1] if rows else {}


def _require_same_text(prompts: ChatPrompts, text: str, rendered: str) -> None:
    """Token by token; the leading token may be left to the server."""
    led = rendered if rendered.startswith(prompts.bos) else prompts.bos + rendered
    expected = prompts.encode(text)
    if prompts.encode(rendered) != expected and prompts.encode(led) != expected:
        raise PromptMismatch(
            "Ollama makes another prompt of a conversation than the tokenizer: {server} instead of {tokenizer}.",
            "Set chat.backend to embedded, or update Ollama.",
            server=quoted(rendered),
            tokenizer=quoted(text),
        )


def _require_same_count(prompts: ChatPrompts, text: str, n_read: int) -> None:
    n_expected = len(prompts.encode(text))
    if n_read != n_expected:
        raise PromptMismatch(
            "Ollama reads {n_read} tokens where the tokenizer counts {n_expected}: {tokenizer}.",
            "Set chat.backend to embedded, or update Ollama.",
            n_read=n_read,
            n_expected=n_expected,
            tokenizer=quoted(text),
        )
