"""Shipped helpers for testing one's own rules and screens."""
