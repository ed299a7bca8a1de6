"""Imports go one way only: a stage of the pipeline knows the stages before it, never those after it."""

import ast
import re
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "litetext"
# Lower rank is earlier. Packages of one rank do not know each other, but for the files of the first.
RANKS = [
    {"errors", "device", "pages", "records", "storage", "arrays", "resume_log", "assignment"},
    {"tokenizer"},
    {"prompts"},
    {"features"},
    {"encoders"},
    {"checkpoints"},
    {"auditing", "distillation"},
    {"sam3"},
    {"video"},
    {"evaluation"},
    {"export"},
    {"micro"},
    {"__init__", "_face"},
    {"scale"},
    {"app"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
FILES = sorted(SOURCE.rglob("*.py"))
# A dotted name of ours, as `importlib` and `importlib.resources` take it.
DOTTED = re.compile(r"litetext(\.\w+)+")


@cache
def nodes(file: Path) -> list[ast.AST]:
    """All of a file's syntax."""
    return list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))


def stage(module: str) -> str:
    """The stage of a module: its package or file below litetext, or the face itself."""
    return module.split(".")[1] if "." in module else "__init__"


def imported(file: Path) -> set[str]:
    """Stages that a file names, wherever in it: imported, under TYPE_CHECKING, or as a string for `importlib`."""
    stages: set[str] = set()
    for node in nodes(file):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = [node.module or ""]
            if node.module == "litetext":  # `from litetext import storage` names a stage, or a name of the face
                names = [f"litetext.{alias.name}" if alias.name in RANK else "litetext" for alias in node.names]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # not such as "litetext.config", a key of a file
            names = [node.value] if DOTTED.fullmatch(node.value) and stage(node.value) in RANK else []
        stages |= {stage(name) for name in names if name == "litetext" or name.startswith("litetext.")}
    return stages


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_upward_import(file: Path) -> None:
    own = file.relative_to(SOURCE).parts[0].removesuffix(".py")
    for name in imported(file) - {own}:
        assert RANK[name] < RANK[own] or own in RANKS[0] == RANKS[RANK[name]], f"{file} imports {name}"


def test_the_check_can_fail(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text(
        "from typing import TYPE_CHECKING\nimport litetext\n"
        "if TYPE_CHECKING:\n    from litetext.sam3.masks import Masks\n"
        "def f():\n    from litetext.auditing.run import audit\nimport litetext.cli\nfrom litetext import storage\n"
        "import_module('litetext.export.runtime')\nfiles('litetext.micro')\nprint('see litetext.app in the docs')\n"
        "KEY = 'litetext.config'\n"
    )
    assert imported(file) == {"__init__", "sam3", "auditing", "cli", "storage", "export", "micro"}


def test_no_two_files_of_one_name() -> None:
    names = [file.name for file in FILES if file.name != "__init__.py"]
    assert sorted(names) == sorted(set(names))


def test_every_foreign_package_is_declared() -> None:
    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [
        *project["dependencies"],
        *(line for name in extras if name not in {"dev", "docs"} for line in extras[name]),
    ]
    declared = {re.split(r"[<>=\[ ]", line)[0].replace("-", "_") for line in lines} | {"PIL"}  # of pillow
    for file in FILES:
        for node in nodes(file):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            foreign = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"litetext"}
            assert foreign <= declared, f"{file}: {foreign - declared} stands in no dependency"


def test_only_device_names_accelerators() -> None:
    for file in FILES:
        if file.name != "device.py":
            strings = [node.value for node in nodes(file) if isinstance(node, ast.Constant)]
            assert not {"cuda", "mps"} & set(map(str, strings)), file
