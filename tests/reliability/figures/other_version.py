"""The real daemon as another version of sitter would speak: ``python other_version.py RUN_DIRECTORY --foreground``."""

from sitter_wire import codec, messages

OTHER = messages.PROTOCOL + 1

if __name__ == "__main__":
    messages.PROTOCOL = codec.PROTOCOL = OTHER
    codec.VERSION_FRAME = str(OTHER).encode()
    from sitter.daemon import main

    main()
