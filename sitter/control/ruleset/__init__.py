"""The rules of a run: from the catalogue, from Python files, from ``sitter.toml``; and what each of them may do."""
