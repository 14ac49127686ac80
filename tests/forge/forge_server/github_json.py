"""The JSON of GitHub's API and webhooks for the forge for tests (REST API description of 2026)."""

from __future__ import annotations

import base64
import zlib
from typing import Any

from tests.forge.forge_server.gitea_json import time
from tests.forge.forge_server.world import (
    ForgeWorld,
    Happening,
    Hook,
    Item,
    LineRemark,
    Remark,
    Status,
    SubmittedReview,
)

Json = dict[str, Any]

_USER_ADDRESSES = (
    *("followers", "following", "gists", "starred", "subscriptions", "orgs", "repos", "events", "received_events"),
)
_REPOSITORY_ADDRESSES = (
    *("archive", "assignees", "blobs", "branches", "collaborators", "comments", "commits", "compare", "contents"),
    *("contributors", "deployments", "downloads", "events", "forks", "git_commits", "git_refs", "git_tags", "hooks"),
    *("issue_comment", "issue_events", "issues", "keys", "labels", "languages", "merges", "milestones"),
    *("notifications", "pulls", "releases", "stargazers", "statuses", "subscribers", "subscription", "tags", "teams"),
    "trees",
)
#: What Gitea's words for reviews are here.
_REVIEWS = {"REQUEST_CHANGES": "CHANGES_REQUESTED", "COMMENT": "COMMENTED"}
_EVENTS = {"label_updated": "labeled", "label_cleared": "unlabeled", "synchronized": "synchronize"}


def node_id(kind: str, number: int) -> str:
    """Return the id that GraphQL knows something by."""
    return base64.b64encode(f"{kind}:{number}".encode()).decode()


def _reactions(own: str) -> Json:
    kinds = ("+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes")
    return {"url": f"{own}/reactions", "total_count": 0, **dict.fromkeys(kinds, 0)}


class GitHubJson:
    """Renders the state as GitHub does."""

    def __init__(self, world: ForgeWorld, url: str) -> None:
        self._world = world
        self._url = url

    def user(self, login: str) -> Json | None:
        """Return a user; None for a deleted one."""
        account = self._world.account(login)
        if account is None:
            return None
        api = f"{self._url}/api/v3/users/{account.login}"
        addresses = {f"{name.replace('orgs', 'organizations')}_url": f"{api}/{name}" for name in _USER_ADDRESSES}
        return {
            "login": account.login,
            "id": account.id,
            "node_id": node_id("User", account.id),
            "avatar_url": f"{self._url}/avatars/{account.id}",
            "gravatar_id": "",
            "url": api,
            "html_url": f"{self._url}/{account.login}",
            **addresses,
            "type": "Organization" if account.is_org else "Bot" if account.is_bot else "User",
            "site_admin": False,
        }

    def private_user(self, login: str) -> Json:
        """Return the user that a token belongs to."""
        nothing = ("private_gists", "total_private_repos", "owned_private_repos", "disk_usage", "collaborators")
        none = ("name", "company", "location", "email", "hireable", "bio")
        return {
            **(self.user(login) or {}),
            **dict.fromkeys(nothing, 0),
            **dict.fromkeys(none, None),
            **dict.fromkeys(("public_repos", "public_gists", "followers", "following"), 0),
            "blog": "",
            "two_factor_authentication": True,
            "created_at": "2020-01-01T00:00:00Z",
            "updated_at": "2020-01-01T00:00:00Z",
        }

    def repository(self, name: str, viewer: str | None = None, *, is_full: bool = False) -> Json:
        found = self._world.repository(name)
        api = self._api(name)
        created = time(found.created)
        may_push = viewer is not None and self._world.may_push(viewer, name)
        shown: Json = {
            "id": found.id,
            "node_id": node_id("Repository", found.id),
            "name": name.partition("/")[2],
            "full_name": name,
            "owner": self.user(found.owner),
            "private": found.is_private,
            "html_url": f"{self._url}/{name}",
            "description": None,
            "fork": found.parent is not None,
            "url": api,
            **{f"{each}_url": f"{api}/{each}" for each in _REPOSITORY_ADDRESSES},
            "git_url": f"git://forge.example/{name}.git",
            "ssh_url": f"git@forge.example:{name}.git",
            "clone_url": f"https://forge.example/{name}.git",
            "mirror_url": None,
            "svn_url": f"https://forge.example/{name}",
            "homepage": None,
            "language": None,
            "license": None,
            "default_branch": found.default_branch,
            **dict.fromkeys(("forks_count", "stargazers_count", "watchers_count", "size", "open_issues_count"), 0),
            **dict.fromkeys(("forks", "open_issues", "watchers"), 0),
            "has_issues": True,
            **dict.fromkeys(
                ("has_projects", "has_wiki", "has_pages", "has_discussions", "archived", "disabled"), False
            ),
            "has_pull_requests": True,
            "is_template": False,
            "web_commit_signoff_required": False,
            "topics": [],
            "visibility": "private" if found.is_private else "public",
            "pushed_at": created,
            "created_at": created,
            "updated_at": created,
            "permissions": {"admin": False, "maintain": False, "push": may_push, "triage": may_push, "pull": True},
        }
        if is_full:
            shown |= {"subscribers_count": 0, "network_count": 0}
            if found.parent is not None and found.parent in self._world.repositories:
                shown["parent"] = shown["source"] = self.repository(found.parent)
        return shown

    def issue(self, name: str, item: Item) -> Json:
        api, shown = self._api(name), self._shared(name, item)
        if item.pull is not None:
            page = self._page(name, item)
            shown["pull_request"] = {
                "url": f"{api}/pulls/{item.number}",
                "html_url": page,
                "diff_url": f"{page}.diff",
                "patch_url": f"{page}.patch",
                "merged_at": time(item.pull.merged),
            }
        own = f"{api}/issues/{item.number}"
        return shown | {
            "url": own,
            "repository_url": api,
            "labels_url": f"{own}/labels{{/name}}",
            "comments_url": f"{own}/comments",
            "events_url": f"{own}/events",
            "timeline_url": f"{own}/timeline",
            "comments": len(item.remarks),
            "state_reason": None,
            "performed_via_github_app": None,
            "closed_by": None,
            "reactions": _reactions(own),
        }

    def pull_request(self, name: str, item: Item, *, is_full: bool = True) -> Json:
        pull = self._world.pull(name, item.number)
        git = self._world.repository(name).git
        base_sha = git.sha(f"refs/heads/{pull.base_branch}") or pull.base_sha
        api, page = self._api(name), self._page(name, item)
        own, shared = f"{api}/pulls/{item.number}", self._shared(name, item)
        head_name = pull.head_repository if pull.head_repository in self._world.repositories else None
        addresses = {
            "url": own,
            "html_url": page,
            "diff_url": f"{page}.diff",
            "patch_url": f"{page}.patch",
            "issue_url": f"{api}/issues/{item.number}",
            "commits_url": f"{own}/commits",
            "review_comments_url": f"{own}/comments",
            "review_comment_url": f"{api}/pulls/comments{{/number}}",
            "comments_url": f"{api}/issues/{item.number}/comments",
            "statuses_url": f"{api}/statuses/{pull.head_sha}",
        }
        shown: Json = {
            **shared,
            **addresses,
            "node_id": node_id("PullRequest", item.id),
            "merged_at": time(pull.merged),
            "merge_commit_sha": pull.merge_commit,
            "requested_reviewers": [self.user(login) for login in pull.reviewers],
            "requested_teams": [],
            "draft": pull.is_draft,
            "auto_merge": None,
            "head": self._branch(head_name, pull.head_branch, pull.head_sha),
            "base": self._branch(name, pull.base_branch, base_sha),
            "_links": {
                "self": {"href": own},
                "html": {"href": page},
                "issue": {"href": addresses["issue_url"]},
                "comments": {"href": addresses["comments_url"]},
                "review_comments": {"href": addresses["review_comments_url"]},
                "review_comment": {"href": addresses["review_comment_url"]},
                "commits": {"href": addresses["commits_url"]},
                "statuses": {"href": addresses["statuses_url"]},
            },
        }
        if is_full:
            can = self._world.is_mergeable(name, item.number) if pull.is_checked else None
            shown |= {
                "merged": pull.merged is not None,
                "mergeable": can,
                "rebaseable": can,
                "mergeable_state": "clean" if can else "unknown" if can is None else "dirty",
                "merged_by": None,
                "maintainer_can_modify": False,
                **dict.fromkeys(("review_comments", "commits", "additions", "deletions", "changed_files"), 0),
                "comments": len(item.remarks),
            }
        return shown

    def comment(self, name: str, item: Item, remark: Remark) -> Json:
        api = self._api(name)
        return {
            "id": remark.id,
            "node_id": node_id("IssueComment", remark.id),
            "url": f"{api}/issues/comments/{remark.id}",
            "html_url": f"{self._page(name, item)}#issuecomment-{remark.id}",
            "issue_url": f"{api}/issues/{item.number}",
            "user": self.user(remark.author),
            "body": remark.body,
            "author_association": "NONE",
            "performed_via_github_app": None,
            "reactions": _reactions(f"{api}/issues/comments/{remark.id}"),
            "created_at": time(remark.created),
            "updated_at": time(remark.updated),
        }

    def review(self, name: str, item: Item, review: SubmittedReview) -> Json:
        page = f"{self._page(name, item)}#pullrequestreview-{review.id}"
        pull = f"{self._api(name)}/pulls/{item.number}"
        is_pending = review.state == "PENDING"
        return {
            "id": review.id,
            "node_id": node_id("PullRequestReview", review.id),
            "user": self.user(review.author) if self._world.account(review.author) is not None else None,
            "body": review.body,
            "state": _REVIEWS.get(review.state, review.state),
            "html_url": page,
            "pull_request_url": pull,
            "author_association": "NONE",
            "_links": {"html": {"href": page}, "pull_request": {"href": pull}},
            **({} if is_pending else {"submitted_at": time(review.created)}),
            "commit_id": self._world.pull(name, item.number).head_sha,
        }

    def line_comment(self, name: str, item: Item, review: SubmittedReview, remark: LineRemark) -> Json:
        pull = f"{self._api(name)}/pulls/{item.number}"
        own = f"{self._api(name)}/pulls/comments/{remark.id}"
        page = f"{self._page(name, item)}#discussion_r{remark.id}"
        is_current = remark.commit == self._world.pull(name, item.number).head_sha
        return {
            "id": remark.id,
            "node_id": node_id("PullRequestReviewComment", remark.id),
            "pull_request_review_id": review.id,
            "url": own,
            "html_url": page,
            "pull_request_url": pull,
            "diff_hunk": remark.hunk,
            "path": remark.path,
            "position": 1 if is_current else None,
            "original_position": 1,
            "commit_id": remark.commit,
            "original_commit_id": remark.commit,
            # GitHub forgets the line once a later commit changed it. Here every later commit does.
            "line": remark.line if is_current else None,
            "original_line": remark.line,
            "start_line": None,
            "original_start_line": None,
            "start_side": None,
            "side": "LEFT" if remark.is_old else "RIGHT",
            "subject_type": "line",
            "user": self.user(remark.author),
            "body": remark.body,
            "author_association": "NONE",
            "created_at": time(remark.created),
            "updated_at": time(remark.updated),
            "_links": {"self": {"href": own}, "html": {"href": page}, "pull_request": {"href": pull}},
            "reactions": _reactions(own),
        }

    def combined_status(self, name: str, sha: str, statuses: list[Status], total: int) -> Json:
        return {
            "state": "pending",
            "statuses": [
                {
                    "id": each.id,
                    "node_id": node_id("StatusContext", each.id),
                    "url": f"{self._api(name)}/statuses/{sha}",
                    "avatar_url": None,
                    "state": each.state,
                    "description": each.description or None,
                    "target_url": each.target_url or None,
                    "context": each.context,
                    "created_at": time(each.created),
                    "updated_at": time(each.created),
                }
                for each in statuses
            ],
            "sha": sha,
            "total_count": total,
            "repository": self.repository(name),
            "commit_url": f"{self._api(name)}/commits/{sha}",
            "url": f"{self._api(name)}/commits/{sha}/status",
        }

    def check_run(self, name: str, status: Status) -> Json:
        is_running = status.state in ("queued", "in_progress")
        own = f"{self._api(name)}/check-runs/{status.id}"
        return {
            "id": status.id,
            "node_id": node_id("CheckRun", status.id),
            "head_sha": status.sha,
            "external_id": "",
            "url": own,
            "html_url": f"{self._url}/{name}/runs/{status.id}",
            "details_url": None,
            "status": status.state if is_running else "completed",
            "conclusion": None if is_running else status.state,
            "started_at": time(status.created),
            "completed_at": None if is_running else time(status.created),
            "name": status.context,
            "output": {
                "title": status.description or None,
                "summary": None,
                "text": None,
                "annotations_count": 0,
                "annotations_url": f"{own}/annotations",
            },
            "check_suite": None,
            "app": None,
            "pull_requests": [],
        }

    def branch(self, name: str, branch: str, sha: str, *, is_protected: bool) -> Json:
        return {
            "name": branch,
            "commit": {"sha": sha, "url": f"{self._api(name)}/commits/{sha}"},
            "protected": is_protected,
        }

    def hook(self, name: str, hook: Hook) -> Json:
        own = f"{self._api(name)}/hooks/{hook.id}"
        return {
            "type": "Repository",
            "id": hook.id,
            "name": "web",
            "active": True,
            "events": ["issues", "issue_comment", "pull_request"],
            "config": {"content_type": "json", "insecure_ssl": "0", "url": hook.url, "secret": "********"},
            "updated_at": time(hook.created),
            "created_at": time(hook.created),
            "url": own,
            "test_url": f"{own}/test",
            "ping_url": f"{own}/pings",
            "deliveries_url": f"{own}/deliveries",
            "last_response": {"code": None, "status": "unused", "message": None},
        }

    def event(self, happening: Happening) -> tuple[str, Json]:
        """Return a webhook's event and payload."""
        name = happening.repository
        item = self._world.item(name, happening.number)
        action = _EVENTS.get(happening.action, happening.action)
        if happening.kind == "label" and happening.subject not in item.labels:
            action = "unlabeled"
        payload: Json = {"action": action, "repository": self.repository(name), "sender": self.user(happening.by)}
        if happening.kind == "label":
            payload["label"] = self.label(name, happening.subject or "")
        elif happening.kind == "assign":
            payload["assignee"] = self.user(happening.subject or "")
        if happening.review is not None:
            review = self.review(name, item, happening.review)
            payload |= {"action": "submitted", "review": review, "pull_request": self.pull_request(name, item)}
            return "pull_request_review", payload
        if happening.kind == "comment":
            assert happening.remark is not None
            payload["issue"] = self.issue(name, item)
            payload["comment"] = self.comment(name, item, happening.remark)
            if action == "edited":
                payload["changes"] = {}
            return "issue_comment", payload
        if item.pull is None:
            payload["issue"] = self.issue(name, item)
            return "issues", payload
        payload |= {"number": item.number, "pull_request": self.pull_request(name, item)}
        if action == "synchronize":
            payload |= {"before": "0" * 40, "after": item.pull.head_sha}
        return "pull_request", payload

    def label(self, name: str, label: str) -> Json:
        number = 1 + zlib.crc32(label.encode())
        return {
            "id": number,
            "node_id": node_id("Label", number),
            "url": f"{self._api(name)}/labels/{number}",
            "name": label,
            "color": "ee9900",
            "default": False,
            "description": None,
            "archived_at": None,
            "archived_by": None,
        }

    def _shared(self, name: str, item: Item) -> Json:
        users = [self.user(login) for login in item.assignees]
        return {
            "id": item.id,
            "node_id": node_id("Issue", item.id),
            "number": item.number,
            "state": "open" if item.closed is None else "closed",
            "locked": False,
            "active_lock_reason": None,
            "title": item.title,
            "user": self.user(item.author),
            # GitHub says null where nothing was written.
            "body": item.body or None,
            "labels": [self.label(name, label) for label in item.labels],
            "assignee": users[0] if users else None,
            "assignees": users,
            "milestone": None,
            "author_association": "NONE",
            "html_url": self._page(name, item),
            "created_at": time(item.created),
            "updated_at": time(item.updated),
            "closed_at": time(item.closed),
        }

    def _branch(self, name: str | None, branch: str, sha: str) -> Json:
        owner = name.partition("/")[0] if name is not None else "unknown"
        return {
            "label": f"{owner}:{branch}",
            "ref": branch,
            "sha": sha,
            "user": self.user(owner),
            "repo": self.repository(name) if name is not None else None,
        }

    def _api(self, name: str) -> str:
        return f"{self._url}/api/v3/repos/{name}"

    def _page(self, name: str, item: Item) -> str:
        return f"{self._url}/{name}/{'issues' if item.pull is None else 'pull'}/{item.number}"
