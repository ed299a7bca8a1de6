"""How right the rules of semantics.toml are, on prompts that were labeled by hand."""

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from litetext.auditing.semantics import classify, load_rules

DATA = Path(__file__).parent / "data"
LISTS = Path(__file__).resolve().parents[3] / "shared/data/prompts"


def read_sample() -> list[tuple[str, set[str], str]]:
    """Prompt, labels and origin of each prompt of the sample."""
    rows = _rows(DATA / "semantics_sample.tsv")
    return [(prompt, set(labels.split()), origin) for prompt, labels, origin in rows]


def judge_rules(lists: Path = LISTS) -> dict[str, dict[str, dict[str, int]]]:
    """Of each set of labeled prompts, of each class: prompts that the rules tell, that are labeled, and both."""
    sample = [(prompt, labels) for prompt, labels, _ in read_sample()]
    half = [
        (prompt, labels)
        for prompt, labels, origin in read_sample()
        if zlib.crc32(prompt.lower().encode()) % 2 and not origin.endswith("later")
    ]
    sets = {"sample, half": _judge(half, load_rules().instead), "sample, all": _judge(sample, load_rules().instead)}
    lines = {line.replace("_", " ") for file in lists.glob("*.txt") for line in file.read_text("utf-8").splitlines()}
    known = {hashlib.sha256(line.encode()).hexdigest()[:12]: line for line in lines}
    rows = [row for row in _rows(DATA / "semantics_drawn.tsv") if row[1] in known]
    for draw in sorted({row[0] for row in rows}):
        labeled = [(known[key], set(labels.split())) for number, key, labels, _ in rows if number == draw]
        sets[f"draw {draw}"] = _judge(labeled, ("alternative", "comparison"))
    return sets


def _rows(path: Path) -> list[list[str]]:
    lines = path.read_text("utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")][1:]


def _judge(labeled: Sequence[tuple[str, set[str]]], names: Iterable[str]) -> dict[str, dict[str, int]]:
    told = [(set(classify(prompt)), labels) for prompt, labels in labeled]
    return {
        name: {
            "told": sum(name in one for one, _ in told),
            "labeled": sum(name in labels for _, labels in told),
            "right": sum(name in one & labels for one, labels in told),
        }
        for name in names
    }
