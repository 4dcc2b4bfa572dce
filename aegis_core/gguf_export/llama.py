"""llama.cpp inside this process: opens a GGUF file, tells next-token probabilities, tokenises, completes, chats.

The binding's server also listens on a random loopback port; a random key keeps other programs of this machine out.
"""

import json
import secrets
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import cached_property
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import xllamacpp

from ..failures import OUT_OF_MEMORY, UserError
from .native_path import native_path

SILENT = -1
TOKENIZE_TIMEOUT_SECONDS = 60.0


class LlamaServer:
    """One GGUF file opened by llama.cpp, for use in a `with` block.

    n_ctx is the window in tokens; n_gpu_layers 0 keeps everything on the processor, -1 leaves it to llama.cpp.
    Entering raises UserError when llama.cpp cannot load the file. Calls release the GIL while they compute.
    """

    def __init__(self, path: Path, n_ctx: int = 2048, n_threads: int = 2, n_gpu_layers: int = -1) -> None:
        self.path = path
        self._n_ctx, self._n_threads, self._n_gpu_layers = n_ctx, n_threads, n_gpu_layers
        self._key = secrets.token_urlsafe(32)
        self._server: Any = None
        self._open = ExitStack()

    def __enter__(self) -> Self:
        if not self.path.is_file():
            raise UserError("{path} is not there.", "Run the export step again.", path=self.path)
        with ExitStack() as opening:
            path = opening.enter_context(native_path(self.path))
            self._server = self._started(path)
            address = urlsplit(self._server.listening_address)
            connection = HTTPConnection(address.hostname or "", address.port, timeout=TOKENIZE_TIMEOUT_SECONDS)
            self._http = opening.enter_context(closing(connection))
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server = None  # its destructor stops the threads and frees the memory
        self._open.close()

    def next_token_probabilities(self, token_ids: list[int], n: int) -> list[tuple[int, float]]:
        """The n likeliest next tokens after `token_ids` as (token id, natural log of its probability), likeliest first.

        Taken straight from the logits: no temperature, no filter, no bias.
        """
        request = {
            "prompt": token_ids,
            "max_tokens": 1,
            "logprobs": n,
            "temperature": 0,
            "cache_prompt": True,
            # llama.cpp keeps silent about an end token or half a character, so a harmless token is made to be drawn;
            # the probabilities it tells are those before this bias.
            "logit_bias": [[self._harmless_token, 1e4]],
        }
        answer = self.complete(request)
        top = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        return [(row["id"], row["logprob"]) for row in top]

    def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        """The whole answer to an OpenAI-style completion request; `prompt` may be text or a list of token ids."""
        return self._checked(self._server.handle_completions({**request, "stream": False}))

    def stream_completion(self, request: dict[str, Any], on_chunk: Callable[[dict[str, Any]], bool]) -> None:
        """Call `on_chunk` with every part of the answer until it returns False; what it raises is raised here."""
        self._stream(self._server.handle_completions, request, on_chunk)

    def tokenize(self, text: str) -> list[int]:
        """llama.cpp's own token ids of a text, special tokens recognised, nothing added in front."""
        request = {"content": text, "add_special": False, "parse_special": True}
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        self._http.request("POST", "/tokenize", json.dumps(request), headers)
        tokens: list[int] = self._checked(json.load(self._http.getresponse()))["tokens"]
        return tokens

    @cached_property
    def _harmless_token(self) -> int:
        return self.tokenize("a")[0]

    def _started(self, path: Path) -> Any:
        try:
            server = xllamacpp.Server(self._parameters(path))
        except RuntimeError as error:
            raise UserError(
                "llama.cpp cannot load {path}: {problem}.",
                "Run the export step again; if it stays, the model's architecture may be too new for this llama.cpp.",
                path=self.path,
                problem=str(error).rstrip(".") or "it gives no reason",
            ) from error
        # A server destroyed before its loop has begun waits for that loop for ever: make it answer once.
        server.handle_metrics()
        return server

    def _parameters(self, path: Path) -> Any:
        p = xllamacpp.CommonParams()
        p.model.path = str(path)
        p.api_keys = [self._key]
        p.hostnames = ["127.0.0.1"]
        p.n_ctx, p.n_parallel = self._n_ctx, 1
        p.n_gpu_layers = self._n_gpu_layers
        p.cpuparams.n_threads = p.cpuparams_batch.n_threads = self._n_threads
        p.chat_template = "chatml"  # never used; the file's own may be one that llama.cpp cannot read, and refuses
        p.verbosity = SILENT
        p.warmup = p.ui = p.endpoint_slots = p.fit_params = False
        p.endpoint_metrics = True  # asked once, see _started
        p.cache_ram_mib = 0
        return p

    def _stream(
        self, handler: Callable[..., None], request: dict[str, Any], on_chunk: Callable[[dict[str, Any]], bool]
    ) -> None:
        raised: list[BaseException] = []

        def receive(chunk: dict[str, Any]) -> bool:
            """True stops the stream. The binding swallows exceptions, Ctrl+C too, so they are carried out by hand."""
            try:
                return not on_chunk(self._checked(chunk))
            except BaseException as error:
                raised.append(error)
                return True

        handler({**request, "stream": True}, receive)
        if raised:
            raise raised[0]

    def _checked(self, answer: dict[str, Any]) -> dict[str, Any]:
        if "error" in answer:
            problem = str(answer["error"].get("message", answer["error"])).rstrip(".")
            if "bad_alloc" in problem:  # C++'s word for it
                raise UserError(OUT_OF_MEMORY, "Close other programs, or choose a smaller context (chat.num_ctx).")
            raise UserError(
                "llama.cpp refused the request: {problem}.",
                "Shorten the conversation or the answer; otherwise run the export step again.",
                problem=problem,
            )
        return answer
