"""``python -m sitter_demo``."""

import sys

from sitter_demo import threads  # noqa: F401 — before anything imports numpy

if __name__ == "__main__":
    from sitter_demo.train import main

    sys.exit(main())
