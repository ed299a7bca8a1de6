import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_glyphs", ROOT / "scripts/make_glyphs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_a_missing_font_is_named_with_its_package(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: no font, .*; apt-get install fonts-noto-color-emoji"):
        script.load_font(tmp_path / "NotoColorEmoji.ttf")


def test_rows_take_the_words_of_their_family(script: ModuleType) -> None:
    rows = script.read_rows("# a\n[bird] bird; animal\n1f986! | duck\n1f9a2 | swan | | duck\n[x] ; ; plant\n1 | a=; b")
    assert [row.names for row in rows] == [["duck"], ["swan"], ["a=", "b"]]
    assert [row.tintable for row in rows] == [True, False, False]
    assert rows[1].groups == ["bird", "animal"]
    assert rows[1].vague == ["duck"]
    assert (rows[2].groups, rows[2].vague) == ([], ["plant"])
