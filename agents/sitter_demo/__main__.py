"""``python -m sitter_demo``."""

import sys

from sitter_demo.train import main

sys.exit(main())
