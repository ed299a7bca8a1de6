"""The small encoders of tests/encoders, for their files too."""

from tests.encoders.conftest import student, teacher, tidy

__all__ = ["student", "teacher", "tidy"]
