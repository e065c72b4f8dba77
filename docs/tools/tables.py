"""Tables of the reference, made from the source when the site is built, so that they can't go out of date.

    {{ settings training/config.py TrainConfig }}            fields of a class: name, type, default, comment
    {{ settings inference/predictor.py Predictor.__init__ }} parameters of a function, likewise
    {{ command fit }}                                        arguments and options of a command of the shell

Used by mkdocs as a hook (`hooks:` in mkdocs.yml). The source is read as text: nothing of it is imported but the
commands, which import nothing heavy.
"""

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
import typing
from pathlib import Path
from typing import Any

from typer.models import ArgumentInfo

SOURCE = Path(__file__).parents[2] / "src" / "intarsia"
LEFT_OUT = ("self", "model_config")
TOML_WORDS = {"str": "text", "int": "whole number", "float": "number", "bool": "`true` `false`"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with each {{ … }} line replaced by its table."""
    markdown = re.sub(r"^\{\{ settings (\S+) (\S+) \}\}$", lambda m: settings(m[1], m[2]), markdown, flags=re.M)
    return re.sub(r"^\{\{ command (.+?) \}\}$", lambda m: command(m[1]), markdown, flags=re.M)


def settings(file: str, dotted: str) -> str:
    """A table of the annotated fields of a class, or of the parameters of a function, with their comments."""
    text = (SOURCE / file).read_text(encoding="utf-8")
    node: Any = ast.parse(text)
    aliases = {t.id: each.value for each in node.body if isinstance(each, ast.Assign) for t in each.targets
               if isinstance(t, ast.Name)}  # fmt: skip
    for name in dotted.split("."):
        node = next(each for each in node.body if getattr(each, "name", None) == name)
    toml = dotted.endswith("Config")  # such a class is a section of config.toml, and its values are written as there
    comments = {
        token.start[0]: token.string.lstrip("#: ")
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    rows = [
        (name, _type(annotation, toml, aliases), _default(default, toml), comments.get(line, ""))
        for name, annotation, default, line in (_fields(node) if isinstance(node, ast.ClassDef) else _parameters(node))
        if name not in LEFT_OUT
    ]
    return _table(
        ("setting" if toml else "name", "type", "default", "what it is"),
        [(f"`{n}`", t, d, _escaped(c)) for n, t, d, c in rows],
    )


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


def _type(annotation: ast.expr | None, toml: bool, aliases: dict[str, ast.expr]) -> str:
    """A type as Python writes it; in a section of config.toml, in words."""
    if annotation is None:
        return ""
    words = ast.unparse(annotation)
    if toml:
        words = words.removesuffix(" | None")
    if words in aliases and ast.unparse(aliases[words]).startswith("Literal"):
        words = ast.unparse(aliases[words])
    literal = re.fullmatch(r"Literal\[(.*)\]", words)
    if literal:
        return " ".join(f"`{each.strip()}`" for each in literal[1].replace("'", '"').split(","))
    if toml:
        return _in_words(words, aliases)
    return f"<code>{words.replace('|', '&#124;')}</code>"  # a bar would end the cell, also within backticks


def _in_words(words: str, aliases: dict[str, ast.expr]) -> str:
    """A Python type as a user of config.toml thinks of it."""
    if words in TOML_WORDS:
        return TOML_WORDS[words]
    if words in aliases:  # such as Annotated[float, Field(ge=0)]
        meant = ast.unparse(aliases[words])
        return _in_words(meant.removeprefix("Annotated[").split(",")[0] if "Annotated" in meant else meant, aliases)
    if words.startswith("tuple[str"):
        return "texts"
    if words.startswith("tuple["):
        return "numbers" if words.endswith("...]") else "two numbers"
    return "a number for each" if words.startswith("dict[") else "section"


def _default(value: ast.expr | None, toml: bool) -> str:
    """The default, and after it the range that pydantic checks."""
    if value is None:
        return "required"
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "field":  # of a dataclass
        made = [k.value for k in value.keywords if k.arg in ("default", "default_factory")]
        return f"`{ast.unparse(made[0])}`" if made else "required"
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) == "Field"):
        return _literal(value, toml)
    marks = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    limits = [f"{marks[k.arg]} {ast.unparse(k.value)}" for k in value.keywords if k.arg in marks]
    given = _literal(value.args[0], toml) if value.args else "required"
    return given + (f" ({', '.join(limits)})" if limits else "")


def _literal(value: ast.expr, toml: bool) -> str:
    """The value as Python or as TOML writes it."""
    if not toml:
        return f"`{ast.unparse(value)}`"
    if isinstance(value, ast.Call):  # a section of its own
        return "its own"
    if isinstance(value, ast.Constant) and value.value is None:
        return "left out"
    if isinstance(value, ast.Tuple):
        value = ast.List(value.elts)
    text = ast.unparse(value).replace("'", '"')
    return "`" + {"True": "true", "False": "false"}.get(text, text) + "`"


def command(name: str) -> str:
    """The usage of a command, its sentence, and a table of its arguments and options."""
    from intarsia.cli import app as shell
    from intarsia.cli import classical, compare, convert, export, generative, pairs, unsupervised

    word = name.split()[-1].replace("-", "_")
    rooms = (shell, generative, classical, unsupervised, pairs, compare, convert, export)
    function = next(each for room in rooms if callable(each := getattr(room, word, None)))
    hints = typing.get_type_hints(function, include_extras=True)
    usage, rows = [], []
    for parameter in inspect.signature(function).parameters.values():
        hint, info = hints[parameter.name], None
        if typing.get_origin(hint) is typing.Annotated:
            hint, info = typing.get_args(hint)
        required = parameter.default is inspect.Parameter.empty
        words = _words(info)
        if isinstance(info, ArgumentInfo):
            shown = parameter.name.upper() + ("..." if typing.get_origin(hint) is list else "")
            usage.append(shown if required else f"[{shown}]")
            words = (shown,)
        elif not words:
            words = (f"--{parameter.name.replace('_', '-')}",)
            words += (f"--no-{words[0][2:]}",) if hint is bool else ()
        default = "required" if required else _shown(parameter.default)
        rows.append(
            (", ".join(f"`{each}`" for each in words), _kind(hint), default,
             _escaped(getattr(info, "help", None) or ""))
        )  # fmt: skip
    sentence = " ".join((function.__doc__ or "").split())
    usage.append("[OPTIONS]")
    return f"```text\nintarsia {name} {' '.join(usage)}\n```\n\n{sentence}\n\n" + _table(("", "", "default", ""), rows)


def _words(info: Any) -> tuple[str, ...]:
    """The words that an option is called by, where it names any; typer keeps the first as its `default`."""
    named = (getattr(info, "default", None), *(getattr(info, "param_decls", None) or ()))
    return tuple(word for word in named if isinstance(word, str) and word.startswith("-"))


def _shown(default: Any) -> str:
    return "" if default is None or default is False else "on" if default is True else f"`{default}`"


def _kind(hint: Any) -> str:
    """A type as a user of the shell thinks of it: a path, a number, one of several words."""
    origin, inner = typing.get_origin(hint), [each for each in typing.get_args(hint) if each is not type(None)]
    if origin is typing.Literal:
        return " ".join(f"`{each}`" for each in inner)
    if origin is list:
        return f"{_kind(inner[0])}, repeatable"
    if inner:
        return _kind(inner[0])
    return {bool: "", int: "whole number", float: "number", str: "text"}.get(hint, "path")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
