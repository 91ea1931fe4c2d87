"""The user's own rules: an expression over signals, written in ``sitter.toml``."""
