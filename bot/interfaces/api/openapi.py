"""The OpenAPI document of the gateway, generated from the command table. Pure. (OpenAPI Specification 3.1.)"""

from __future__ import annotations

from typing import Any

from bot.api_client import LINES
from bot.commands.arguments_schema import arguments_schema
from bot.commands.registry import Command, CommandTable
from bot.read_models.agent import AgentModel
from bot.read_models.documents import TYPES
from bot.read_models.schema import definitions_of

_ERROR_STATUSES = {
    "400": "An argument is wrong; the text says what is allowed.",
    "403": "The permission does not suffice.",
    "404": "There is no such command.",
    "409": "The Idempotency-Key belongs to another run.",
    "422": "Refused; the text says why.",
    "428": "The command asks for a confirmation: send `Muster-Confirm: yes`.",
    "500": "The command failed; the text says why.",
    "503": "Muster is stopping, or its register cannot be used now. Ask again with the same key.",
}


def document(table: CommandTable, version: str) -> dict[str, Any]:
    """Return the complete document."""
    paths: dict[str, Any] = {f"/v1/commands/{path_of(command)}": {"post": _operation(command)} for command in table}
    paths["/v1/commands"] = {"get": _get("listCommands", "The commands, for people and programs.", _anything())}
    paths["/v1/complete"] = {
        "get": _get("complete", "The words that can stand for an argument.", _words())
        | {"parameters": [{"name": "source", "in": "query", "required": True, "schema": {"enum": _sources(table)}}]}
    }
    paths["/v1/health"] = {"get": _get("health", "How Muster is; 503 when it is down.", _anything())}
    paths["/v1/documents/{name}"] = {"get": _document_operation()}
    paths["/v1/stream"] = {"get": _stream_operation()}
    paths["/v1/follow/{kind}/{id}"] = {"get": _follow_operation()}
    paths["/v1/openapi.json"] = {"get": _get("openapi", "This document.", _anything())}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Muster",
            "version": version,
            "description": "Commands for a fleet of agents, on a unix socket. `GET /v1/events` is a WebSocket on which "
            "each event is a JSON object with its `type`; `GET /v1/terminal` is the one that `muster chat` uses.",
        },
        "paths": paths,
        "components": {"schemas": {"Outcome": _outcome(), "Error": _error(), **_documents()}},
    }


def _sources(table: CommandTable) -> list[str]:
    """Return the lists of words that arguments are completed from."""
    return sorted({item.type.source for command in table for item in command.parameters if item.type.source})


def path_of(command: Command) -> str:
    """Return the command's path: its words, joined with slashes."""
    return command.name.replace(" ", "/")


def _operation(command: Command) -> dict[str, Any]:
    headers = [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "The id of the run. The same request with the same key is run once.",
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,80}$"},
        }
    ]
    if command.confirm:
        headers.append(
            {
                "name": "Muster-Confirm",
                "in": "header",
                "required": command.confirm is True,
                "description": "The confirmation of a command that asks for one.",
                "schema": {"type": "string", "enum": ["yes"]},
            }
        )
    words = command.name.replace("-", " ").split()
    responses = {"200": _response("Done.", "Outcome")}
    for status, meaning in _ERROR_STATUSES.items():
        responses[status] = _response(meaning, "Error" if status in {"409", "503"} else "Outcome")
    return {
        "operationId": words[0] + "".join(word.capitalize() for word in words[1:]),
        "tags": [command.help_section],
        "summary": command.summary,
        "description": "\n\n".join(
            part for part in (command.description, f"Permission: {command.permission}.") if part
        ),
        "parameters": headers,
        "requestBody": {
            "required": any(parameter.required for parameter in command.parameters),
            "content": {"application/json": {"schema": arguments_schema(command)}},
        },
        "responses": responses,
    }


def _response(meaning: str, schema: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"description": meaning, "content": {"application/json": {"schema": reference}}}


def _get(operation: str, summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    content = {"application/json": {"schema": schema}}
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": {"description": "The answer.", "content": content}},
    }


def _documents() -> dict[str, Any]:
    kinds = [*TYPES.values(), AgentModel]
    fields = {"name": "string", "revision": "integer", "epoch": "string", "made_at": "number"}
    value = [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in kinds]
    return {
        "Document": {
            "type": "object",
            "properties": {
                **{name: {"type": kind} for name, kind in fields.items()},
                "value": {"anyOf": [*value, {"type": "null"}]},
            },
            "required": ["name", "value"],
        },
        **definitions_of(*kinds),
    }


def _follow_operation() -> dict[str, Any]:
    item = {"type": "object", "properties": {
        "answer": {"type": "string"}, "progress": {"type": "string"}, "alive": {"type": "boolean"},
        "end": {"type": "object"},
    }}  # fmt: skip
    path = {"in": "path", "required": True}
    return {
        "operationId": "follow",
        "summary": "A run, a message to an agent or a task until it is over: a JSON object in each line.",
        "parameters": [
            {"name": "kind", **path, "schema": {"type": "string", "enum": ["runs", "messages", "tasks"]}},
            {"name": "id", **path, "schema": {"type": "string"}},
            {
                "name": "after",
                "in": "query",
                "required": False,
                "description": "How many characters of the answer you have.",
                "schema": {"type": "integer"},
            },
        ],
        "responses": {"200": {"description": "The lines.", "content": {LINES: {"schema": item}}}},
    }


def _document_operation() -> dict[str, Any]:
    names = ", ".join([*TYPES, "agents/NAME"])
    summary = f"What dashboards show: {names}. Its value is null if there is no such agent."
    parameters = [
        {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}},
        {
            "name": "before",
            "in": "query",
            "required": False,
            "description": "The older page before this place, from a `before` in the document. It has no revision.",
            "schema": {"type": "string"},
        },
    ]
    return _get("document", summary, {"$ref": "#/components/schemas/Document"}) | {"parameters": parameters}


def _stream_operation() -> dict[str, Any]:
    summary = "Server-sent events: each of the documents, and again each time that it changed."
    names = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    return {
        "operationId": "stream",
        "summary": summary,
        "parameters": [
            {"name": "documents", "in": "query", "required": True, "explode": False, "schema": names},
            {
                "name": "Last-Event-ID",
                "in": "header",
                "required": False,
                "description": "The id of the last event that was read. What did not change since is left out.",
                "schema": {"type": "string"},
            },
        ],
        "responses": {
            "200": {
                "description": "Events `document` whose data is a Document.",
                "content": {"text/event-stream": {"schema": {"type": "string"}}},
            }
        },
    }


def _anything() -> dict[str, Any]:
    return {"type": ["object", "array"]}


def _words() -> dict[str, Any]:
    words = {"type": "array", "items": {"type": "string"}}
    return {"type": "object", "properties": {"words": words}, "required": ["words"]}


def _outcome() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "id": {"type": "string", "description": "The run."},
            "state": {"enum": ["done", "refused", "failed", "lapsed", "confirming"]},
            "text": {"type": "string", "description": "The answer for people, in Markdown."},
            "data": {"description": "The answer for programs."},
            "reason": {"enum": ["usage", "permission", "confirm", "unknown", None]},
            "code": {
                "type": ["string", "null"],
                "description": "What happened, such as agent.unknown; null if it was done.",
            },
        },
        "required": ["id", "state", "text", "data", "reason", "code"],
    }


def _error() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"error": {"type": "string"}, "code": {"type": "string"}},
        "required": ["error", "code"],
    }
