"""What can be done about a finding besides commands to the agent: notifiers, hooks."""
