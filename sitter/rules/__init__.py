"""Rules watch signals and report findings; a rule never acts."""
