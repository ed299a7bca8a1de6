"""Imports go one way only: a stage of the pipeline knows the stages before it, never those after it."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "litetext"
# Lower rank is earlier. Packages of one rank do not know each other.
RANKS = [
    {"errors", "device", "pages", "records", "resume_log", "storage"},
    {"tokenizer"},
    {"prompts"},
    {"features"},
    {"encoders"},
    {"checkpoints"},
    {"auditing", "distillation"},
    {"sam3"},
    {"evaluation"},
    {"export"},
    {"bench", "micro"},
    {"cli"},
    {"__init__", "__main__"},
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}
FILES = sorted(SOURCE.rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Names of the stages that a file imports, wherever in it."""
    modules: list[str] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            modules.append(node.module or "")
    return {name.split(".")[1] for name in modules if name.startswith("litetext.")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_no_upward_import(file: Path) -> None:
    own = file.relative_to(SOURCE).parts[0].removesuffix(".py")
    for name in imported(file) - {own}:
        assert RANK[name] < RANK[own] or own in RANKS[0] == RANKS[RANK[name]], f"{file} imports {name}"


def test_the_check_can_fail(tmp_path: Path) -> None:
    file = tmp_path / "x.py"
    file.write_text("def f():\n    from litetext.auditing.run import audit\nimport litetext.cli\n")
    assert imported(file) == {"auditing", "cli"}


def test_every_foreign_package_is_declared() -> None:
    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = [
        *project["dependencies"],
        *(line for name in extras if name not in {"dev", "docs"} for line in extras[name]),
    ]
    declared = {re.split(r"[<>=\[ ]", line)[0].replace("-", "_") for line in lines} | {"PIL"}  # of pillow
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            foreign = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"litetext"}
            assert foreign <= declared, f"{file}: {foreign - declared} stands in no dependency"


def test_only_device_names_accelerators() -> None:
    for file in FILES:
        if file.name != "device.py":
            strings = [
                node.value for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Constant)
            ]
            assert not {"cuda", "mps"} & set(map(str, strings)), file
