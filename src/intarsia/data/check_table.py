"""The data doctor's report, for people who read it in a terminal."""

from __future__ import annotations

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from .check import CheckReport
from .findings import Finding

_STYLES = {"error": "bold red", "warning": "bold yellow", "info": "bold blue"}


def print_report(report: CheckReport, console: Console, files: int = 5) -> None:
    """Print what the folder holds, its classes, and each finding with its advice and its first `files` files."""
    console.print(_overview(report))
    if report.fingerprint.labelled:
        console.print(_classes(report))
    for finding in report.findings:
        console.print(_finding(finding, files))
    console.print(_verdict(report))


def _overview(report: CheckReport) -> Table:
    numbers, lists = report.fingerprint, report.folder.lists
    table = Table(box=None, show_header=False, pad_edge=False, title_justify="left")
    table.add_column(style="dim")
    table.add_column()
    table.add_row("folder", Text(f"{report.folder.root}  ({report.folder.layout})"))
    table.add_row("pictures", f"{numbers.pictures} readable, {numbers.labelled} of them with a mask")
    if lists:
        parts = (f"{part} {len(names)} ({numbers.labelled_in.get(part, 0)} labelled)" for part, names in lists.items())
        table.add_row("lists", ", ".join(parts))
    sizes = dict.fromkeys((numbers.smallest, numbers.median, numbers.largest))
    table.add_row("width x height", " · ".join(f"{width} x {height}" for height, width in sizes))
    table.add_row("channels", f"{numbers.channels} ({numbers.dtype})")
    channels = zip(numbers.mean, numbers.deviation, strict=True)
    table.add_row("mean ± deviation", "  ".join(f"{mean:.3f} ± {deviation:.3f}" for mean, deviation in channels))
    if numbers.objects_median is not None:
        usual = f"{numbers.objects_median:g} in the median picture, at most {numbers.objects_most}"
        table.add_row("objects", f"{numbers.objects} in all, {usual}")
    if numbers.object_side is not None and numbers.object_sides is not None:
        low, high = numbers.object_sides
        words = f"{numbers.object_side:.0f} px in the median, nine in ten between {low:.0f} and {high:.0f}"
        table.add_row("longer side", words)
    if numbers.ignore_share:
        table.add_row("ignored", f"{100 * numbers.ignore_share:.2f} % of the masks' pixels")
    return table


def _classes(report: CheckReport) -> Table:
    classes, numbers = report.folder.classes, report.fingerprint
    table = Table(title="classes", title_justify="left", header_style="dim", box=None)
    table.add_column("")
    for heading in ("class", "% of pixels", "pictures", "object Ø px", "smallest tenth Ø px"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
    for k, name in enumerate(classes.names):
        red, green, blue = classes.colours[k]
        table.add_row(
            Text("██", style=f"rgb({red},{green},{blue})"),
            Text(name),
            f"{100 * numbers.shares[k]:.3f}",
            str(numbers.class_pictures[k]),
            _pixels(numbers.diameters[k]),
            _pixels(numbers.small_diameters[k]),
        )
    return table


def _finding(finding: Finding, files: int) -> Group:
    style = _STYLES[finding.level]
    head = Text.assemble((finding.level, style), "  ", finding.message, ("  " + finding.code, "dim"))
    lines = [head, Text(f"    {finding.advice}")]  # not rich's Padding, which cuts where lines are not to be wrapped
    details = finding.details or ("",) * len(finding.files)
    for path, detail in list(zip(finding.files, details, strict=True))[:files]:
        lines.append(Text(f"    {path}: {detail}" if detail else f"    {path}", style="dim"))
    if len(finding.files) > files:
        lines.append(Text(f"    … and {len(finding.files) - files} more", style="dim"))
    return Group(*lines)


def _verdict(report: CheckReport) -> Text:
    levels = [finding.level for finding in report.findings]
    errors, warnings = levels.count("error"), levels.count("warning")
    if errors:
        return Text(f"{errors} to mend before training, {warnings} to look at.", style="bold red")
    if warnings:
        return Text(f"Nothing that stops training, {warnings} to look at.", style="bold yellow")
    return Text("All is well.", style="bold green")


def _pixels(diameter: float | None) -> str:
    return "-" if diameter is None else f"{diameter:.1f}"
