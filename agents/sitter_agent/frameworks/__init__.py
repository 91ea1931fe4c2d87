"""Adapters to training frameworks; each imported only where the user's process already has it."""
