"""Small encoders that the tests of checkpoints share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.encoders.synthetic import TINY, TINY_TEACHER, Student, Teacher


@pytest.fixture
def tidy(tmp_path: Path) -> Iterator[None]:
    """Checkpoints are big, and pytest would keep them."""
    yield
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="session")
def student() -> Student:
    return Student.make(TINY)


@pytest.fixture(scope="session")
def teacher() -> Teacher:
    return Teacher.make(TINY_TEACHER)
