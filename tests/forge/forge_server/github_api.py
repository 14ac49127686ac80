"""The part of GitHub's API that Muster uses, for the forge for tests, as on an Enterprise Server."""

from __future__ import annotations

import fnmatch
from datetime import datetime
from typing import Any

from tests.forge.forge_server.api_requests import ApiRefusal, ApiRequest, page_of, repository_for
from tests.forge.forge_server.faults import Faults
from tests.forge.forge_server.gitea_api import Answer, Route
from tests.forge.forge_server.github_json import GitHubJson, node_id
from tests.forge.forge_server.world import Conflict, ForgeWorld, Item

PREFIX = "/api/v3"
GRAPHQL = "/api/graphql"
ENTERPRISE = "3.19.1"


class GitHubApi:
    """Answers requests."""

    def __init__(self, world: ForgeWorld, json: GitHubJson, faults: Faults) -> None:
        self._world = world
        self._json = json
        self._faults = faults

    def routes(self) -> list[Route]:
        repository = "/repos/{owner}/{repo}"
        issue = f"{repository}/issues/{{issue_number}}"
        pull = f"{repository}/pulls/{{pull_number}}"
        return [
            ("GET", "/user", "", self._user),
            ("GET", "/orgs/{org}/members/{username}", "read:org", self._member),
            ("GET", repository, "repo", self._repository),
            ("POST", f"{repository}/forks", "repo", self._fork),
            ("GET", f"{repository}/branches", "repo", self._branches),
            ("GET", f"{repository}/hooks", "read:repo_hook", self._hooks),
            ("GET", f"{repository}/commits/{{ref}}/status", "repo", self._status),
            ("GET", f"{repository}/commits/{{ref}}/check-runs", "repo", self._check_runs),
            ("GET", f"{repository}/issues", "repo", self._issues),
            ("GET", issue, "repo", self._issue),
            ("PATCH", issue, "repo", self._edit_issue),
            ("GET", f"{issue}/comments", "repo", self._comments),
            ("POST", f"{issue}/comments", "repo", self._comment),
            ("GET", f"{repository}/pulls", "repo", self._pulls),
            ("POST", f"{repository}/pulls", "repo", self._open_pull),
            ("GET", pull, "repo", self._pull),
            ("GET", f"{pull}/reviews", "repo", self._reviews),
            ("GET", f"{pull}/comments", "repo", self._line_comments),
            ("GET", f"{repository}/labels", "repo", self._labels),
            ("POST", f"{pull}/requested_reviewers", "repo", self._request_review),
        ]

    def graphql(self, request: ApiRequest) -> Answer:
        """Mark a pull request as ready; GraphQL says no with status 200."""
        if "markPullRequestReadyForReview" not in request.body["query"]:
            return 200, {"errors": [{"type": "UNKNOWN", "message": "This server knows one mutation."}]}, {}
        wanted = request.body["variables"]["id"]
        for name, repository in self._world.repositories.items():
            for item in repository.items.values():
                if item.pull is None or node_id("PullRequest", item.id) != wanted:
                    continue
                if request.login != item.author and not self._world.may_push(request.login, name):
                    message = f"{request.login} does not have the correct permissions to execute the mutation."
                    return 200, {"data": None, "errors": [{"type": "FORBIDDEN", "message": message}]}, {}
                self._world.edit(name, item.number, by=request.login, draft=False)
                return 200, {"data": {"markPullRequestReadyForReview": {"clientMutationId": None}}}, {}
        message = "Could not resolve to a node with the global id."
        return 200, {"data": None, "errors": [{"type": "NOT_FOUND", "message": message}]}, {}

    def _user(self, request: ApiRequest) -> Answer:
        headers = {"X-GitHub-Enterprise-Version": ENTERPRISE}
        if request.scopes is not None:
            headers["X-OAuth-Scopes"] = ", ".join(sorted(request.scopes))
        return 200, self._json.private_user(request.login), headers

    def _member(self, request: ApiRequest) -> Answer:
        organization = self._world.account(request.path["org"])
        if organization is None or not organization.is_org:
            raise ApiRefusal(404, "Not Found")
        if request.login not in organization.members:
            place = f"{PREFIX}/orgs/{request.path['org']}/public_members/{request.path['username']}"
            return 302, None, {"Location": place}
        user = self._world.account(request.path["username"])
        if user is None or user.login not in organization.members:
            raise ApiRefusal(404, "Not Found")
        return 204, None, {}

    def _repository(self, request: ApiRequest) -> Answer:
        return 200, self._json.repository(self._name(request), request.login, is_full=True), {}

    def _fork(self, request: ApiRequest) -> Answer:
        name = self._name(request)
        try:
            made = self._world.fork(name, request.login, pending=self._faults.late_forks)
        except Conflict as conflict:
            raise ApiRefusal(422, str(conflict)) from None
        return 202, self._json.repository(made.name, request.login, is_full=True), {}

    def _branches(self, request: ApiRequest) -> Answer:
        repository = repository_for(request, self._world)
        found = []
        for ref, sha in repository.git.refs().items():
            if ref.startswith("refs/heads/"):
                branch = ref.removeprefix("refs/heads/")
                is_protected = any(fnmatch.fnmatchcase(branch, each) for each in repository.protections)
                found.append(self._json.branch(repository.name, branch, sha, is_protected=is_protected))
        if request.query.get("protected") == "true":
            found = [each for each in found if each["protected"]]
        return self._page(request, found)

    def _hooks(self, request: ApiRequest) -> Answer:
        repository = repository_for(request, self._world)
        if not self._world.may_push(request.login, repository.name):
            raise ApiRefusal(404, "Not Found")
        return self._page(request, [self._json.hook(repository.name, hook) for hook in repository.hooks])

    def _status(self, request: ApiRequest) -> Answer:
        repository, sha = repository_for(request, self._world), request.path["ref"]
        newest = {each.context: each for each in repository.statuses if each.sha == sha and not each.is_run}
        shown, headers = self._shown(request, list(newest.values()))
        return 200, self._json.combined_status(repository.name, sha, shown, len(newest)), headers

    def _check_runs(self, request: ApiRequest) -> Answer:
        repository, sha = repository_for(request, self._world), request.path["ref"]
        newest = {each.context: each for each in repository.statuses if each.sha == sha and each.is_run}
        shown, headers = self._shown(request, list(newest.values()))
        runs = [self._json.check_run(repository.name, each) for each in shown]
        return 200, {"total_count": len(newest), "check_runs": runs}, headers

    def _issues(self, request: ApiRequest) -> Answer:
        name, query = self._name(request), request.query
        found = list(self._world.repository(name).items.values())
        state = query.get("state", "open")
        if state != "all":
            found = [item for item in found if (item.closed is None) == (state == "open")]
        if "since" in query:
            since = datetime.fromisoformat(query["since"])
            found = [item for item in found if item.updated >= since]
        if query.get("sort", "created") == "updated":
            found.sort(key=lambda item: (item.updated, item.id))
        if query.get("direction", "desc") == "desc":
            found.reverse()
        shown, headers = self._shown(request, found)
        return 200, [self._json.issue(name, item) for item in shown], headers

    def _issue(self, request: ApiRequest) -> Answer:
        name, item = self._item(request)
        return 200, self._json.issue(name, item), {}

    def _edit_issue(self, request: ApiRequest) -> Answer:
        name, item = self._item(request)
        self._edit(name, item, request)
        return 200, self._json.issue(name, item), {}

    def _reviews(self, request: ApiRequest) -> Answer:
        name, item = self._item(request, "pull_number")
        reviews = self._world.pull(name, item.number).reviews
        return self._page(request, [self._json.review(name, item, each) for each in reviews])

    def _line_comments(self, request: ApiRequest) -> Answer:
        name, item = self._item(request, "pull_number")
        reviews = [each for each in self._world.pull(name, item.number).reviews if each.state != "PENDING"]
        lines = [self._json.line_comment(name, item, review, each) for review in reviews for each in review.lines]
        return self._page(request, sorted(lines, key=lambda each: int(each["id"])))

    def _labels(self, request: ApiRequest) -> Answer:
        name = self._name(request)
        return self._page(request, [self._json.label(name, each) for each in self._world.labels_of(name)])

    def _comments(self, request: ApiRequest) -> Answer:
        name, item = self._item(request)
        since = request.query.get("since")
        found = [each for each in item.remarks if since is None or each.updated >= datetime.fromisoformat(since)]
        shown, headers = self._shown(request, found)
        return 200, [self._json.comment(name, item, each) for each in shown], headers

    def _comment(self, request: ApiRequest) -> Answer:
        name, item = self._item(request)
        remark = self._world.comment(name, item.number, self._text(request, "body"), by=request.login)
        return 201, self._json.comment(name, item, remark), {}

    def _pulls(self, request: ApiRequest) -> Answer:
        name, query = self._name(request), request.query
        found = [item for item in self._world.repository(name).items.values() if item.pull is not None]
        state, head = query.get("state", "open"), query.get("head", "")
        if state != "all":
            found = [item for item in found if (item.closed is None) == (state == "open")]
        if ":" in head and not self._faults.ignores_filters:
            owner, _, branch = head.partition(":")
            found = [
                item
                for item in found
                if item.pull is not None
                and item.pull.head_branch == branch
                and (item.pull.head_repository or "").lower().startswith(f"{owner}/".lower())
            ]
        found.reverse()
        shown, headers = self._shown(request, found)
        return 200, [self._json.pull_request(name, item, is_full=False) for item in shown], headers

    def _pull(self, request: ApiRequest) -> Answer:
        name, item = self._item(request, "pull_number")
        if request.raw.headers.get("Accept") == "application/vnd.github.diff":
            pull, git = self._world.pull(name, item.number), self._world.repository(name).git
            base = git.sha(f"refs/heads/{pull.base_branch}") if pull.merged is None else pull.base_sha
            diff = git.diff(base or pull.base_sha, pull.head_sha)
            return 200, diff, {"Content-Type": "application/vnd.github.diff; charset=utf-8"}
        return 200, self._json.pull_request(name, item), {}

    def _open_pull(self, request: ApiRequest) -> Answer:
        name = self._name(request)
        try:
            item = self._world.open_pull(
                name,
                title=self._text(request, "title"),
                body=request.body.get("body"),
                head=self._text(request, "head"),
                base=self._text(request, "base"),
                draft=request.body.get("draft") is True,
                by=request.login,
            )
        except KeyError:
            raise ApiRefusal(422, "Validation Failed") from None
        except Conflict:
            raise ApiRefusal(422, "A pull request already exists.") from None
        return 201, self._json.pull_request(name, item), {}

    def _request_review(self, request: ApiRequest) -> Answer:
        name, item = self._item(request, "pull_number")
        for login in request.body["reviewers"]:
            if self._world.account(login) is None or not self._world.may_push(login, name):
                raise ApiRefusal(422, "Reviews may only be requested from collaborators.")
            self._world.pull(name, item.number).reviewers.append(login)
        return 201, self._json.pull_request(name, item, is_full=False), {}

    def _edit(self, name: str, item: Item, request: ApiRequest) -> None:
        if item.author != request.login and not self._world.may_push(request.login, name):
            raise ApiRefusal(403, "Must have write access.", headers={"X-Accepted-GitHub-Permissions": "issues=write"})
        body = request.body
        self._world.edit(name, item.number, by=request.login, title=body.get("title"), body=body.get("body"))

    def _name(self, request: ApiRequest) -> str:
        return repository_for(request, self._world).name

    def _item(self, request: ApiRequest, number_name: str = "issue_number") -> tuple[str, Item]:
        name, number = self._name(request), request.path[number_name]
        item = self._world.repository(name).items.get(int(number)) if number.isdigit() else None
        if item is None or (number_name == "pull_number" and item.pull is None):
            raise ApiRefusal(404, "Not Found")
        return name, item

    def _text(self, request: ApiRequest, key: str) -> str:
        value = request.body.get(key) if isinstance(request.body, dict) else None
        if not isinstance(value, str) or not value:
            raise ApiRefusal(422, f"Validation Failed: {key}")
        return value

    def _page(self, request: ApiRequest, entries: list[Any]) -> Answer:
        shown, headers = self._shown(request, entries)
        return 200, shown, headers

    def _shown(self, request: ApiRequest, entries: list[Any]) -> tuple[list[Any], dict[str, str]]:
        shown, headers = page_of(request, entries, self._faults, size_name="per_page", default=30, most=100)
        headers.pop("X-Total-Count")  # GitHub does not tell
        return shown, headers
