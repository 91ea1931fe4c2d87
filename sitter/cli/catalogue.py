"""Every command, in the order of ``sitter --help``: name → module with a ``command``. A new one is one file and one line here."""

COMMANDS: dict[str, str] = {
    name: f"sitter.cli.{module}"
    for name, module in {
        "demo": "demo",
        "run": "run",
        "attach": "attach",
        "ls": "ls",
        "status": "status",
        "days": "days",
        "logbook": "logbook",
        "note": "note",
        "doctor": "doctor",
        "set": "set_knob",
        "checkpoint": "checkpoint",
        "rollback": "rollback",
        "drop": "drop",
        "pause": "pause",
        "unpause": "unpause",
        "stop": "stop",
        "resume": "resume",
        "approve": "approve",
        "veto": "veto",
        "snooze": "snooze",
        "mode": "mode",
        "rules": "rules",
        "replay": "replay",
        "report": "report",
        "export": "export",
        "notify": "notify",
        "drill": "drill",
    }.items()
}
