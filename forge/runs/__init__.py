"""Runs of issues as durable workflows: a round from its beginning to a pull request that waits for people.

A workflow has no effects. It orders them one after the other, and each order and its outcome stand in the register.
"""
