"""Every key, in one visible list: what the help says, what the last line shows and what happens come from here."""

from typing import NamedTuple


class Key(NamedTuple):
    """``key`` as Textual names it, ``shown`` as a person reads it, ``method`` of the app. ``rank``: lower stays longer in a narrow
    line, where ``brief`` stands for the label."""

    key: str
    shown: str
    label: str
    method: str
    group: str
    rank: int = 9
    brief: str = ""


ACT, LOOK, MOVE, LEAVE = "act", "look", "move about", "leave"

KEYS = [
    Key("P", "P", "pause", "pause", ACT, 4),
    Key("L", "L", "lr", "learning_rate", ACT, 3),
    Key("C", "C", "checkpoint", "checkpoint", ACT, 4),
    Key("R", "R", "roll back", "roll_back", ACT, 3),
    Key("S", "S", "stop", "stop", ACT, 4),
    Key("A", "A", "approve the proposal", "approve", ACT),
    Key("V", "V", "veto the proposal", "veto", ACT),
    Key("1,2,3,4,5", "1-5", "panels", "panel", LOOK, 5),
    Key("s", "s", "signals", "signals", LOOK, 6),
    Key("w", "w", "since you left", "since", LOOK, 9),
    Key("slash", "/", "find", "find", LOOK, 7),
    Key("colon", ":", "command", "command", ACT, 5),
    Key("question_mark", "?", "help", "help", LOOK, 1),
    Key("x", "x", "axis: step, epoch, hours", "axis", LOOK),
    Key("y", "y", "height: recent, whole, log", "height", LOOK),
    Key("b", "b", "band on or off", "band", LOOK),
    Key("plus,equals_sign", "+", "zoom in", "zoom_in", MOVE),
    Key("minus", "-", "zoom out", "zoom_out", MOVE),
    Key("0", "0", "all of it", "zoom_all", MOVE),
    Key("left,right,up,down", "←→↑↓", "move, scroll, choose", "arrow", MOVE),
    Key("pageup,pagedown,home,end", "PgUp PgDn", "scroll, as do Home and End", "arrow", MOVE),
    Key("tab", "Tab", "the next proposal", "next_proposal", MOVE),
    Key("enter", "Enter", "enlarge, or do what is asked", "enter", MOVE),
    Key("escape", "Esc", "back, or leave it", "escape", MOVE),
    Key("t", "t", "light or dark", "theme", LOOK),
    Key("q,ctrl+c", "q", "leave (run goes on)", "leave", LEAVE, 2, "leave"),
]
