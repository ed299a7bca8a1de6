import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from litetext.encoders.config import PADDINGS, PRESETS, STUDENTS, StudentConfig
from litetext.errors import OptionError

COUNTS = [
    ("s0", 16, 42_541_312),
    ("s1", 16, 63_528_192),
    ("l", 16, 123_800_320),
    ("s0", 77, 42_572_544),
    ("s1", 77, 63_559_424),
    ("l", 77, 123_847_168),
]
CONFIG = StudentConfig.of("s0", 16, padding="attended")


@pytest.mark.parametrize(("name", "rows", "parameters"), [*COUNTS, ("teacher", 32, 353_724_672)])
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


@pytest.mark.torch
@pytest.mark.parametrize("name", [name for name, row in PRESETS.items() if not row.causal])
@pytest.mark.parametrize("rows", [16, 77])
def test_the_students_have_the_parameters_of_the_table_without_the_unused(name: str, rows: int) -> None:
    torch = pytest.importorskip("torch")
    from litetext.encoders.student import TextStudent

    with torch.device("meta"):
        student = TextStudent(StudentConfig.of(name, rows, padding="attended"))
    unused = PRESETS[name].parts()["unused_projection"]
    assert sum(parameter.numel() for parameter in student.parameters()) == PRESETS[name].parameters(rows) - unused


def test_a_config_takes_its_sizes_from_the_table() -> None:
    assert StudentConfig("s0", 512, 8, 4, 2, 16, "attended") == CONFIG
    assert StudentConfig.of("l", padding="masked", vocabulary=9).vocabulary == 9
    assert [StudentConfig.of(preset.name, padding="masked").context_length for preset in STUDENTS] == [16, 16, 16]
    with pytest.raises(FrozenInstanceError):
        CONFIG.width = 3  # type: ignore[misc]


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_config_survives_json(padding: Any) -> None:
    config = replace(StudentConfig.of("tiny", 9, padding=padding, vocabulary=77), folded=True, name="mein Schüler")
    assert StudentConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"width": 510}, "a width of 510 for 8 heads"),
        ({"width": 0}, "width is 0; give an integer of at least 1"),
        ({"heads": -8}, "heads is -8"),
        ({"heads": True}, "heads is True"),
        ({"width": 512.0}, "width is 512.0"),
        ({"width": "512"}, "width is '512'"),
        ({"encoder_blocks": -1}, "encoder_blocks is -1"),
        ({"mixer_blocks": 3}, "3 RepMixer blocks; give an even number"),
        ({"context_length": 1}, "context_length is 1; give an integer of at least 2"),
        ({"padding": "ignored"}, "no padding is called 'ignored'; give attended or masked"),
        ({"padding": None}, "no padding is called None"),
        ({"vocabulary": 0}, "vocabulary is 0"),
        ({"output": 0}, "output is 0"),
        ({"rank": 0}, "rank is 0"),
        ({"rank": "8"}, "rank is '8'"),
        ({"rank": 513}, "a token table of rank 513 and width 512; leave rank out"),
        ({"folded": 1}, "folded 1"),
        ({"name": 7}, "name 7"),
    ],
)
def test_values_without_sense_are_refused_at_birth(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(OptionError) as caught:
        StudentConfig.from_json(json.dumps({**json.loads(CONFIG.to_json()), **change}))
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ('{"name": "s0"}', "missing fields: context_length, encoder_blocks, heads, mixer_blocks, padding, width"),
        (CONFIG.to_json().replace("heads", "hands"), "unknown fields: hands"),
    ],
)
def test_json_that_is_no_config_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(OptionError) as caught:
        StudentConfig.from_json(text)
    assert complaint in str(caught.value)


@pytest.mark.parametrize("name", ["teacher", "S0", "", "s2"])
def test_only_students_are_students(name: str) -> None:
    with pytest.raises(OptionError, match=r"no student is called .* give one of s0, s1, l, tiny"):
        StudentConfig.of(name, padding="masked")
