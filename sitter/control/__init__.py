"""Decides and speaks: proposals, budgets, the link to the agent, answers to clients."""
