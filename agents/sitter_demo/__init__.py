"""A small language model in numpy that sitter demo trains: a user of the agent like any other script."""
