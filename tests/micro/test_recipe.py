"""The schedule of the learning rate, the stages, and what a recipe refuses."""

import pytest

pytest.importorskip("torch")

from litetext.errors import OptionError
from litetext.micro.batches import BatchOptions
from litetext.micro.recipe import MicroRecipe, Stage

BATCH = BatchOptions(2, 0, 5, 1, 1)
STAGE = Stage("contrast", 110, 1e-3, 0.1, BATCH, warm_up=10)


def test_the_rate_rises_and_falls() -> None:
    rates = [STAGE.rate_at(step) for step in range(110)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == max(rates) == pytest.approx(1e-3)
    assert rates[60] == pytest.approx(1e-3 * (0.1 + 0.9 / 2))
    assert rates[-1] == pytest.approx(1e-4, rel=0.01)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_steps_are_found_in_their_stage() -> None:
    recipe = MicroRecipe(stages=(STAGE, Stage("set", 5, 1e-3, 0.1, BATCH)))
    assert recipe.steps == 115
    assert [recipe.locate(step) for step in (0, 109, 110, 114)] == [(0, 0), (0, 109), (1, 0), (1, 4)]
    with pytest.raises(OptionError, match="ends before step"):
        recipe.locate(115)


def test_refused() -> None:
    with pytest.raises(OptionError, match="without steps"):
        MicroRecipe(stages=())
    with pytest.raises(OptionError, match="without steps"):
        MicroRecipe(stages=(Stage("set", 0, 1e-3, 0.1, BATCH),))
    with pytest.raises(OptionError, match="save_every 0"):
        MicroRecipe(save_every=0)


def test_the_recipe_names_words_before_masks() -> None:
    assert [stage.losses for stage in MicroRecipe().stages][:2] == ["contrast", "set"]
