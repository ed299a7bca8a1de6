"""Make the bundled corpus of prompts out of packages of PyPI (`mmdet`) and Debian (`unicode-cldr-core`).

    python scripts/make_corpus.py

Category names of LVIS, COCO, Objects365, Open Images and ODinW are constants in the code of mmdet's wheel (Apache-2.0);
they are read from its syntax tree, nothing of it is run. Emoji names and keywords are English CLDR annotations
(Unicode licence). Needs network access to the two registries, `apt-get` and `dpkg-deb`.
"""

import ast
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

MMDET = "mmdet==3.3.0"
TARGET = Path(__file__).parents[1] / "src/litetext/prompts/data"
CLASS_NAMES = "mmdet/evaluation/functional/class_names.py"
LISTS = {
    "lvis": "lvis_classes",
    "coco": "coco_classes",
    "objects365": "objects365v2_classes",
    "openimages": "oid_v6_classes",
}
ODINW = "mmdet/.mim/configs/mm_grounding_dino/odinw/grounding_dino_swin-t_pretrain_odinw35.py"


def main() -> None:
    """Write one text file a data set, one phrase a line."""
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        wheel = zipfile.ZipFile(_download_wheel(Path(folder)))
        for name, function in LISTS.items():
            _write(name, _returned_strings(wheel.read(CLASS_NAMES).decode(), function))
        _write("odinw", _assigned_strings(wheel.read(ODINW).decode(), "class_name"))
        _write("emoji", _emoji_phrases(_download_cldr(Path(folder))))
    print("total:", sum(path.stat().st_size for path in TARGET.glob("*.txt")), "bytes")


def _download_wheel(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), MMDET]
    subprocess.run(command, check=True)
    return next(folder.glob("mmdet-*.whl"))


def _download_cldr(folder: Path) -> Path:
    subprocess.run(["apt-get", "download", "unicode-cldr-core"], check=True, cwd=folder)
    subprocess.run(
        ["dpkg-deb", "-x", str(next(folder.glob("unicode-cldr-core*.deb"))), str(folder / "cldr")], check=True
    )
    return folder / "cldr/usr/share/unicode/cldr/common/annotations/en.xml"


def _returned_strings(source: str, function: str) -> list[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            returned = next(child for child in ast.walk(node) if isinstance(child, ast.Return))
            return list(ast.literal_eval(returned.value))
    raise SystemExit(f"mmdet has no {function} any more")


def _assigned_strings(source: str, name: str) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == name:
            value = ast.literal_eval(node.value)
            found += [value] if isinstance(value, str) else value
    return found


def _emoji_phrases(path: Path) -> list[str]:
    """Short names and keywords of the symbols among the annotated characters."""
    phrases: list[str] = []
    for node in ElementTree.parse(path).iter("annotation"):
        if unicodedata.category(node.attrib["cp"][0]) == "So" and node.text:
            phrases += [phrase.strip() for phrase in node.text.split("|")]
    return phrases


def _write(name: str, phrases: Iterable[str]) -> None:
    lines = list(dict.fromkeys(phrase.replace("_", " ").strip() for phrase in phrases))
    path = TARGET / f"{name}.txt"
    path.write_text("".join(f"{line}\n" for line in lines if line), encoding="utf-8")
    print(f"{path.name}: {len(lines)} phrases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
