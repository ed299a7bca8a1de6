"""Tiny runs of distillation: a teacher of width 8, a student of width 32 with a token table of rank 2."""

import tomllib
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from litetext.distillation.recipe import DistillRecipe
from litetext.encoders.encoder import ModuleEncoder
from litetext.encoders.teacher import build_teacher
from litetext.features.embed import embed
from tests.distillation.corpora import corpus_of
from tests.encoders.students import generator, teacher_config

ADJECTIVES, NOUNS = ("red", "big", "old"), ("dog", "cat", "car", "cup")
PHRASES = [
    *NOUNS,
    *(f"{first} {noun}" for first in ADJECTIVES for noun in NOUNS),
    "the man to the left of the old tree",
]


def make_cache(folder: Path, width: int = 8) -> Path:
    """Features of 17 phrases."""
    teacher = ModuleEncoder(build_teacher(teacher_config(16, 2, 1, output=width), generator()), "tiny")
    embed(corpus_of(PHRASES), teacher, folder)
    return folder


RECIPE = """
preset = "tiny"
rank = 2
validation_fraction = 0.3
batch_size = 4
lr = 0.01
save_steps = 2
[losses]
consistency = 0.5
"""


def recipe_of(cache: Path, **changes: Any) -> DistillRecipe:
    """A recipe of two epochs of four steps."""
    values = {**tomllib.loads(RECIPE), "features": str(cache), "epochs": 2, "warmup_ratio": 0.2}
    return DistillRecipe.of(values | changes)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a checkpoint, by its path in it."""
    found: dict[str, torch.Tensor] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found[name] = value
        for key, one in value.items() if isinstance(value, dict) else ():
            walk(f"{name}.{key}", one)

    walk("", torch.load(folder / "last.ckpt", weights_only=True))
    return found


def rows_of(folder: Path) -> list[dict[str, float]]:
    """The curve without the clock."""
    rows = torch.load(folder / "last.ckpt", weights_only=True)["progress"]["rows"]
    return [{name: value for name, value in row.items() if name != "minutes"} for row in rows]


def student_of(folder: Path) -> tuple[dict[str, str], dict[str, list[Any]]]:
    """Metadata and values of the kept student; safetensors writes the former in any order."""
    with safe_open(folder / "student.safetensors", framework="pt") as file:
        return file.metadata(), {name: file.get_tensor(name).tolist() for name in file.keys()}  # noqa: SIM118


def assert_same(first: Path, second: Path) -> None:
    """Two runs came to the same bits."""
    ours, theirs = weights_of(first), weights_of(second)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert rows_of(first) == rows_of(second)
    assert student_of(first) == student_of(second)
