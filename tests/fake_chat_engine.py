"""A chat child that knows a few tricks and no model: python fake_chat_engine.py RUN_DIR MODEL [refuse | slow-start].

It speaks the protocol of `aegis chat --events`. What the last message says decides: "crash" dies in mid-answer,
"long" goes on until it is stopped, "fail" ends in an error, "messages" and "sampling" are answered with those as
JSON, anything else in four pieces.
"""

import json
import os
import queue
import sys
import threading
import time

stopped: set[str] = set()
asked: "queue.Queue[dict | None]" = queue.Queue()


def emit(event: str, **fields: object) -> None:
    line = json.dumps({"event": event, "at": time.time(), "stage": "chat", **fields}, ensure_ascii=False)
    sys.stdout.buffer.write(line.encode() + b"\n")
    sys.stdout.buffer.flush()


def listen() -> None:
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "say":
            asked.put(command)
        elif command["do"] == "stop":
            stopped.add(command["id"])
        else:
            break
    asked.put(None)
    time.sleep(20)  # longer than anybody wants to wait
    os._exit(1)


def answer(command: dict, model: str) -> None:
    id, words = command["id"], command["messages"][-1]["content"]
    if words == "crash":
        emit("Token", id=id, text="The light ")
        emit("Token", id=id, text="crosses")
        os._exit(3)
    if words == "fail":
        emit("Token", id=id, text="The")
        emit(
            "AnswerFinished",
            id=id,
            reason="error",
            n_tokens=1,
            seconds=0.1,
            error="The model ran out of memory.",
            advice="Ask for less.",
        )
        return
    n = 0
    pieces = [f"{model} ", "heard ", f"{len(command['messages'])} ", "**日本**"]
    if words == "messages":
        pieces = [json.dumps(command["messages"], ensure_ascii=False)]
    if words == "long":
        pieces = ["Say "] * 100_000
    if words == "sampling":
        pieces = [json.dumps(command["sampling"], sort_keys=True)]
    for piece in pieces:
        if id in stopped:
            emit("AnswerFinished", id=id, reason="cancelled", n_tokens=n, seconds=1.0)
            return
        emit("Token", id=id, text=piece)
        n += 1
        if words == "long":
            time.sleep(0.01)
    n_read = 10 * len(command["messages"])
    figures = {"n_tokens": n, "seconds": 0.5, "n_prompt_tokens": n_read, "first_token_seconds": 0.2}
    emit("AnswerFinished", id=id, reason="stop", **figures)


def main() -> int:
    _, _, model, *tricks = sys.argv
    threading.Thread(target=listen, daemon=True).start()
    if "refuse" in tricks:
        reason = "There is no exported model to talk to yet."
        advice = "Run the export step first."
        emit("StepFailed", reason=reason, advice=advice, reason_template=reason, advice_template=advice)
        return 1
    if "slow-start" in tricks:
        time.sleep(30)
    emit("Log", level="info", text="Loading it.", template="Loading it.")
    emit("Log", level="info", text="The model is ready.", template="The model is ready.")
    while (command := asked.get()) is not None:
        answer(command, model)
    return 0


if __name__ == "__main__":
    sys.exit(main())
