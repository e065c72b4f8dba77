"""For mkdocstrings: the lines `name: what it is` of our docstrings, one a parameter, as a list.

Our docstrings say what a parameter is on a line of its own; Markdown would run these lines together.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class ParameterLists(griffe.Extension):
    """Turns each line that begins with the names of parameters and a colon into an item of a list."""

    def on_function(self, *, func: griffe.Function, **_: Any) -> None:
        if func.docstring is None:
            return
        known = {parameter.name for parameter in func.parameters}
        lines: list[str] = []
        for line in func.docstring.value.splitlines():
            match = re.match(r"(\w+(?:, \w+)*): ", line)
            if match and set(match[1].split(", ")) <= known:
                names = ", ".join(f"`{name}`" for name in match[1].split(", "))
                if lines and lines[-1] and not lines[-1].startswith("- "):
                    lines.append("")
                line = f"- {names}: {line[match.end() :]}"
            elif line.startswith(("Raises ", "Returns ")) and lines and lines[-1]:
                lines.append("")  # a paragraph of its own, not the end of the last item
            lines.append(line)
        func.docstring.value = "\n".join(lines)
