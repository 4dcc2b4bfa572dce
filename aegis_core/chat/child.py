"""The chat child: obeys lines on stdin, answers with events.

In:  {"do": "say", "id": "7", "messages": [{"role", "content"}, …], "sampling": {…}}   (sampling: any of its fields)
     {"do": "stop", "id": "7"}; {"do": "close"}: end when what was asked before is answered; end of input: end at once
Out: Progress and Log lines while loading, then Log with the template READY: from now on answers come at once; for every
     say its Token events and exactly one AnswerFinished. A model that cannot be loaded: StepFailed, and serve raises.
"""

import json
import queue
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from ..cancel import Cancelled, CancelToken
from ..events import AnswerFinished, Event, StepFailed, Token, note, warning
from ..failures import explain
from ..plan import ChatPlan
from ..run_directory import RunDirectory
from .answering import answer_timed, sampling_within
from .backend import Backend, checked_messages
from .session import open_backend, refuse_while_working

STAGE = "chat"
READY = "The model is ready."


def serve(run: RunDirectory, model: str, lines_in: Iterable[str], emit: Callable[[Event], None]) -> None:
    """Talk until close or the end of `lines_in`; lines are read in a thread of their own, so that stop works.

    UserError (after StepFailed) if the run has nothing to talk to or a step is at work on it.
    """

    def say(event: Event) -> None:
        emit(replace(event, at=time.time(), stage=STAGE))

    inbox = _Inbox(say)
    threading.Thread(target=inbox.listen, args=(lines_in,), name="commands", daemon=True).start()
    try:
        refuse_while_working(run)
        plan = run.plan()
        backend = open_backend(run, plan, model, say, inbox.closing)
    except Cancelled:
        return
    except Exception as error:  # the child's boundary, as the pipeline is the steps'
        why = explain(error)
        say(StepFailed(why.reason, why.advice, "", why.reason_template, why.advice_template, why.values))
        raise
    try:
        say(note(READY))
        while (request := inbox.next()) is not None:
            say(_answered(run, plan.chat, backend, request, inbox, say))
    finally:
        backend.close()


@dataclass(frozen=True)
class _Request:
    id: str
    messages: Any
    sampling: Any


class _Inbox:
    """What was asked and not yet answered; stops are remembered, whether their answer has begun or not."""

    def __init__(self, say: Callable[[Event], None]) -> None:
        self.closing = CancelToken()
        self._say = say
        self._waiting: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._stopped: set[str] = set()

    def listen(self, lines: Iterable[str]) -> None:
        for line in lines:
            if line.strip():
                self._obey(line)
        self.closing.cancel()
        self._waiting.put(None)

    def next(self) -> _Request | None:
        """The next thing to answer; None when the conversation is over."""
        request = self._waiting.get()
        return None if self.closing.cancelled else request

    def is_stopped(self, id: str) -> bool:
        return self.closing.cancelled or id in self._stopped

    def _obey(self, line: str) -> None:
        try:
            command = json.loads(line)
            do, id = command["do"], str(command.get("id", ""))
            if do == "say":
                self._waiting.put(_Request(id, command.get("messages"), command.get("sampling")))
            elif do == "stop":
                self._stopped.add(id)
            elif do == "close":
                self._waiting.put(None)
            else:
                raise KeyError(do)
        except (ValueError, KeyError, TypeError, AttributeError):
            self._say(warning("This command was not understood: {line}", line=line[:200]))


def _answered(
    run: RunDirectory,
    plan: ChatPlan,
    backend: Backend,
    request: _Request,
    inbox: _Inbox,
    say: Callable[[Event], None],
) -> AnswerFinished:
    started = time.monotonic()
    try:
        refuse_while_working(run)
        answer = answer_timed(
            backend,
            checked_messages(request.messages),
            sampling_within(plan, request.sampling),
            lambda text: say(Token(request.id, text)),
            lambda: inbox.is_stopped(request.id),
        )
    except Exception as error:  # one failed answer does not end the conversation
        why = explain(error)
        return AnswerFinished(request.id, "error", 0, time.monotonic() - started, why.reason, advice=why.advice)
    return replace(answer, id=request.id)
