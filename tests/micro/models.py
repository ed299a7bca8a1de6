"""The model that several tests look at; making it takes a while."""

from functools import cache
from typing import Any


@cache
def fresh_model() -> Any:
    """With random weights; whoever changes it makes a copy."""
    from recipes.micro.model import make_model

    return make_model(0)
