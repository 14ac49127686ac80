"""The dispatch of tasks to agents: reads the queue and carries out the decisions of budget/dispatch/."""
