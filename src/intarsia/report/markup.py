"""The pieces of HTML that sections are built of. What is named `html` is markup already; all else is escaped here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from html import escape

from .wording import WEAK, percent


def section(anchor: str, title: str, html: str) -> str:
    """A section with its heading, reachable as #anchor; empty where there is nothing in it."""
    return f'<section id="{anchor}"><h2>{escape(title)}</h2>{html}</section>' if html else ""


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def with_code(text: str) -> str:
    """The text with what stands between `backticks` shown as what is to be typed."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def remark(text: str) -> str:
    """A paragraph in small, muted letters."""
    return f'<p class="small muted">{escape(text)}</p>'


def facts(told: Mapping[str, str]) -> str:
    """A list of names and what they are; empty without any."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in told.items())
    return f'<dl class="facts">{rows}</dl>' if rows else ""


def folded(summary: str, html: str) -> str:
    """What is shown on request."""
    return f"<details><summary>{escape(summary)}</summary>{html}</details>"


def scrolling(label: str, html: str) -> str:
    """Something wide: on a narrow page it scrolls by itself, by keyboard too."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{html}</div>'


def table(kind: str, head: Sequence[str], rows: Sequence[str], foot: str = "") -> str:
    """A table of the style `kind`: names of columns, and rows made by `row`."""
    names = "".join(f'<th scope="col">{escape(each)}</th>' for each in head)
    ending = f"<tfoot>{foot}</tfoot>" if foot else ""
    return f'<table class="{kind}"><thead><tr>{names}</tr></thead><tbody>{"".join(rows)}</tbody>{ending}</table>'


def row(heading_html: str, cells: Sequence[str]) -> str:
    return f'<tr><th scope="row">{heading_html}</th>{"".join(cells)}</tr>'


def number(share: float, digits: int = 1) -> str:
    """A table's cell with a share in percent."""
    kind = ' class="absent"' if math.isnan(share) else ""
    return f"<td{kind}>{percent(share, digits)}</td>"


def metered(share: float) -> str:
    """A table's cell with a share in percent and a bar of that length."""
    if math.isnan(share):
        return number(share)
    weak = ' class="weak"' if share < WEAK else ""
    bar = f'<span class="meter"><i{weak} style="width:{100 * share:.1f}%"></i></span>'
    return f'<td>{bar}<span class="metered">{percent(share)}</span></td>'


def class_name(name: str, colour: tuple[int, int, int]) -> str:
    """A class's colour and name; a long name is cut, and whole on hovering."""
    red, green, blue = colour
    swatch = f'<i class="swatch" style="background:rgb({red} {green} {blue})"></i>'
    return f'{swatch}<span class="name" title="{escape(name)}">{escape(name)}</span>'


def counted(count: int, noun: str) -> str:
    """ "1 picture", "1,200 pictures"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
