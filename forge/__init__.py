"""Forges (Gitea, Forgejo, GitHub): issues become pull requests by agents that hold no credential of the forge.

Decisions are plain functions over values (`model`, `targeting`, `scope`, `cleaning`, `provenance`). What this package
needs of the orchestrator, it declares as ports, which `bot.app` fills.
"""
