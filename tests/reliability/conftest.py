"""The same shell, script and processes as the integration tests have."""

from tests.integration.conftest import script, sitter, start

__all__ = ["script", "sitter", "start"]
