"""`lookalike train --help` with what each option is when it is left out, told by the settings only when asked for."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

# Options that are no settings, and what leaving them out means.
OTHERS = {
    "label": "none is watched",
    "plot": "loss.png in --out",
    "budget": "by --epochs",
    "weights": "random ones",
}


class TrainCommand(TyperCommand):
    """The command, whose help needs the settings' module; running it and `lookalike --help` do without."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from lookalike.ssl.defaults_told import told

        left_out = told()
        named = {str(param.name) for param in self.params}
        for param in self.params:
            if param.default is None and (words := (left_out | OTHERS).get(str(param.name))):
                param.show_default = words  # type: ignore[attr-defined]
        rest = [f"{name}: {words}" for name, words in left_out.items() if name not in named]
        about = "Settings of --set and --config, with what they are when left out (N: the number of objects)"
        self.epilog = "\n".join(["\b", about, *rest])  # after a backspace, lines stay lines
        super().format_help(ctx, formatter)
