"""The part of Gitea's API that Muster uses, for the forge for tests (API description of Gitea 1.25)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from tests.forge.forge_server.api_requests import ApiRefusal, ApiRequest, page_of, repository_for
from tests.forge.forge_server.faults import Faults
from tests.forge.forge_server.gitea_json import GiteaJson
from tests.forge.forge_server.world import Conflict, ForgeWorld, Item

VERSION = "1.25.3"
PREFIX = "/api/v1"

#: Status, JSON or text, and headers.
Answer = tuple[int, Any, dict[str, str]]
#: Method, path as in the API description, the scope that a token needs, and who answers.
Route = tuple[str, str, str, Callable[[ApiRequest], Answer]]


class GiteaApi:
    """Answers requests."""

    def __init__(self, world: ForgeWorld, json: GiteaJson, faults: Faults) -> None:
        self._world = world
        self._json = json
        self._faults = faults

    def routes(self) -> list[Route]:
        repository = "/repos/{owner}/{repo}"
        issue = f"{repository}/issues/{{index}}"
        pull = f"{repository}/pulls/{{index}}"
        return [
            ("GET", "/version", "", self._version),
            ("GET", "/user", "read:user", self._user),
            ("GET", "/orgs/{org}/members/{username}", "read:organization", self._member),
            ("GET", repository, "read:repository", self._repository),
            ("POST", f"{repository}/forks", "write:repository", self._fork),
            ("GET", f"{repository}/branch_protections", "read:repository", self._protections),
            ("GET", f"{repository}/hooks", "write:repository", self._hooks),
            ("GET", f"{repository}/commits/{{ref}}/statuses", "read:repository", self._statuses),
            ("GET", f"{repository}/issues", "read:issue", self._issues),
            ("GET", issue, "read:issue", self._issue),
            ("PATCH", issue, "write:issue", self._edit_issue),
            ("GET", f"{issue}/comments", "read:issue", self._comments),
            ("POST", f"{issue}/comments", "write:issue", self._comment),
            ("GET", f"{repository}/pulls", "read:repository", self._pulls),
            ("POST", f"{repository}/pulls", "write:repository", self._open_pull),
            ("GET", f"{pull}.{{diffType}}", "read:repository", self._diff),
            ("GET", pull, "read:repository", self._pull),
            ("PATCH", pull, "write:repository", self._edit_pull),
            ("GET", f"{pull}/reviews", "read:repository", self._reviews),
            ("GET", f"{pull}/reviews/{{id}}/comments", "read:repository", self._line_comments),
            ("GET", f"{repository}/labels", "read:issue", self._labels),
            ("GET", "/orgs/{org}/labels", "read:organization", self._org_labels),
            ("POST", f"{pull}/requested_reviewers", "write:repository", self._request_review),
        ]

    def _version(self, request: ApiRequest) -> Answer:
        return 200, {"version": VERSION}, {}

    def _user(self, request: ApiRequest) -> Answer:
        return 200, self._json.user(request.login), {}

    def _member(self, request: ApiRequest) -> Answer:
        organization = self._world.account(request.path["org"])
        if organization is None or not organization.is_org:
            raise ApiRefusal(404)
        if request.login not in organization.members:
            place = f"{PREFIX}/orgs/{request.path['org']}/public_members/{request.path['username']}"
            return 303, None, {"Location": place}
        user = self._world.account(request.path["username"])
        return (204 if user is not None and user.login in organization.members else 404), None, {}

    def _repository(self, request: ApiRequest) -> Answer:
        return 200, self._json.repository(self._name(request), request.login), {}

    def _fork(self, request: ApiRequest) -> Answer:
        name = self._name(request)
        forked = f"{request.login}/{name.partition('/')[2]}"
        if forked in self._world.repositories:
            raise ApiRefusal(409, "The repository with the same name already exists.")
        self._world.fork(name, request.login)
        return 202, self._json.repository(forked, request.login), {}

    def _protections(self, request: ApiRequest) -> Answer:
        repository = repository_for(request, self._world)
        return 200, [self._json.protection(repository.name, each) for each in repository.protections], {}

    def _hooks(self, request: ApiRequest) -> Answer:
        name = self._name(request, write=True)
        return self._page(request, [self._json.hook(hook) for hook in self._world.repository(name).hooks])

    def _statuses(self, request: ApiRequest) -> Answer:
        repository = repository_for(request, self._world)
        found = [each for each in repository.statuses if each.sha == request.path["ref"] and not each.is_run]
        return self._page(request, [self._json.status(repository.name, each) for each in reversed(found)])

    def _issues(self, request: ApiRequest) -> Answer:
        name, query = self._name(request), request.query
        found = list(self._world.repository(name).items.values())
        state, kind = query.get("state", "open"), query.get("type")
        if state != "all":
            found = [item for item in found if (item.closed is None) == (state == "open")]
        if kind is not None:
            found = [item for item in found if (item.pull is None) == (kind == "issues")]
        if "since" in query:
            since = datetime.fromisoformat(query["since"])
            found = [item for item in found if item.updated >= since]
        found.sort(key=lambda item: (item.created, item.id), reverse=True)
        shown, headers = self._shown(request, found)
        return 200, [self._json.issue(name, item) for item in shown], headers

    def _issue(self, request: ApiRequest) -> Answer:
        name, item = self._item(request)
        return 200, self._json.issue(name, item), {}

    def _edit_issue(self, request: ApiRequest) -> Answer:
        name, item = self._item(request)
        self._edit(name, item, request)
        return 201, self._json.issue(name, item), {}

    def _comments(self, request: ApiRequest) -> Answer:
        name, item = self._item(request)
        since = request.query.get("since")
        found = [each for each in item.remarks if since is None or each.updated >= datetime.fromisoformat(since)]
        return 200, [self._json.comment(name, item, each) for each in found], {"X-Total-Count": str(len(found))}

    def _comment(self, request: ApiRequest) -> Answer:
        name, item = self._item(request)
        remark = self._world.comment(name, item.number, self._text(request, "body"), by=request.login)
        return 201, self._json.comment(name, item, remark), {}

    def _pulls(self, request: ApiRequest) -> Answer:
        name, query = self._name(request), request.query
        found = [item for item in self._world.repository(name).items.values() if item.pull is not None]
        state = query.get("state", "open")
        if state != "all":
            found = [item for item in found if (item.closed is None) == (state == "open")]
        if "poster" in query:
            found = [item for item in found if item.author == query["poster"]]
        found.sort(key=lambda item: (item.created, item.id), reverse=True)
        shown, headers = self._shown(request, found)
        return 200, [self._json.pull_request(name, item) for item in shown], headers

    def _pull(self, request: ApiRequest) -> Answer:
        name, item = self._item(request, pull=True)
        return 200, self._json.pull_request(name, item), {}

    def _diff(self, request: ApiRequest) -> Answer:
        name, item = self._item(request, pull=True)
        pull, git = self._world.pull(name, item.number), self._world.repository(name).git
        base = git.sha(f"refs/heads/{pull.base_branch}") if pull.merged is None else pull.base_sha
        return 200, git.diff(base or pull.base_sha, pull.head_sha), {"Content-Type": "text/plain;charset=utf-8"}

    def _open_pull(self, request: ApiRequest) -> Answer:
        name = self._name(request)
        try:
            item = self._world.open_pull(
                name,
                title=self._text(request, "title"),
                body=request.body.get("body"),
                head=self._text(request, "head"),
                base=self._text(request, "base"),
                by=request.login,
            )
        except KeyError:
            raise ApiRefusal(404, "The target couldn't be found.") from None
        except Conflict as conflict:
            raise ApiRefusal(409, str(conflict)) from None
        return 201, self._json.pull_request(name, item), {}

    def _edit_pull(self, request: ApiRequest) -> Answer:
        name, item = self._item(request, pull=True)
        self._edit(name, item, request)
        return 201, self._json.pull_request(name, item), {}

    def _request_review(self, request: ApiRequest) -> Answer:
        name, item = self._item(request, pull=True)
        pull = self._world.pull(name, item.number)
        for login in request.body.get("reviewers") or ():
            if self._world.account(login) is None:
                raise ApiRefusal(404, f"User '{login}' not exist")
            if login == item.author:
                raise ApiRefusal(422, "poster of pr can't be reviewer")
            pull.reviewers.append(login)
        return 201, [], {}

    def _reviews(self, request: ApiRequest) -> Answer:
        name, item = self._item(request, pull=True)
        reviews = self._world.pull(name, item.number).reviews
        return self._page(request, [self._json.review(name, item, each) for each in reviews])

    def _line_comments(self, request: ApiRequest) -> Answer:
        name, item = self._item(request, pull=True)
        for review in self._world.pull(name, item.number).reviews:
            if str(review.id) == request.path["id"]:
                return 200, [self._json.line_comment(name, item, review, each) for each in review.lines], {}
        raise ApiRefusal(404, "The target couldn't be found.")

    def _labels(self, request: ApiRequest) -> Answer:
        name = self._name(request)
        return self._page(request, [self._json.label(name, each) for each in self._world.labels_of(name)])

    def _org_labels(self, request: ApiRequest) -> Answer:
        organization = self._world.account(request.path["org"])
        if organization is None or not organization.is_org:
            raise ApiRefusal(404, "The target couldn't be found.")
        return self._page(request, [self._json.label(organization.login, each) for each in organization.labels])

    def _edit(self, name: str, item: Item, request: ApiRequest) -> None:
        if item.author != request.login and not self._world.may_push(request.login, name):
            raise ApiRefusal(403, "user should have permission to write to this issue")
        body = request.body
        self._world.edit(name, item.number, by=request.login, title=body.get("title"), body=body.get("body"))

    def _name(self, request: ApiRequest, *, write: bool = False) -> str:
        name = repository_for(request, self._world).name
        if write and not self._world.may_push(request.login, name):
            raise ApiRefusal(403, "user should be an owner or a collaborator with admin write of a repository")
        return name

    def _item(self, request: ApiRequest, *, pull: bool = False) -> tuple[str, Item]:
        name, index = self._name(request), request.path["index"]
        item = self._world.repository(name).items.get(int(index)) if index.isdigit() else None
        if item is None or (pull and item.pull is None):
            raise ApiRefusal(404, "The target couldn't be found.")
        return name, item

    def _text(self, request: ApiRequest, key: str) -> str:
        value = request.body.get(key) if isinstance(request.body, dict) else None
        if not isinstance(value, str) or not value:
            raise ApiRefusal(422, f"[{key.title()}]: Required")
        return value

    def _page(self, request: ApiRequest, entries: list[Any]) -> Answer:
        shown, headers = self._shown(request, entries)
        return 200, shown, headers

    def _shown(self, request: ApiRequest, entries: list[Any]) -> tuple[list[Any], dict[str, str]]:
        return page_of(request, entries, self._faults, size_name="limit", default=30, most=50)
