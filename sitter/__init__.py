"""sitter: watches, steers and rescues one long training run. Import from its modules; this file stays empty."""
