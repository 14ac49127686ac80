"""Rounds of the work on an issue, and their orders.

A round has no effects. It orders them one after the other, and each order and its outcome stand in the register. So a
round that is played again, after a crash or by another process, gets the outcomes that there are at once, and goes on.
"""
