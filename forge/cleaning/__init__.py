"""Agents' words before they are posted: what a forge would act on is disarmed."""
