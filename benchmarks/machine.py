"""The machine that figures were measured on, and prompts to measure with."""

import os
from itertools import islice, product
from pathlib import Path

from litetext import device
from litetext.prompts.corpus import bundled_corpus

RESULTS = Path(__file__).parent / "results"
DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "prompts"


def describe_machine() -> dict[str, object]:
    """The machine, and the settings of OpenBLAS that change its speed."""
    blas = {name: value for name, value in os.environ.items() if name.startswith("OPENBLAS_")}
    return device.describe_machine() | {"blas": blas}


def real_prompts() -> tuple[str, list[str]]:
    """Where the prompts are from, and the distinct ones: the given data, else the bundled corpus."""
    if DATA.is_dir():
        files = sorted(DATA.glob("*.txt"))
        lines = (line for file in files for line in file.read_text(encoding="utf-8").split("\n") if line)
        return "../shared/data/prompts", list(dict.fromkeys(lines))
    return "the bundled corpus", list(bundled_corpus().texts)


def saco_prompts() -> tuple[str, list[str]]:
    """Where the prompts are from, and the distinct ones: SA-Co's noun phrases, else the bundled corpus."""
    file = DATA / "saco_veval_toy_categories.txt"
    if file.is_file():
        lines = file.read_text(encoding="utf-8").split("\n")
        return f"../shared/data/prompts/{file.name}", [line for line in dict.fromkeys(lines) if line]
    return "the bundled corpus", list(bundled_corpus().texts)


def distinct_prompts(count: int) -> tuple[str, list[str]]:
    """Real prompts and, when they do not suffice, variations of them with an attribute or a place."""
    source, prompts = real_prompts()
    words = ("red", "small", "the second", "wooden", "old")
    places = ("", " on the left", " near the window", " behind the car", " in the background")
    varied = (f"{word} {prompt}{place}" for word, place, prompt in product(words, places, prompts))
    return source, prompts[:count] + list(islice(varied, max(0, count - len(prompts))))
