"""Pages: the frame, style and foot that every page of LiteText has, and how templates are read."""

import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from litetext.errors import printable


def page_environment(package: str, *, dated: bool = True) -> Environment:
    """An environment for the templates of a package, which extend ``page.html``; an unknown name is an error.

    A page says at its foot with which version and by which command it was made, and when, if it is ``dated``.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("litetext")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC" if dated else ""
    environment.globals |= {"version": version("litetext"), "command": command_line(), "made": made}
    environment.filters["code"] = mark_code
    return environment


def html_table(caption: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table for a notebook; each cell is escaped, and fractions are rounded."""
    cells = [[f"{cell:.4g}" if isinstance(cell, float) else cell for cell in row] for row in rows]
    macro: Any = page_environment("litetext").get_template("table.html").module
    return str(macro.table(caption, columns, cells))


def command_line() -> str:
    """The command as it was typed, quoted for a shell; "" where Python code called LiteText."""
    program = Path(sys.argv[0])
    if "litetext" not in {program.stem, program.parent.name if program.stem == "__main__" else ""}:
        return ""
    return printable(shlex.join(["litetext", *sys.argv[1:]]))


def mark_code(text: str) -> str:
    """HTML of a text: what stands in backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
