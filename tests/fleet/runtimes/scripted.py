"""A runtime for tests: ``python scripted.py SCENARIO``, JSON lines on its stdio, nothing of Muster imported.

What it was given is written to ``RECORD`` (environment), one JSON object a line, so that tests see what truly arrived.
A prompt's text says what to do, word by word: see `Runtime.prompt`.
"""

from __future__ import annotations

import json
import os
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import Any

SCENARIO = sys.argv[1] if len(sys.argv) > 1 else "good"
RECORD = pathlib.Path(os.environ["RECORD"])
SESSIONS = RECORD.with_name("sessions.json")

OPTIONS = [
    {"optionId": "yes-always", "name": "Always", "kind": "allow_always"},
    {"optionId": "yes", "name": "Allow", "kind": "allow_once"},
    {"optionId": "no", "name": "Reject", "kind": "reject_once"},
]

MODELS = [{"id": "llm", "name": "Model", "category": "model", "type": "select", "currentValue": "a", "options": []}]


def record(**what: Any) -> None:
    with RECORD.open("a", encoding="utf-8") as file:
        file.write(json.dumps(what) + "\n")


def write(message: dict[str, Any]) -> None:
    with LOCK:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


LOCK = threading.Lock()
#: These can begin a session as a copy of another. One does so, the others answer with nonsense, not at all, with the
#: session itself, or with an error.
FORKING = {"forks", "fork-garbage", "fork-mute", "fork-same", "fork-refused"}
#: These write a session down when it is closed, and not before. One of them does not answer to that.
LATE = {"late", "late-mute"}


class Runtime:
    def __init__(self) -> None:
        self.next_id = 1000
        self.answers: dict[int, queue.Queue[Any]] = {}
        self.cancelled: dict[str, threading.Event] = {}
        self.sessions: dict[str, list[str]] = json.loads(SESSIONS.read_text()) if SESSIONS.exists() else {}

    def serve(self) -> None:
        for line in sys.stdin:
            if SCENARIO == "unread" and self.sessions:
                threading.Event().wait()
            message = json.loads(line)
            method = message.get("method")
            if method is None:
                if message["id"] in self.answers:
                    self.answers[message["id"]].put(message)
                continue
            if method == "session/prompt":
                # Here, and not in the thread: a cancel that comes right behind the prompt is meant for it.
                self.cancelled[message["params"]["sessionId"]] = threading.Event()
                threading.Thread(target=self.prompt, args=(message,), daemon=True).start()
            else:
                self.handle(method, message)

    def handle(self, method: str, message: dict[str, Any]) -> None:
        params = message.get("params") or {}
        if method == "initialize":
            if SCENARIO == "hangs":
                return
            if SCENARIO == "old":
                self.reply(message, {"protocolVersion": 0})
                return
            record(initialize=params)
            capabilities: dict[str, Any] = {
                "loadSession": SCENARIO != "forgets",
                "promptCapabilities": {"image": SCENARIO != "blind"},
            }
            if SCENARIO in LATE:
                capabilities["sessionCapabilities"] = {"close": {}}
            if SCENARIO in FORKING:
                capabilities["sessionCapabilities"] = {"close": {}, "fork": {}}
            self.reply(message, {"protocolVersion": 1, "agentCapabilities": capabilities})
        elif method == "session/new":
            if SCENARIO == "login":
                self.fail(message, -32000, "Authentication required")
                return
            session = f"s{len(self.sessions) + 1}"
            self.keep(session, [])
            record(new=session, cwd=params.get("cwd"), mcp_servers=params.get("mcpServers"))
            self.reply(message, {"sessionId": session, "configOptions": MODELS})
        elif method == "session/load":
            session = params["sessionId"]
            if session not in self.sessions:
                self.fail(message, -32002, "Resource not found")
                return
            record(load=session)
            for text in self.sessions[session]:
                self.update(session, {"sessionUpdate": "user_message_chunk", "content": block(text)})
                self.update(session, {"sessionUpdate": "agent_message_chunk", "content": block(f"replayed {text}")})
            self.reply(message, {"configOptions": MODELS})
        elif method == "session/close" and SCENARIO in LATE:
            record(close=params.get("sessionId"))
            self.write_down()
            if SCENARIO != "late-mute":
                self.reply(message, {})
        elif method == "session/close" and SCENARIO in FORKING:
            record(close=params.get("sessionId"))
            self.reply(message, {})
        elif method == "session/fork" and SCENARIO in FORKING:
            self.fork(message, params)
        elif method == "session/cancel":
            record(cancel=params.get("sessionId"))
            if SCENARIO != "stubborn" and params.get("sessionId") in self.cancelled:
                self.cancelled[params["sessionId"]].set()
        elif method == "session/set_config_option":
            record(config=params)
            if params.get("value") == "impossible":
                self.fail(message, -32603, "Internal error", {"details": "no such model"})
            else:
                self.reply(message, {"configOptions": []})
        elif "id" in message and SCENARIO != "deaf":
            self.fail(message, -32601, "Method not found")

    def fork(self, message: dict[str, Any], params: dict[str, Any]) -> None:
        record(fork=params)
        if SCENARIO == "fork-garbage":
            self.reply(message, {"sessionId": ["what"]})
        elif SCENARIO == "fork-same":
            self.reply(message, {"sessionId": params["sessionId"]})
        elif SCENARIO == "fork-refused":
            self.fail(message, -32002, "Resource not found")
        elif SCENARIO == "forks":
            session = f"s{len(self.sessions) + 1}"
            self.keep(session, list(self.sessions[params["sessionId"]]))
            self.reply(message, {"sessionId": session})

    def prompt(self, message: dict[str, Any]) -> None:
        """Do what the last text block's words say, then end the turn."""
        params = message["params"]
        session = params["sessionId"]
        cancelled = self.cancelled[session]
        texts = [part["text"] for part in params["prompt"] if part["type"] == "text"]
        pictures = [part["mimeType"] for part in params["prompt"] if part["type"] == "image"]
        record(prompt=texts, session=session, pictures=pictures)
        self.keep(session, [*self.sessions.get(session, []), texts[-1]])
        self.update(session, {"sessionUpdate": "available_commands_update", "availableCommands": []})
        reason = "end_turn"
        for word in texts[-1].split():
            verb, _, rest = word.partition("=")
            if verb == "say":
                self.say(session, rest)
            elif verb == "think":
                self.update(session, {"sessionUpdate": "agent_thought_chunk", "content": block(rest)})
            elif verb == "tool":
                call = {"toolCallId": "c1", "title": rest, "kind": "execute", "status": "in_progress"}
                self.update(session, {"sessionUpdate": "tool_call", **call, "rawInput": {"command": rest}})
                done = {"toolCallId": "c1", "status": "completed"}
                self.update(session, {"sessionUpdate": "tool_call_update", **done})
            elif verb == "write":
                # Without asking.
                call = {"toolCallId": "w1", "title": f"Write {rest}", "kind": "edit", "status": "completed"}
                self.update(session, {"sessionUpdate": "tool_call", **call, "rawInput": {"file_path": rest}})
            elif verb == "plan":
                entries = [{"content": rest, "priority": "high", "status": "pending"}]
                self.update(session, {"sessionUpdate": "plan", "entries": entries})
            elif verb == "ask":
                answer = self.ask(session, rest)
                if answer.get("outcome") == "cancelled" and cancelled.is_set():
                    reason = "cancelled"
                self.say(session, f"[{answer.get('optionId') or answer.get('outcome')}]")
            elif verb == "read":
                call = {"toolCallId": f"r-{rest}", "title": f"Read {rest}", "kind": "read"}
                answer = self.request(session, rest, {**call, "rawInput": {"file_path": rest}})
                self.say(session, f"[{answer.get('optionId') or answer.get('outcome')}]")
            elif verb == "ask-together":
                asking = [threading.Thread(target=self.ask, args=(session, each)) for each in rest.split(",")]
                for each in asking:
                    each.start()
                for each in asking:
                    each.join()
            elif verb == "ask-for-ever":
                for number in range(10_000):
                    threading.Thread(target=self.ask, args=(session, f"{number}"), daemon=True).start()
                    time.sleep(0.0005)
            elif verb == "wait":
                cancelled.wait()
                reason = "cancelled"
            elif verb == "hang":
                self.say(session, "hanging")
                threading.Event().wait()
            elif verb == "shell":
                subprocess.Popen(["sleep", "600"], start_new_session=True)
                self.say(session, "started")
            elif verb == "die":
                print("the last words of the runtime", file=sys.stderr, flush=True)
                os._exit(int(rest or 3))
            elif verb == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif verb == "flood":
                for _ in range(int(rest)):
                    self.say(session, "x" * 1000)
            elif verb == "garbage":
                with LOCK:
                    sys.stdout.write('garbage\n{"half":\n[1,2]\n"text"\n\x00\xff\n{"id": [1], "error": 5}\n')
                    sys.stdout.write('{"jsonrpc":"2.0","id":77,"method":"fs/read_text_file","params":[]}\n')
                    sys.stdout.flush()
            elif verb == "surrogate":
                self.say(session, "a\ud800b\u202e\x1b[31m")
            elif verb == "fail":
                self.fail(message, -32603, "Internal error", {"details": rest})
                return
            elif verb == "nonsense":
                self.reply(message, ["what"])
                return
        usage = {"inputTokens": 10, "outputTokens": 5, "totalTokens": 15}
        self.reply(message, {"stopReason": reason, "usage": usage})

    def ask(self, session: str, command: str) -> dict[str, Any]:
        call = {"toolCallId": f"t-{command}", "title": f"run {command}", "kind": "execute"}
        return self.request(session, command, {**call, "rawInput": {"command": command}})

    def request(self, session: str, what: str, call: dict[str, Any]) -> dict[str, Any]:
        params = {"sessionId": session, "options": OPTIONS, "toolCall": call}
        with LOCK:
            self.next_id += 1
            id_ = self.next_id
            self.answers[id_] = queue.Queue()
        write({"jsonrpc": "2.0", "id": id_, "method": "session/request_permission", "params": params})
        outcome: dict[str, Any] = self.answers[id_].get()["result"]["outcome"]
        record(answered=what, outcome=outcome)
        return outcome

    def say(self, session: str, text: str) -> None:
        self.update(session, {"sessionUpdate": "agent_message_chunk", "content": block(text)})

    def update(self, session: str, update: dict[str, Any]) -> None:
        write({"jsonrpc": "2.0", "method": "session/update", "params": {"sessionId": session, "update": update}})

    def reply(self, message: dict[str, Any], result: Any) -> None:
        write({"jsonrpc": "2.0", "id": message["id"], "result": result})

    def fail(self, message: dict[str, Any], code: int, text: str, data: Any = None) -> None:
        write({"jsonrpc": "2.0", "id": message["id"], "error": {"code": code, "message": text, "data": data}})

    def keep(self, session: str, texts: list[str]) -> None:
        self.sessions[session] = texts
        if SCENARIO not in LATE:
            self.write_down()

    def write_down(self) -> None:
        part = SESSIONS.with_suffix(f".{threading.get_ident()}")
        part.write_text(json.dumps(self.sessions))
        part.replace(SESSIONS)


def block(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


if __name__ == "__main__":
    record(start=SCENARIO, pid=os.getpid(), environment=sorted(os.environ))
    if SCENARIO == "dies":
        print("Error: no credentials found", file=sys.stderr)
        sys.exit(7)
    if SCENARIO == "garbage":
        for number in range(1000):
            print(f"Welcome to the {number}th line of no protocol", flush=True)
        threading.Event().wait()
    if SCENARIO == "adapter":
        # The true runtime behind this one.
        subprocess.Popen(["sleep", "600"])
    sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[union-attr]
    Runtime().serve()
