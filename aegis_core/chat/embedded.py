"""Chat without a server: llama.cpp inside this process, fed with the tokenizer's own token ids."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..cancel import CancelToken
from ..events import Event
from ..failures import UserError
from ..gguf_export.llama import LlamaServer
from .backend import Answer, Sampling, refuse_overflow, tell_difference, with_system
from .prompt import ChatPrompts
from .template import Message
from .template_check import PromptCheck, check_tokens

# What Ollama has no name for stands still, whatever a model file asks for.
ONLY_LLAMA_CPP = {
    "samplers": ["penalties", "top_k", "typ_p", "top_p", "min_p", "temperature"],
    "dynatemp_range": 0.0,
    "mirostat": 0,
}


class EmbeddedBackend:
    """One GGUF file in llama.cpp, loaded at once; UserError if it cannot be. One answer at a time.

    `system` is the model's own system text, for conversations that bring none.
    """

    name = "embedded"

    def __init__(
        self,
        gguf: Path,
        prompts: ChatPrompts,
        n_ctx: int,
        system: str = "",
        emit: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.model = gguf.name
        self._prompts, self._n_ctx, self._system, self._emit = prompts, n_ctx, system, emit
        self._llama = LlamaServer(gguf, n_ctx=n_ctx, n_threads=max(os.cpu_count() or 1, 1))
        self._llama.__enter__()

    def answer(
        self,
        messages: list[Message],
        sampling: Sampling,
        on_token: Callable[[str], None],
        cancelled: Callable[[], bool],
    ) -> Answer:
        token_ids = self._prompts.token_ids(with_system(messages, self._system))
        refuse_overflow(len(token_ids), self._n_ctx)
        parts: list[str] = []
        reason, error, n_tokens, n_read = "cancelled", "", 0, 0

        def receive(chunk: dict[str, Any]) -> bool:
            nonlocal reason, n_tokens, n_read
            choice = chunk["choices"][0]
            if choice["text"]:
                parts.append(choice["text"])
                on_token(choice["text"])
            n_tokens += 1
            if choice["finish_reason"]:
                reason, usage = choice["finish_reason"], chunk["usage"]
                n_tokens, n_read = usage["completion_tokens"], usage["prompt_tokens"]
            return not cancelled()

        started = time.monotonic()
        try:
            if not cancelled():
                self._llama.stream_completion(self._request(token_ids, sampling, goes_on(messages)), receive)
            if reason == "cancelled" and not cancelled():
                raise UserError("llama.cpp ended in the middle of the answer.", "Ask again.")
        except UserError as problem:
            if not parts:
                raise
            reason, error = "error", problem.reason
        seconds = time.monotonic() - started
        answer = Answer("".join(parts), reason, n_tokens, seconds, n_read, len(token_ids), error)
        return tell_difference(self.name, answer, self._emit)

    def check_prompts(self, cancel: CancelToken) -> PromptCheck:
        """How llama.cpp by itself, as Ollama uses it, would read the texts; here it is given the tokens."""
        return check_tokens(self._llama.tokenize, self._prompts)

    def close(self) -> None:
        self._llama.__exit__(None, None, None)

    def _request(self, token_ids: list[int], sampling: Sampling, from_cache: bool) -> dict[str, Any]:
        """Sampling as Ollama does it: the same filters in the same order, none that only llama.cpp has.

        A prompt that begins with what is still in the cache is summed up in other pieces, which moves the last bits and
        sometimes a word. So only a conversation that goes on is read `from_cache`: a first question is answered as in a
        fresh process, and an interview that was cut off ends as one that was not.

        Stops are kept visible as text (preserved), else llama.cpp would pass over control tokens in silence.
        """
        stops = list(self._prompts.stops)
        return {
            "prompt": token_ids,
            "max_tokens": sampling.max_tokens,
            **sampling.options(),
            **ONLY_LLAMA_CPP,
            "stop": stops,
            "preserved_tokens": stops,
            "cache_prompt": from_cache,
        }


def goes_on(messages: list[Message]) -> bool:
    """Whether something was answered before in this conversation."""
    return any(message["role"] == "assistant" for message in messages)
