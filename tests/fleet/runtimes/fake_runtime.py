"""A runtime that does whatever its prompt says, good or bad: ``python fake_runtime.py RECORD``, JSON lines on its
stdio.

A prompt is a JSON array of steps, each an object with one of the keys that `Puppet.step` knows; any other text is
answered with "heard: " and itself. What it was given is written to the file RECORD, one JSON object a line.
"""

from __future__ import annotations

import json
import os
import pathlib
import queue
import subprocess
import sys
import threading
from typing import Any

RECORD = pathlib.Path(sys.argv[1])
OPTIONS = [
    {"optionId": "yes", "name": "Allow", "kind": "allow_once"},
    {"optionId": "no", "name": "Reject", "kind": "reject_once"},
]


class Puppet:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.cancelled = threading.Event()
        self.answers: dict[int, queue.Queue[Any]] = {}
        self.asked = 1000

    def serve(self) -> None:
        for line in sys.stdin:
            message = json.loads(line)
            method = message.get("method")
            if method is None:
                if message["id"] in self.answers:
                    self.answers[message["id"]].put(message)
            elif method == "initialize":
                capabilities = {"loadSession": True, "promptCapabilities": {"image": False}}
                self.reply(message, {"protocolVersion": 1, "agentCapabilities": capabilities})
            elif method in {"session/new", "session/load"}:
                self.reply(message, {"sessionId": "s1"})
            elif method == "session/prompt":
                # Here, and not in the thread: a cancel that comes right behind the prompt is meant for it.
                self.cancelled.clear()
                threading.Thread(target=self.prompt, args=(message,), daemon=True).start()
            elif method == "session/cancel":
                self.cancelled.set()
            elif "id" in message:
                self.write({"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": "no"}})

    def prompt(self, message: dict[str, Any]) -> None:
        text = message["params"]["prompt"][-1]["text"]
        record(prompt=text)
        reason = "end_turn"
        for step in steps_of(text):
            if "fail" in step:
                error = {"code": -32603, "message": "Internal error", "data": {"details": step["fail"]}}
                self.write({"jsonrpc": "2.0", "id": message["id"], "error": error})
                return
            reason = self.step(step) or reason
        self.reply(message, {"stopReason": reason})

    def step(self, step: dict[str, Any]) -> str | None:
        """Do one step; the stop reason that it wants, if any."""
        match step:
            case {"say": text}:
                content = {"type": "text", "text": text * step.get("length", 1)}
                for _ in range(step.get("times", 1)):
                    self.update({"sessionUpdate": "agent_message_chunk", "content": content})
            case {"update": update}:
                for number in range(step.get("times", 1)):
                    self.update(json.loads(json.dumps(update).replace("NUMBER", str(number))))
            case {"ask": call}:
                for number in range(step.get("times", 1)):
                    self.ask(json.loads(json.dumps(call).replace("NUMBER", str(number))), step)
            case {"raw": text}:
                with self.lock:
                    sys.stdout.write((text * step.get("length", 1) + "\n") * step.get("times", 1))
                    sys.stdout.flush()
            case {"wait": _}:
                self.cancelled.wait()
                return "cancelled"
            case {"start": command}:
                subprocess.Popen(command, start_new_session=True)
            case {"exit": code}:
                print(step.get("stderr", ""), file=sys.stderr, flush=True)
                os._exit(code)
            case {"end": reason}:
                return str(reason)
        return None

    def ask(self, call: dict[str, Any], step: dict[str, Any]) -> None:
        with self.lock:
            self.asked += 1
            id_ = self.asked
        self.answers[id_] = queue.Queue()
        params = {
            "sessionId": "s1",
            "options": step.get("options", OPTIONS),
            "toolCall": {"toolCallId": f"t{id_}", **call},
        }
        self.write({"jsonrpc": "2.0", "id": id_, "method": "session/request_permission", "params": params})
        if step.get("waiting", True):
            record(answered=self.answers[id_].get().get("result"))

    def update(self, update: dict[str, Any]) -> None:
        self.write({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": "s1", "update": update}})

    def reply(self, message: dict[str, Any], result: Any) -> None:
        self.write({"jsonrpc": "2.0", "id": message["id"], "result": result})

    def write(self, message: dict[str, Any]) -> None:
        with self.lock:
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()


def steps_of(text: str) -> list[dict[str, Any]]:
    try:
        steps = json.loads(text)
    except ValueError:
        steps = None
    return steps if isinstance(steps, list) else [{"say": f"heard: {text}"}]


def record(**what: Any) -> None:
    with RECORD.open("a", encoding="utf-8") as file:
        file.write(json.dumps(what) + "\n")


if __name__ == "__main__":
    record(pid=os.getpid())
    Puppet().serve()
