"""One run's report as one HTML file that needs nothing else: no network, no script, no other file."""

from __future__ import annotations

import re
from datetime import datetime
from html import escape
from importlib.resources import files
from pathlib import Path

from ..files import write_atomically
from . import sections
from .data import ReportData
from .raters import raters


def write_report(path: str | Path, data: ReportData) -> Path:
    """The path, once the report stands there whole. Raises DiskError where it can't be written."""
    return write_atomically(path, page(data).encode(errors="replace"))  # a file name may hold what is no text


def page(data: ReportData) -> str:
    """The report as HTML; what the data lack is left out."""
    body = "".join(
        section(data)
        for section in (
            sections.class_scores,
            raters,
            sections.confusion,
            sections.training,
            sections.examples,
            sections.calibration,
            sections.run,
        )
    )
    return document(data.name, sections.headline(data), body, data.written)


def document(name: str, headline_html: str, body_html: str, written: datetime) -> str:
    """A whole page that needs nothing else, with links to the sections that it has."""
    titles = re.findall(r'<section id="(\w+)"><h2>(.*?)</h2>', body_html)
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title in titles)
    style = files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(name)} · Intarsia</title><style>{style}</style></head>"
        f'<body><header>{headline_html}<nav aria-label="Sections">{links}</nav></header>'
        f"<main>{body_html}</main>"
        f"<footer>Written by Intarsia on {written:%d %B %Y, %H:%M}.</footer></body></html>\n"
    )
