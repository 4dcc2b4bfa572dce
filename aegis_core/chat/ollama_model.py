"""The run's model inside Ollama: made from its GGUF with the derived template, checked, and talked to."""

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..cancel import CancelToken
from ..events import Event
from ..failures import UserError
from ..plan import ChatPlan
from .backend import Answer, Sampling, refuse_overflow, tell_difference, with_system
from .ollama import OllamaClient, Progressed, Row, blob_digest, full_name, whole
from .ollama_made import known, remember
from .ollama_recipe import Recipe
from .ollama_room import require_disk_space
from .prompt import ChatPrompts
from .template import Message, PromptMismatch
from .template_check import PromptCheck, check_server
from .thoughts import Thoughts


@dataclass(frozen=True)
class MadeModel:
    """What Ollama made: `file_digest` of the uploaded GGUF, `digest` of the resulting model, its own `system` text."""

    name: str
    file_digest: str
    digest: str
    system: str = ""


class OllamaBackend:
    """A model that Ollama holds, as a chat backend."""

    name = "ollama"

    def __init__(
        self,
        client: OllamaClient,
        made: MadeModel,
        prompts: ChatPrompts,
        plan: ChatPlan,
        emit: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.client, self.made, self.model = client, made, made.name
        self._prompts, self._n_ctx, self._emit = prompts, plan.num_ctx, emit
        self._check: PromptCheck | None = None

    def answer(
        self,
        messages: list[Message],
        sampling: Sampling,
        on_token: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> Answer:
        messages = with_system(messages, self.made.system)  # by itself, too; so it is counted
        sent = self._prompts.for_server(messages)
        n_expected = len(self._prompts.token_ids(messages))
        refuse_overflow(n_expected, self._n_ctx)
        parts: list[str] = []
        last: Row = {}
        reason, error, n_seen = "cancelled", "", 0
        thoughts = Thoughts()
        started = time.monotonic()
        try:
            for row in self.client.chat(self._request(sent, sampling), cancelled):
                last = row
                if text := thoughts.text(row.get("message") or {}):
                    n_seen += 1
                    parts.append(text)
                    on_token(text)
                if row.get("done"):
                    reason = "length" if row.get("done_reason") == "length" else "stop"
        except UserError as problem:
            if not parts:
                raise
            reason, error = "error", problem.reason
        if not last.get("done") and reason == "cancelled" and not cancelled():
            reason, error = "error", "The connection to Ollama ended in the middle of the answer."
        seconds = time.monotonic() - started
        n_tokens = whole(last.get("eval_count")) or n_seen
        n_read = whole(last.get("prompt_eval_count"))
        answer = Answer("".join(parts), reason, n_tokens, seconds, n_read, n_expected, error)
        return tell_difference(self.name, answer, self._emit)

    def check_prompts(self, cancel: CancelToken) -> PromptCheck:
        """Ollama's own renderings against the tokenizer's, or the tokens it counts where it is too old to tell.

        Asked once; PromptMismatch where they differ.
        """
        if self._check is None:
            self._check = check_server(self.client, self.model, self._prompts, self._n_ctx, cancel, self.made.system)
        return self._check

    def close(self) -> None:
        self.client.close()

    def _request(self, messages: list[Message], sampling: Sampling) -> Row:
        """A conversation too long is refused, neither cut off in front (truncate) nor while it is answered (shift)."""
        options = {**sampling.options(), "num_predict": sampling.max_tokens, "num_ctx": self._n_ctx}
        whole = {"truncate": False, "shift": False}
        return {"model": self.model, "messages": messages, "stream": True, **whole, "options": options}


def ensure_model(
    client: OllamaClient,
    name: str,
    gguf: Path,
    prompts: ChatPrompts,
    plan: ChatPlan,
    license: str,
    cancel: CancelToken,
    on_progress: Progressed,
    emit: Callable[[Event], None] = lambda event: None,
) -> MadeModel:
    """The model in Ollama, made now unless AEGIS made it from this very file before.

    UserError if somebody else's model has the name and the plan does not allow to replace it, if the disk is too small,
    if Ollama refuses, or if it swapped the template for another.
    """
    recipe = Recipe.of(gguf, prompts, plan, license)
    file_digest = blob_digest(gguf, cancel, on_progress)
    request = recipe.request(name, {gguf.name if gguf.name.isascii() else "model.gguf": file_digest})
    existing = client.model_digest(name)
    noted = known(client.base, name)
    ours = noted.get("digest") == existing
    if existing and ours and noted.get("request") == request:
        return MadeModel(name, file_digest, existing, recipe.system)
    if existing and not ours and not may_replace(plan, name) and not _left_half_made(client, name, noted):
        raise UserError(
            "Ollama already has a model {name} that AEGIS did not make.",
            "Allow AEGIS to replace it (chat.replace_model={name}), or choose another chat.model_name.",
            changes={"chat.replace_model": name},
            name=name,
        )
    if not client.has_blob(file_digest):
        require_disk_space(gguf.stat().st_size, client.base, emit)
        client.upload(gguf, file_digest, cancel, on_progress)
    # Before it happens: a model that a kill leaves without its entry would pass for somebody else's.
    remember(client.base, name, {**noted, "intended": file_digest})
    client.create(
        request,
        cancel,
        lambda row: on_progress(str(row.get("status", "")), whole(row.get("completed")), whole(row.get("total"))),
    )
    try:
        _check_template(client, name, recipe, prompts, plan, cancel, on_progress)
    except PromptMismatch:  # where only the question failed it stays, known as intended: it need not be sent again
        with contextlib.suppress(UserError):  # the reason why is the one to tell
            client.delete(name)
        raise
    made = MadeModel(name, file_digest, client.model_digest(name), recipe.system)
    remember(client.base, name, {"digest": made.digest, "request": request})
    return made


def may_replace(plan: ChatPlan, name: str) -> bool:
    """Whether the user agreed that a model of this name, which AEGIS did not make, is replaced."""
    return bool(plan.replace_model) and full_name(plan.replace_model) == full_name(name)


def _check_template(
    client: OllamaClient,
    name: str,
    recipe: Recipe,
    prompts: ChatPrompts,
    plan: ChatPlan,
    cancel: CancelToken,
    on_progress: Progressed,
) -> None:
    """PromptMismatch if Ollama replaced the template that was sent and so would make other prompts of conversations.

    Where the model file's own Jinja template knows of tools or thoughts, Ollama prefers that one. This is told, and
    taken only if what Ollama then renders are the tokenizer's own tokens.
    """
    shown = str((client.show(name) or {}).get("template", "")).strip()
    if shown == prompts.template.strip():
        on_progress("uses the template of the model file instead of the one sent; comparing its prompts", 0, 0)
        check_server(client, name, prompts, plan.num_ctx, cancel, recipe.system)
    elif shown != recipe.template.strip():
        raise PromptMismatch(
            "Ollama replaced the chat template of {name}: {shown} instead of {sent}.",
            "Set chat.backend to embedded, or update Ollama.",
            name=name,
            shown=json.dumps(shown[:400], ensure_ascii=False),
            sent=json.dumps(recipe.template[:400], ensure_ascii=False),
        )


def _left_half_made(client: OllamaClient, name: str, noted: Row) -> bool:
    """Whether the model was made from the file that an attempt of ours, cut off since, was about to make it from."""
    intended = str(noted.get("intended", "")).removeprefix("sha256:")
    return bool(intended) and intended in str((client.show(name) or {}).get("modelfile", ""))
