"""What agent and daemon both say: messages, commands, queries, records, places. Standard library and msgspec only."""
