"""What a pushed branch reaches at a forge: a sentence for documents and for a check of the configuration. Pure."""

from __future__ import annotations

from typing import Final

_NAMES: Final = {"github": "GitHub", "gitea": "Gitea", "forgejo": "Forgejo"}


def reached(kind: str, *, by_fork: bool) -> str:
    """Return which secrets of a forge's CI a branch of an agent reaches.

    Args:
        kind: ``github``, ``gitea`` or ``forgejo``.
        by_fork: whether the branch is in a fork of its own, and not in the repository.

    Raises:
        ValueError: no such forge is known.
    """
    if (name := _NAMES.get(kind)) is None:
        raise ValueError(f"{kind!r} is no forge that Muster knows. Write one of {', '.join(sorted(_NAMES))}.")
    if by_fork:
        return (
            f"On {name}, workflows for a pull request from a fork get no secrets of the repository. Workflows by "
            f"`pull_request_target`{' or `workflow_run`' if kind == 'github' else ''} get them all, so none of these "
            "may check out, build or run the branch. Secrets of the fork itself are reached by `on: push` there: it "
            "should have none."
        )
    more = (
        "Environments with required reviewers keep theirs."
        if kind == "github"
        else "Give the repository only secrets that the agent may use."
    )
    return (
        f"On {name}, a branch in the repository starts its workflows by `on: push`, and they get the secrets that they "
        "name, of the repository and of its owner. An agent cannot change the workflows, but what they run (scripts, "
        f"tests, build files) is the agent's, and can send these secrets elsewhere. {more} Or use a fork."
    )
