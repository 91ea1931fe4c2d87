"""What the training prints."""

from sitter.tui.lines import Line
from sitter.tui.panel import Panel
from sitter.tui.view import View


class TrainLogPanel(Panel):
    """The end of train.log; scrolling up stays where it is."""

    TITLE = "train.log"
    HELP = (
        "The output of the training, newest at the bottom, as a terminal would have left it. Up and PgUp go back, End "
        "returns, / shows only lines that contain what you type. A run that sitter did not start itself has no train.log."
    )
    SIZE = 0
    follow = True

    def content(self, view: View, width: int, height: int) -> list[Line]:
        """All lines that are kept."""
        if view.train_log is None:
            return [[("–", "dim")]]
        found = [t for t in view.train_log if view.find.lower() in t.lower()] if view.find else view.train_log
        if not found:
            nothing = "train.log is empty or missing: only `sitter run -- …` keeps the output"
            text = f"no line matches {view.find!r}" if view.find else nothing
            return [[(text, "dim")]]
        return [[(text, "")] for text in found]
