"""The JSON of Gitea's API and webhooks for the forge for tests (API description of Gitea 1.25)."""

from __future__ import annotations

import zlib
from datetime import datetime
from typing import Any

from tests.forge.forge_server.world import (
    ForgeWorld,
    Happening,
    Hook,
    Item,
    LineRemark,
    Remark,
    Repository,
    Status,
    SubmittedReview,
)

Json = dict[str, Any]
_NEVER = "0001-01-01T00:00:00Z"
_DRAFTS = ("wip:", "[wip]")

#: ``X-Gitea-Event`` and ``X-Gitea-Event-Type`` by what happened; the second pair is a pull request's.
EVENTS = {
    "issue": (("issues", "issues"), ("pull_request", "pull_request")),
    "label": (("issues", "issue_label"), ("pull_request", "pull_request_label")),
    "assign": (("issues", "issue_assign"), ("pull_request", "pull_request_assign")),
    "comment": (("issue_comment", "issue_comment"), ("issue_comment", "pull_request_comment")),
    "pull_request": (("pull_request", "pull_request"), ("pull_request", "pull_request")),
    "synchronize": (("pull_request", "pull_request_sync"), ("pull_request", "pull_request_sync")),
}
#: The same by what a review says.
REVIEWS = {
    "APPROVED": ("pull_request_approved", "pull_request_review_approved"),
    "REQUEST_CHANGES": ("pull_request_rejected", "pull_request_review_rejected"),
    "COMMENT": ("pull_request_comment", "pull_request_review_comment"),
}


def time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def is_draft(title: str) -> bool:
    return title.lower().startswith(_DRAFTS)


class GiteaJson:
    """Renders the state as Gitea does, with absolute addresses."""

    def __init__(self, world: ForgeWorld, url: str) -> None:
        self._world = world
        self._url = url

    def user(self, login: str) -> Json:
        account = self._world.account(login)
        name = account.login if account is not None else "Ghost"
        return {
            "id": account.id if account is not None else -1,
            "login": name,
            "login_name": "",
            "source_id": 0,
            "full_name": "",
            "email": f"{name.lower()}@noreply.forge.example",
            "avatar_url": f"{self._url}/avatars/{name}",
            "html_url": f"{self._url}/{name}",
            "language": "",
            "is_admin": False,
            "last_login": _NEVER,
            "created": _NEVER,
            "restricted": False,
            "active": False,
            "prohibit_login": False,
            "location": "",
            "website": "",
            "description": "",
            "visibility": "public",
            "followers_count": 0,
            "following_count": 0,
            "starred_repos_count": 0,
        }

    def repository(self, name: str, viewer: str | None = None, *, with_parent: bool = True) -> Json:
        found = self._world.repository(name)
        may_push = viewer is not None and self._world.may_push(viewer, name)
        parent = found.parent if with_parent and found.parent in self._world.repositories else None
        return {
            "id": found.id,
            "owner": self.user(found.owner),
            "name": name.partition("/")[2],
            "full_name": name,
            "description": "",
            "empty": False,
            "private": found.is_private,
            "fork": found.parent is not None,
            "template": False,
            "parent": self.repository(parent, with_parent=False) if parent is not None else None,
            "mirror": False,
            "size": 24,
            "language": "",
            "languages_url": f"{self._api(name)}/languages",
            "html_url": f"{self._url}/{name}",
            "url": self._api(name),
            "link": "",
            # As if the forge did not know the address that it is reached by.
            "ssh_url": f"git@forge.example:{name}.git",
            "clone_url": f"https://forge.example/{name}.git",
            "original_url": "",
            "website": "",
            "stars_count": 0,
            "forks_count": 0,
            "watchers_count": 1,
            "open_issues_count": 0,
            "open_pr_counter": 0,
            "release_counter": 0,
            "default_branch": found.default_branch,
            "archived": False,
            "created_at": time(found.created),
            "updated_at": time(found.created),
            "archived_at": "1970-01-01T00:00:00Z",
            "permissions": {"admin": False, "push": may_push, "pull": True},
            "has_issues": True,
            "has_pull_requests": True,
            "has_wiki": False,
            "internal": False,
            "object_format_name": "sha1",
            "topics": [],
            "licenses": None,
        }

    def label(self, name: str, label: str) -> Json:
        return {
            "id": 1 + zlib.crc32(label.encode()),
            "name": label,
            "exclusive": False,
            "is_archived": False,
            "color": "ee9900",
            "description": "",
            "url": f"{self._api(name)}/labels/1",
        }

    def issue(self, name: str, item: Item) -> Json:
        repository = self._world.repository(name)
        pull = item.pull
        meta = None
        if pull is not None:
            meta = {
                "merged": pull.merged is not None,
                "merged_at": time(pull.merged),
                "draft": is_draft(item.title),
                "html_url": self._page(name, item),
            }
        return {
            **self._shared(name, item),
            "original_author": "",
            "original_author_id": 0,
            "ref": "",
            "assets": [],
            "comments": len(item.remarks),
            "time_estimate": 0,
            "pull_request": meta,
            "repository": {
                "id": repository.id,
                "name": name.partition("/")[2],
                "owner": repository.owner,
                "full_name": name,
            },
        }

    def pull_request(self, name: str, item: Item) -> Json:
        pull = self._world.pull(name, item.number)
        repository = self._world.repository(name)
        draft = is_draft(item.title)
        is_mergeable = (
            pull.merged is None and not draft and pull.is_checked and self._world.is_mergeable(name, item.number)
        )
        base_sha = repository.git.sha(f"refs/heads/{pull.base_branch}") or pull.base_sha
        head_exists = pull.head_repository in self._world.repositories
        return {
            **self._shared(name, item),
            "draft": draft,
            "comments": len(item.remarks),
            "review_comments": 0,
            "additions": None,
            "deletions": None,
            "changed_files": None,
            "requested_reviewers": [self.user(login) for login in pull.reviewers] or None,
            "requested_reviewers_teams": None,
            "diff_url": f"{self._page(name, item)}.diff",
            "patch_url": f"{self._page(name, item)}.patch",
            "mergeable": is_mergeable,
            "merged": pull.merged is not None,
            "merged_at": time(pull.merged),
            "merge_commit_sha": pull.merge_commit,
            "merged_by": None,
            "allow_maintainer_edit": False,
            "base": self._branch(name, pull.base_branch, base_sha),
            "head": self._branch(pull.head_repository if head_exists else None, pull.head_branch, pull.head_sha),
            "merge_base": repository.git.merge_base(base_sha, pull.head_sha),
        }

    def comment(self, name: str, item: Item, remark: Remark) -> Json:
        page = self._page(name, item)
        return {
            "id": remark.id,
            "html_url": f"{page}#issuecomment-{remark.id}",
            "pull_request_url": page if item.pull is not None else "",
            "issue_url": page if item.pull is None else "",
            "user": self.user(remark.author),
            "original_author": "",
            "original_author_id": 0,
            "body": remark.body,
            "assets": [],
            "created_at": time(remark.created),
            "updated_at": time(remark.updated),
        }

    def review(self, name: str, item: Item, review: SubmittedReview) -> Json:
        page = self._page(name, item)
        return {
            "id": review.id,
            "user": self.user(review.author),
            "team": None,
            "state": review.state,
            "body": review.body,
            "commit_id": self._world.pull(name, item.number).head_sha,
            "stale": False,
            "official": False,
            "dismissed": False,
            "comments_count": len(review.lines),
            "submitted_at": time(review.created),
            "updated_at": time(review.created),
            "html_url": f"{page}#issuecomment-{review.id}",
            "pull_request_url": page,
        }

    def line_comment(self, name: str, item: Item, review: SubmittedReview, remark: LineRemark) -> Json:
        page = self._page(name, item)
        return {
            "id": remark.id,
            "body": remark.body,
            "user": self.user(remark.author),
            "resolver": None,
            "pull_request_review_id": review.id,
            "created_at": time(remark.created),
            "updated_at": time(remark.updated),
            "path": remark.path,
            "commit_id": remark.commit,
            "original_commit_id": "",
            "diff_hunk": remark.hunk,
            "position": 0 if remark.is_old else remark.line,
            "original_position": remark.line if remark.is_old else 0,
            "html_url": f"{page}#issuecomment-{remark.id}",
            "pull_request_url": page,
        }

    def status(self, name: str, status: Status) -> Json:
        return {
            "id": status.id,
            "status": status.state,
            "target_url": status.target_url,
            "description": status.description,
            "url": f"{self._api(name)}/statuses/{status.sha}",
            "context": status.context,
            "creator": self.user(self._world.repository(name).owner),
            "created_at": time(status.created),
            "updated_at": time(status.created),
        }

    def protection(self, name: str, pattern: str) -> Json:
        created = time(self._world.repository(name).created)
        return {
            "branch_name": pattern,
            "rule_name": pattern,
            "priority": 1,
            "enable_push": False,
            "enable_push_whitelist": False,
            "push_whitelist_usernames": [],
            "push_whitelist_teams": [],
            "enable_force_push": False,
            "enable_merge_whitelist": False,
            "enable_status_check": False,
            "status_check_contexts": None,
            "required_approvals": 0,
            "created_at": created,
            "updated_at": created,
        }

    def hook(self, hook: Hook) -> Json:
        return {
            "id": hook.id,
            "type": "gitea",
            "branch_filter": "",
            "config": {"content_type": "json", "url": hook.url},
            "events": ["issues", "issue_assign", "issue_label", "issue_comment", "pull_request", "pull_request_sync"],
            "authorization_header": "",
            "active": True,
            "created_at": time(hook.created),
            "updated_at": time(hook.created),
        }

    def event(self, happening: Happening) -> tuple[str, str, Json]:
        """Return a webhook's event, event type and payload. It does not tell which label or assignee changed."""
        item = self._world.item(happening.repository, happening.number)
        if happening.review is not None:
            event, event_type = REVIEWS[happening.review.state]
        else:
            event, event_type = EVENTS[happening.kind][item.pull is not None]
        common = {
            "action": happening.action,
            "repository": self.repository(happening.repository),
            "sender": self.user(happening.by),
        }
        if happening.kind == "comment":
            assert happening.remark is not None
            payload = common | {
                "issue": self.issue(happening.repository, item),
                "comment": self.comment(happening.repository, item, happening.remark),
                "is_pull": item.pull is not None,
            }
        elif item.pull is not None:
            payload = common | {
                "number": item.number,
                "pull_request": self.pull_request(happening.repository, item),
                "requested_reviewer": None,
                "commit_id": "",
                "review": None if happening.review is None else {"type": event_type, "content": happening.review.body},
            }
        else:
            payload = common | {
                "number": item.number,
                "issue": self.issue(happening.repository, item),
                "commit_id": "",
            }
        return event, event_type, payload

    def _shared(self, name: str, item: Item) -> Json:
        users = [self.user(login) for login in item.assignees]
        return {
            "id": item.id,
            "url": f"{self._api(name)}/issues/{item.number}",
            "html_url": self._page(name, item),
            "number": item.number,
            "user": self.user(item.author),
            "title": item.title,
            "body": item.body or "",
            "labels": [self.label(name, label) for label in item.labels],
            "milestone": None,
            "assignee": users[0] if users else None,
            "assignees": users or None,
            "state": "open" if item.closed is None else "closed",
            "is_locked": False,
            "due_date": None,
            "pin_order": 0,
            "created_at": time(item.created),
            "updated_at": time(item.updated),
            "closed_at": time(item.closed),
        }

    def _branch(self, name: str | None, branch: str, sha: str) -> Json:
        found: Repository | None = self._world.repository(name) if name is not None else None
        return {
            "label": branch,
            "ref": branch,
            "sha": sha,
            "repo_id": found.id if found is not None else 0,
            "repo": self.repository(found.name, with_parent=False) if found is not None else None,
        }

    def _api(self, name: str) -> str:
        return f"{self._url}/api/v1/repos/{name}"

    def _page(self, name: str, item: Item) -> str:
        return f"{self._url}/{name}/{'issues' if item.pull is None else 'pulls'}/{item.number}"
