"""Colours by the name of their use. Dark, light, and one of attributes only for ``NO_COLOR``."""

from rich.style import Style

DARK_BACKGROUND, LIGHT_BACKGROUND = "#0e1116", "#fbfaf7"

_DARK = {
    "": "#c9d1d9", "dim": "#768390", "faint": "#3d4752", "strong": "bold #f0f3f6", "title": "bold #9fb3c8",
    "good": "#57d28a", "warn": "#f2b84b", "bad": "#ff6b68", "info": "#6cb6ff", "key": "bold #6cb6ff",
    "badge-good": "bold #06180d on #57d28a", "badge-warn": "bold #1f1500 on #f2b84b", "badge-bad": "bold #250303 on #ff6b68",
    "badge-heal": "bold #04141f on #6cb6ff", "badge-dim": "bold #0e1116 on #768390",
    "loss": "bold #5cc8ff", "loss-band": "#27506b", "goal": "bold #ffb454", "lr": "#c792ea", "ref": "#8b949e",
    "gone": "#5a3b3f", "rule": "#2c3640", "bar": "#57d28a", "strip-warn": "#f2b84b on #2a2212", "strip-info": "#c9d1d9 on #152433",
    "strip-bad": "#ff8f8c on #2d1517", "strip-good": "#57d28a on #10261a", "strip-key": "bold #ffffff on #2a2212",
    "chosen": "on #1d2a38", "m-checkpoint": "#57d28a", "m-knob": "#c792ea", "m-incident": "#ff6b68", "m-restore": "#6cb6ff",
    "m-note": "#9fb3c8", "input": "#f0f3f6 on #152433",
}  # fmt: skip

_LIGHT = {
    "": "#24292f", "dim": "#66707b", "faint": "#c3c8cd", "strong": "bold #0b0f14", "title": "bold #44586c",
    "good": "#16793f", "warn": "#8f5a00", "bad": "#c21f1f", "info": "#0a5cb8", "key": "bold #0a5cb8",
    "badge-good": "bold #ffffff on #16793f", "badge-warn": "bold #ffffff on #a86b00", "badge-bad": "bold #ffffff on #c21f1f",
    "badge-heal": "bold #ffffff on #0a5cb8", "badge-dim": "bold #ffffff on #66707b",
    "loss": "bold #0a6ebd", "loss-band": "#a9d2f0", "goal": "bold #b85c00", "lr": "#7b3fb5", "ref": "#7d858d",
    "gone": "#e3bdbd", "rule": "#d8d6d0", "bar": "#16793f", "strip-warn": "#6b4400 on #fbeecb", "strip-info": "#24292f on #e4eefa",
    "strip-bad": "#a01515 on #fbe0df", "strip-good": "#0f5c30 on #dcf3e4", "strip-key": "bold #0b0f14 on #fbeecb",
    "chosen": "on #dfe8f2", "m-checkpoint": "#16793f", "m-knob": "#7b3fb5", "m-incident": "#c21f1f", "m-restore": "#0a5cb8",
    "m-note": "#44586c", "input": "#0b0f14 on #e4eefa",
}  # fmt: skip

_PLAIN = {
    name: "bold" if "bold" in spec and "badge" not in name else "" for name, spec in _DARK.items()
} | {
    "dim": "dim", "faint": "dim", "rule": "dim", "loss-band": "dim", "gone": "dim", "ref": "dim", "chosen": "underline",
    "badge-good": "reverse", "badge-warn": "bold reverse", "badge-bad": "bold reverse", "badge-heal": "reverse",
    "badge-dim": "reverse", "strip-warn": "bold", "strip-bad": "bold", "strip-key": "bold underline", "key": "bold",
}  # fmt: skip


class Palette:
    """Styles by name; an unknown name is the plain text's."""

    def __init__(self, specs: dict[str, str], background: str) -> None:
        base = Style.null() if background == "ansi_default" else Style(bgcolor=background)
        self.styles = {name: base + Style.parse(spec) if spec else base for name, spec in specs.items()}
        self.background = background

    def style(self, name: str) -> Style:
        """The rich style of a name."""
        return self.styles.get(name) or self.styles[""]


def palette(*, light: bool, colour: bool) -> Palette:
    """The one that fits. Without colour the terminal's own background stays."""
    if not colour:
        return Palette(_PLAIN, "ansi_default")
    return Palette(_LIGHT, LIGHT_BACKGROUND) if light else Palette(_DARK, DARK_BACKGROUND)
