import pytest

from litetext.encoders.presets import PRESETS, STUDENTS


@pytest.mark.parametrize(
    ("name", "rows", "parameters"),
    [
        ("s0", 16, 42_541_312),
        ("s1", 16, 63_528_192),
        ("l", 16, 123_800_320),
        ("s0", 77, 42_572_544),
        ("s1", 77, 63_559_424),
        ("l", 77, 123_847_168),
        ("teacher", 32, 353_724_672),
    ],
)
def test_parameters_to_the_unit(name: str, rows: int, parameters: int) -> None:
    assert PRESETS[name].parameters(rows) == parameters


def test_parts() -> None:
    parts = PRESETS["s0"].parts()
    assert parts["token_table"] == 25_296_896
    assert parts["unused_projection"] == 262_144
    assert PRESETS["l"].parts()["token_table"] == 37_945_344
    assert PRESETS["l"].parts()["unused_projection"] == 589_824
    assert PRESETS["teacher"].parts()["token_table"] == 50_593_792
    assert PRESETS["teacher"].parts()["unused_projection"] == 524_288
    assert [preset.name for preset in STUDENTS] == ["s0", "s1", "l"]


def test_a_pruned_vocabulary_saves_rows_times_width() -> None:
    preset = PRESETS["s0"]
    assert preset.parameters() - preset.parameters(vocabulary=20_000) == (49_408 - 20_000) * 512
