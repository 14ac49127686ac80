"""Check requests and responses against what the forges publish about their APIs.

Gitea's description is a file (`gitea-swagger.json`) beside the checkout, or where `MUSTER_GITEA_SWAGGER` says; without
it Gitea's routes are not checked. GitHub's is in the models of githubkit, which the tests install.
"""

from __future__ import annotations

import importlib
import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator  # type: ignore[import-untyped]
from pydantic import TypeAdapter, ValidationError

GITEA_SWAGGER = "MUSTER_GITEA_SWAGGER"
_PLACE = Path(__file__).parents[4] / "shared" / "data" / "gitea-swagger.json"

#: Models of GitHub's responses by method and path; a list of them where the name is in a tuple.
_GITHUB_RESPONSES: dict[tuple[str, str], str | tuple[str]] = {
    ("GET", "/user"): "PrivateUser",
    ("GET", "/repos/{owner}/{repo}"): "FullRepository",
    ("POST", "/repos/{owner}/{repo}/forks"): "FullRepository",
    ("GET", "/repos/{owner}/{repo}/branches"): ("ShortBranch",),
    ("GET", "/repos/{owner}/{repo}/hooks"): ("Hook",),
    ("GET", "/repos/{owner}/{repo}/commits/{ref}/status"): "CombinedCommitStatus",
    ("GET", "/repos/{owner}/{repo}/commits/{ref}/check-runs"): "ReposOwnerRepoCommitsRefCheckRunsGetResponse200",
    ("GET", "/repos/{owner}/{repo}/issues"): ("Issue",),
    ("PATCH", "/repos/{owner}/{repo}/issues/comments/{comment_id}"): "IssueComment",
    ("GET", "/repos/{owner}/{repo}/issues/{issue_number}"): "Issue",
    ("PATCH", "/repos/{owner}/{repo}/issues/{issue_number}"): "Issue",
    ("GET", "/repos/{owner}/{repo}/issues/{issue_number}/comments"): ("IssueComment",),
    ("POST", "/repos/{owner}/{repo}/issues/{issue_number}/comments"): "IssueComment",
    ("GET", "/repos/{owner}/{repo}/pulls"): ("PullRequestSimple",),
    ("POST", "/repos/{owner}/{repo}/pulls"): "PullRequest",
    ("GET", "/repos/{owner}/{repo}/pulls/{pull_number}"): "PullRequest",
    ("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/reviews"): ("PullRequestReview",),
    ("GET", "/repos/{owner}/{repo}/pulls/{pull_number}/comments"): ("PullRequestReviewComment",),
    ("GET", "/repos/{owner}/{repo}/labels"): ("Label",),
    ("POST", "/repos/{owner}/{repo}/pulls/{pull_number}/requested_reviewers"): "PullRequestSimple",
}
_GITHUB_REQUESTS: dict[tuple[str, str], str] = {
    ("POST", "/repos/{owner}/{repo}/forks"): "ReposOwnerRepoForksPostBody",
    ("PATCH", "/repos/{owner}/{repo}/issues/comments/{comment_id}"): "ReposOwnerRepoIssuesCommentsCommentIdPatchBody",
    ("PATCH", "/repos/{owner}/{repo}/issues/{issue_number}"): "ReposOwnerRepoIssuesIssueNumberPatchBody",
    ("POST", "/repos/{owner}/{repo}/issues/{issue_number}/comments"): (
        "ReposOwnerRepoIssuesIssueNumberCommentsPostBody"
    ),
    ("POST", "/repos/{owner}/{repo}/pulls"): "ReposOwnerRepoPullsPostBody",
    ("POST", "/repos/{owner}/{repo}/pulls/{pull_number}/requested_reviewers"): (
        "ReposOwnerRepoPullsPullNumberRequestedReviewersPostBodyAnyof0"
    ),
}


def gitea_swagger() -> Path | None:
    """Return where Gitea's API description is, or None."""
    place = Path(os.environ.get(GITEA_SWAGGER) or _PLACE)
    return place if place.is_file() else None


def require_gitea_swagger() -> None:
    """Skip a test that is about the description where it is not at hand."""
    if gitea_swagger() is None:
        pytest.skip(f"Gitea's API description is not at {_PLACE} or where {GITEA_SWAGGER} says")


@cache
def gitea_description() -> GiteaDescription | None:
    """Return the description, read once, or None."""
    place = gitea_swagger()
    return None if place is None else GiteaDescription(json.loads(place.read_text(encoding="utf-8")))


class GiteaDescription:
    """Gitea's API description (Swagger 2.0). Fields and parameters that it does not name are violations."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._paths = document["paths"]
        self._responses = document["responses"]
        self._requests = {name: _strict(each, may_be_null=False) for name, each in document["definitions"].items()}
        self._answers = {name: _strict(each, may_be_null=True) for name, each in document["definitions"].items()}

    def request_problems(self, method: str, path: str, query: dict[str, str], body: Any) -> list[str]:
        """Return what is wrong with a request; `path` as in the description."""
        operation = self._paths.get(path, {}).get(method.lower())
        if operation is None:
            return [f"{method} {path} is not in the description"]
        parameters = operation.get("parameters", [])
        known = {each["name"]: each for each in parameters if each["in"] == "query"}
        problems = [f"{method} {path}: no parameter {name!r}" for name in query if name not in known]
        for name, value in query.items():
            allowed = known.get(name, {}).get("enum")
            if allowed and value not in allowed:
                problems.append(f"{method} {path}: {name} is {value!r}, allowed are {allowed}")
            if known.get(name, {}).get("type") == "integer" and not value.isdigit():
                problems.append(f"{method} {path}: {name} is {value!r}, and no number")
        schema = next((each["schema"] for each in parameters if each["in"] == "body"), None)
        if body is not None and schema is None:
            problems.append(f"{method} {path} takes no body")
        elif body is not None:
            problems += self._against(schema, self._requests, body, f"{method} {path}")
        return problems

    def response_problems(self, method: str, path: str, status: int, body: Any) -> list[str]:
        """Return what is wrong with a response; a body of JSON, a text, or None."""
        declared = self._paths[path][method.lower()]["responses"]
        where = f"{status} of {method} {path}"
        if str(status) not in declared:
            # Any route may refuse; and the description leaves out what it says of statuses like 500.
            return [] if status >= 400 else [f"{where} is not in the description"]
        response = declared[str(status)]
        if "$ref" in response:
            response = self._responses[response["$ref"].rpartition("/")[2]]
        if "schema" not in response:
            return []
        return self._against(response["schema"], self._answers, body, where)

    def _against(self, schema: Any, definitions: dict[str, Any], value: Any, where: str) -> list[str]:
        validator = Draft4Validator({**schema, "definitions": definitions})
        return [f"{where}: {error.json_path}: {error.message[:200]}" for error in validator.iter_errors(value)]


def _strict(definition: dict[str, Any], *, may_be_null: bool) -> dict[str, Any]:
    """Return a definition that allows no other fields; Go writes null for what is empty."""
    properties = definition.get("properties")
    if not properties:
        return definition
    if may_be_null:
        properties = {name: {"anyOf": [each, {"type": "null"}]} for name, each in properties.items()}
    return {"additionalProperties": False, **definition, "properties": properties}


class GitHubDescription:
    """GitHub's API as githubkit's models have it."""

    def request_problems(self, method: str, path: str, body: Any) -> list[str]:
        """Return what is wrong with the body of a request."""
        name = _GITHUB_REQUESTS.get((method, path))
        if name is None:
            return [] if body is None else [f"{method} {path} takes no body that this test knows"]
        model = github_model(name)
        known = {info.alias or field for field, info in model.model_fields.items()}
        problems = [f"{method} {path}: no field {key!r}" for key in body if key not in known]
        return problems + _problems(TypeAdapter(model), body, f"{method} {path}")

    def response_problems(self, method: str, path: str, status: int, body: Any) -> list[str]:
        """Return what is wrong with a response."""
        wanted = _GITHUB_RESPONSES.get((method, path))
        if not 200 <= status < 300 or wanted is None or isinstance(body, str):
            return []
        model = github_model(wanted if isinstance(wanted, str) else wanted[0])
        adapter = TypeAdapter[Any](model if isinstance(wanted, str) else list[model])  # type: ignore[valid-type]
        return _problems(adapter, body, f"{status} of {method} {path}")


@cache
def github_model(name: str) -> Any:
    """Return the model of something in GitHub's API."""
    # Imported by name, as checking the types of these models would take minutes.
    return getattr(importlib.import_module("githubkit_schemas.latest.models"), name)


def _problems(adapter: TypeAdapter[Any], value: Any, where: str) -> list[str]:
    try:
        adapter.validate_python(value)
    except ValidationError as error:
        return [f"{where}: {each['loc']}: {each['msg']}" for each in error.errors(include_url=False)]
    return []
