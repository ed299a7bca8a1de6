import ast
import subprocess
import sys
from pathlib import Path

import pytest

import litetext

PUBLIC = [
    "AuditOptions",
    "AuditReport",
    "ClipTokenizer",
    "Exemplars",
    "Inputs",
    "LiteTextError",
    "Masks",
    "Prompt",
    "PromptCorpus",
    "ReadOptions",
    "SegmentOptions",
    "Segmenter",
    "TextEncoder",
    "TextFeatures",
    "TokenBatch",
    "audit",
    "bundled_corpus",
    "clip_tokenizer",
    "load_encoder",
    "load_host",
    "load_huggingface",
    "read_prompts",
    "swap_text_encoder",
]


def test_the_public_names_are_these() -> None:
    assert litetext.__all__ == PUBLIC
    assert dir(litetext) == PUBLIC
    assert sorted(litetext._HOMES) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_resolves_and_is_documented(name: str) -> None:
    value = getattr(litetext, name)
    assert value.__name__ == name
    assert value.__doc__


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(litetext.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    found = {alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert found == litetext._HOMES


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        litetext.nothing  # noqa: B018


def test_importing_does_no_work() -> None:
    code = "import sys, litetext; print(sorted({'numpy', 'torch', 'tokenizers', 'polars'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_audit_needs_no_torch() -> None:
    code = "import sys; from litetext.cli import run; sys.exit(run(['audit', '--json']) or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
