"""The command for segmentation without training. The methods are in `classical/`, files are met in `labelling.py`."""

from __future__ import annotations

import difflib
import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .options import JsonOption, LimitOption, OverwriteOption, console, pixels, tell
from .progress import work_bar

if TYPE_CHECKING:
    from pydantic import ValidationError

    from ..classical import ClassicalConfig, Method

app = typer.Typer()


@app.command()
def classical(
    method: Annotated[str | None, typer.Argument(help="One of `intarsia classical --list`.")] = None,
    pictures: Annotated[
        list[str] | None, typer.Argument(help="Files, folders or patterns such as 'scans/**/*.tif'.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the answers.")] = None,
    seeds: Annotated[
        Path | None,
        typer.Option(
            help="Where regions begin: a file for all pictures, or a folder with one of the same name for each."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="One setting of the method: classes=4 (may be repeated).")
    ] = None,
    overlay: Annotated[bool, typer.Option(help="Also the pictures with the borders drawn.")] = False,
    folder: Annotated[
        bool, typer.Option("--folder", help="Write a folder of data that `check` and `fit` take: images/ and masks/.")
    ] = False,
    classes: Annotated[
        Path | None, typer.Option("--classes", help="A classes.toml: what labels are called, and scribbles' colours.")
    ] = None,
    overwrite: OverwriteOption = False,
    limit: LimitOption = 300,
    list_: Annotated[bool, typer.Option("--list", help="List the methods and their settings, and stop.")] = False,
    json_: JsonOption = False,
) -> None:
    """Segment pictures without training: thresholds, clusters, watershed, GrowCut, superpixels, contours."""
    if list_:
        _list(json_)
        return
    if method is None or not pictures:
        raise UsageError(
            "give a method and pictures, such as: intarsia classical otsu PICTURES --out DIR (or --list, for methods)."
        )
    name, chosen = _method(method)
    config = _config(name, chosen, set_ or [])
    if out is None:
        raise UsageError("no folder for the answers is given; add --out DIR.")
    most = pixels(limit)
    _require_sense(name, chosen, seeds, folder, classes)
    from .labelling import Labelling, label_files

    labelling = Labelling(name, config, out, seeds, overlay, folder, classes, most)
    with work_bar("segmenting", quiet=json_) as step:
        summary, legend = label_files(labelling, pictures, overwrite=overwrite, progress=step)
    shown = console()
    if json_:
        failed = [{"file": str(path), "reason": reason} for path, reason in summary.failed]
        print(json.dumps({"done": summary.done, "skipped": summary.skipped, "failed": failed}, indent=1))
        raise typer.Exit(3 if failed else 0)
    if legend:
        shown.print(f"Labels: {', '.join(legend)}", markup=False)
    tell(summary, out, shown)
    if folder:
        shown.print(f"Look at some, rename the classes in {out / 'classes.toml'}, then:", markup=False)
        shown.print(f"  intarsia check {out}\n  intarsia fit {out}", markup=False)


def _method(given: str) -> tuple[str, Method]:
    from ..classical import METHODS

    name = given.replace("-", "_").casefold()
    if name not in METHODS:
        near = difflib.get_close_matches(name, METHODS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(f"{given!r} is no method; {hint}there are {', '.join(METHODS)}.")
    return name, METHODS[name]


def _config(name: str, method: Method, pairs: list[str]) -> ClassicalConfig:
    from pydantic import ValidationError

    tree: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not key:
            raise UsageError(f"--set {pair} has no value; write it as --set smooth=1.5.")
        try:
            tree[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:  # a bare word is a string
            tree[key] = value
    try:
        return method.Config.model_validate(tree)
    except ValidationError as error:
        raise UsageError(_explained(error, name, method)) from error


def _explained(error: ValidationError, name: str, method: Method) -> str:
    sentences = []
    for each in error.errors():
        field = ".".join(map(str, each["loc"]))
        if each["type"] == "extra_forbidden":
            known = list(method.Config.model_fields)
            near = difflib.get_close_matches(field, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
            sentences.append(f"{field} is no setting of {name}; {hint}")
        else:
            sentences.append(f"{field} = {each['input']!r}: {each['msg'][0].lower()}{each['msg'][1:]}.")
    return " ".join(sentences)


def _require_sense(name: str, method: Method, seeds: Path | None, folder: bool, classes: Path | None) -> None:
    """Raises UsageError for options that do not go together."""
    if method.needs_seeds and seeds is None:
        raise UsageError(
            f"{name} grows from seeds; add --seeds FILE_OR_FOLDER: label images of the pictures' size, 0 where nobody "
            "knows, or scribbles, each colour a label."
        )
    if seeds is not None and method.seeds == "none":
        raise UsageError(f"{name} takes no seeds; leave --seeds out, or use another method.")
    if seeds is not None and not seeds.exists():
        raise UsageError(f"{seeds} is no file or folder of seeds; give a label image, or a folder of them.")
    if folder and method.labels == "regions" and seeds is None:
        raise UsageError(
            f"{name} numbers regions, and a number means nothing in another picture: no classes to learn. Leave "
            "--folder out, give seeds where the method takes them, or use a method that gives classes."
        )
    if classes is not None and not folder and seeds is None:
        raise UsageError("--classes names the labels of --folder, or the colours of --seeds; add one of them.")


def _list(json_: bool) -> None:
    from ..classical import METHODS

    rows: list[dict[str, Any]] = [
        {
            "name": name, "what": method.what, "seeds": method.seeds, "labels": method.labels,
            "settings": method.Config().model_dump(mode="json"),
        }
        for name, method in METHODS.items()
    ]  # fmt: skip
    if json_:
        print(json.dumps(rows, indent=1))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("method", "what it gives", "seeds", "settings (--set NAME=…)"):
        table.add_column(column, overflow="fold")
    for row in rows:
        written = ", ".join(f"{key}={json.dumps(value)}" for key, value in row["settings"].items())
        table.add_row(row["name"], row["what"], row["seeds"], written.replace('"', ""))
    console().print(table, markup=False)
