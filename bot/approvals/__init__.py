"""Requests that wait for a person: approvals of what agents do, and questions."""
