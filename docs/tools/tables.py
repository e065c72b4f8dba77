"""Tables of the reference, made from the source when the site is built, so that they can't go out of date.

    {{ settings training/config.py TrainConfig }}            fields of a class: name, type, default, comment
    {{ settings inference/predictor.py Predictor.__init__ }} parameters of a function, likewise
    {{ command fit }}                                        arguments and options of a command of the shell

Used by mkdocs as a hook (`hooks:` in mkdocs.yml). The source is read as text: nothing of it is imported but the
commands, which import nothing heavy.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[2] / "src" / "intarsia"
LEFT_OUT = ("self", "model_config")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with each {{ … }} line replaced by its table."""
    markdown = re.sub(r"^\{\{ settings (\S+) (\S+) \}\}$", lambda m: settings(m[1], m[2]), markdown, flags=re.M)
    return re.sub(r"^\{\{ command (\S+) \}\}$", lambda m: command(m[1]), markdown, flags=re.M)


def settings(file: str, dotted: str) -> str:
    """A table of the annotated fields of a class, or of the parameters of a function, with their comments."""
    text = (SOURCE / file).read_text(encoding="utf-8")
    node: Any = ast.parse(text)
    for name in dotted.split("."):
        node = next(each for each in node.body if getattr(each, "name", None) == name)
    comments = {
        token.start[0]: token.string.lstrip("#: ")
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    rows = [
        (name, _type(annotation), _default(default), comments.get(line, ""))
        for name, annotation, default, line in (_fields(node) if isinstance(node, ast.ClassDef) else _parameters(node))
        if name not in LEFT_OUT
    ]
    return _table(("setting", "type", "default", "what it is"), [(f"`{n}`", t, d, _escaped(c)) for n, t, d, c in rows])


def _fields(node: ast.ClassDef) -> list[tuple[str, ast.expr, ast.expr | None, int]]:
    fields = [each for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)]
    return [(each.target.id, each.annotation, each.value, each.end_lineno or 0) for each in fields]  # type: ignore[union-attr]


def _parameters(node: ast.FunctionDef) -> list[tuple[str, ast.expr | None, ast.expr | None, int]]:
    plain, named = node.args.args, node.args.kwonlyargs
    defaults = [*[None] * (len(plain) - len(node.args.defaults)), *node.args.defaults, *node.args.kw_defaults]
    return [
        (each.arg, each.annotation, default, (default or each).end_lineno or 0)
        for each, default in zip([*plain, *named], defaults, strict=True)
    ]


def _type(annotation: ast.expr | None) -> str:
    if annotation is None:
        return ""
    words = ast.unparse(annotation)
    literal = re.fullmatch(r"Literal\[(.*)\]", words)
    if literal:
        return " ".join(f"`{each.strip()}`" for each in literal[1].replace("'", '"').split(","))
    return f"`{words}`".replace("|", "\\|")


def _default(value: ast.expr | None) -> str:
    """The default, and below it the range that pydantic checks."""
    if value is None:
        return "required"
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) == "Field"):
        return f"`{_literal(value)}`"
    marks = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    limits = [f"{marks[k.arg]} {ast.unparse(k.value)}" for k in value.keywords if k.arg in marks]
    given = f"`{_literal(value.args[0])}`" if value.args else "required"
    return given + (f" ({', '.join(limits)})" if limits else "")


def _literal(value: ast.expr) -> str:
    text = ast.unparse(value).replace("'", '"').replace("2 ** 31 - 1", "2147483647")
    return {"True": "true", "False": "false"}.get(text, text)


def command(name: str) -> str:
    """The usage of a command, its sentence, and a table of its arguments and options."""
    from typer.main import get_command

    from intarsia.cli.app import app

    found: Any = get_command(app).commands[name]  # type: ignore[attr-defined]
    rows, usage = [], []
    for each in found.params:
        if each.name == "help":
            continue
        kind = each.type.name
        choices = getattr(each.type, "choices", None)
        shown = " ".join(f"`{choice}`" for choice in choices) if choices else kind
        if each.param_type_name == "argument":
            word = each.name.upper() + ("..." if each.nargs == -1 else "")
            usage.append(word if each.required else f"[{word}]")
            rows.append((f"`{word}`", shown, "", each.help or ""))
        else:
            words = ", ".join(f"`{option}`" for option in [*each.opts, *each.secondary_opts])
            default = "" if each.default in (None, False, ()) else f"`{str(each.default).lower()}`"
            default = "required" if each.required else default
            rows.append((words, "" if kind == "boolean" else shown, default, each.help or ""))
    sentence = " ".join((found.help or "").split())
    table = _table(("", "", "default", ""), [(a, b, c, _escaped(d)) for a, b, c, d in rows])
    return f"```text\nintarsia {name} {' '.join(usage)} [OPTIONS]\n```\n\n{sentence}\n\n{table}"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
