"""Requests that wait for a person: approvals of agents' actions, and questions."""
