"""Events of a forge, pushed by webhooks: taken in durably, and no more than hints. What they are about is then read
from the forge.
"""
