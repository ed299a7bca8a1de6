"""A configuration is checked when it is made; presets have the parameters that the paper counts."""

import json
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from litetext.checkpoints.schema import count_parameters, parameters_by_part
from litetext.encoders.config import PRESETS, STUDENTS, EncoderConfig
from litetext.errors import OptionError

COUNTS = [
    ("s0", 16, 42_541_312),
    ("s1", 16, 63_528_192),
    ("l", 16, 123_800_320),
    ("s0", 77, 42_572_544),
    ("s1", 77, 63_559_424),
    ("l", 77, 123_847_168),
    ("teacher", 32, 353_724_672),
    ("xs", 16, 9_064_704),
    ("xxs", 16, 2_288_640),
    ("micro-s", 16, 571_328),
    ("micro-xs", 16, 244_608),
]
CONFIG = EncoderConfig.of("s0", 16, padding="attended")


@pytest.mark.parametrize(("name", "rows", "parameters"), COUNTS)
def test_parameters_to_the_unit(name: str, rows: int, parameters: int) -> None:
    assert count_parameters(replace(PRESETS[name], context_length=rows)) == parameters


def test_parts() -> None:
    for name, table, unused in (
        ("s0", 25_296_896, 262_144),
        ("l", 37_945_344, 589_824),
        ("teacher", 50_593_792, 524_288),
    ):
        parts = parameters_by_part(PRESETS[name])
        assert (parts["token_table"], parts["unused_projection"]) == (table, unused)
    assert [preset.name for preset in STUDENTS] == ["s0", "s1", "l"]
    assert count_parameters(PRESETS["micro-s"]) < 0.12 * 5.2e6
    assert count_parameters(PRESETS["micro-xs"]) < 0.05 * 5.2e6


def test_a_pruned_vocabulary_saves_rows_times_width() -> None:
    pruned = replace(PRESETS["s0"], vocabulary=20_000)
    assert count_parameters(PRESETS["s0"]) - count_parameters(pruned) == (49_408 - 20_000) * 512


def test_a_config_takes_its_sizes_from_the_table() -> None:
    assert EncoderConfig("s0", 512, 8, 4, 2, 16, "attended") == CONFIG
    assert EncoderConfig.of("l", padding="masked", vocabulary=9).vocabulary == 9
    with pytest.raises(FrozenInstanceError):
        CONFIG.width = 3  # type: ignore[misc]


@pytest.mark.parametrize("padding", ["attended", "masked"])
def test_a_config_survives_json(padding: Any) -> None:
    config = replace(EncoderConfig.of("tiny", 9, padding=padding, vocabulary=77), folded=True, name="mein Schüler")
    assert EncoderConfig.from_json(config.to_json()) == config


def test_fields_with_a_default_may_be_missing() -> None:
    fields = json.loads(CONFIG.to_json())
    for name in ("rank", "weights", "activations", "table", "kind", "projection"):
        del fields[name]
    assert EncoderConfig.from_json(json.dumps(fields)) == CONFIG


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"width": 510}, "width of 510 for 8 heads"),
        ({"width": 0}, "width is 0"),
        ({"heads": -8}, "heads is -8"),
        ({"heads": True}, "heads is True"),
        ({"width": 512.0}, "width is 512.0"),
        ({"width": "512"}, "width is '512'"),
        ({"encoder_blocks": -1}, "encoder_blocks is -1"),
        ({"encoder_blocks": 1001}, "1003 blocks"),
        ({"mixer_blocks": 3}, "3 RepMixer blocks"),
        ({"context_length": 1}, "context_length is 1"),
        ({"padding": "ignored"}, "padding is 'ignored'"),
        ({"padding": None}, "padding is None"),
        ({"vocabulary": 0}, "vocabulary is 0"),
        ({"output": 0}, "output is 0"),
        ({"rank": 0}, "rank is 0"),
        ({"rank": "8"}, "rank is '8'"),
        ({"rank": 513}, "rank 513 and width 512"),
        ({"folded": 1}, "folded is 1"),
        ({"name": 7}, "name is 7"),
        ({"kept": 7}, "kept is 7"),
        ({"projection": -1}, "projection is -1"),
        ({"kind": "pupil"}, "kind is 'pupil'"),
        ({"kind": "teacher"}, "teacher"),  # it has RepMixer blocks
        ({"kind": "teacher", "mixer_blocks": 0, "rank": 8}, "teacher"),
        ({"kind": "teacher", "mixer_blocks": 0, "table": "int8"}, "teacher"),
        ({"weights": "int7"}, "weights is 'int7'"),
        ({"activations": 8}, "activations is 8"),
        ({"table": "int2"}, "table is 'int2'"),
        ({"weights": "int8"}, "not folded"),
        ({"activations": "int8", "folded": True}, "int8 activations with float weights"),
        ({"table": "int4", "rank": 7}, "int4 token table of 7 columns"),
    ],
)
def test_values_without_sense_are_refused_at_birth(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(OptionError) as caught:
        EncoderConfig.from_json(json.dumps({**json.loads(CONFIG.to_json()), **change}))
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("", "char 0"),
        ("[" * 100_000, "JSON"),
        ("[]", "object"),
        ('{"name": "s0"}', "context_length, encoder_blocks, heads, mixer_blocks, padding, width"),
        (CONFIG.to_json().replace("heads", "hands"), "hands"),
    ],
)
def test_json_that_is_no_config_is_refused(text: str, fact: str) -> None:
    with pytest.raises(OptionError) as caught:
        EncoderConfig.from_json(text)
    assert fact in str(caught.value)


@pytest.mark.parametrize("name", ["teacher", "S0", "", "s2"])
def test_only_students_are_students(name: str) -> None:
    with pytest.raises(OptionError, match="s0, s1, l, tiny"):
        EncoderConfig.of(name, padding="masked")
