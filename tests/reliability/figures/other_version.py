"""The real daemon as another version of sitter would speak: ``python other_version.py RUN_DIRECTORY --foreground``.

It begins when a line comes by its stdin: by then it has imported all it needs, and is there before the daemon that an agent starts.
"""

import sys

from sitter_wire import codec, messages

OTHER = messages.PROTOCOL + 1

if __name__ == "__main__":
    messages.PROTOCOL = codec.PROTOCOL = OTHER
    codec.VERSION_FRAME = str(OTHER).encode()
    from sitter.daemon import main

    print("ready", flush=True)
    sys.stdin.readline()
    main()
