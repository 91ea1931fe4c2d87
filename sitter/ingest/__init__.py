"""What arrives from the agent, put in order: each record once."""
