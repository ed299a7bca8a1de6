"""Ratios of rounds, by hand."""

import pytest

from litetext.bench.ratios import Ratio, compare_rows, faithful
from tests.bench.made import result


def ratios(*results: object) -> dict[str, Ratio]:
    return {ratio.name: ratio for ratio in compare_rows(results, 32, "S0")}  # type: ignore[arg-type]


def test_the_median_of_the_ratios_not_the_ratio_of_medians() -> None:
    found = ratios(result("huggingface", 10, 20, 100), result("onnx-fp32", 50, 60, 700))
    ratio = found["best exact-L16 S0 / Hugging Face S0, batch 32"]
    assert ratio.rounds == (5, 3, 7)
    assert ratio.value == 5
    assert (ratio.unit, ratio.rows) == ("x", ("onnx-fp32", "huggingface"))


def test_the_best_gives_the_same_features() -> None:
    wrong = result("onnx-int8", 900, cosine=(0.9999, 0.99))
    right = result("openvino-int8", 800, cosine=(0.9991, 0.996))
    found = ratios(result("teacher-fp32", 4), result("onnx-fp32", 500), wrong, right)
    assert found["best exact-L16 S0 / teacher fp32, batch 32"].value == 200
    assert not faithful(wrong)
    assert faithful(right)
    assert not faithful(result("onnx-int8", 900, cosine=(0.998, 0.997)))


def test_masked_and_attended_are_not_mixed() -> None:
    found = ratios(result("huggingface", 10), result("onnx-fp32", 50), result("masked-onnx-fp32", 90))
    assert found["best exact-L16 S0 / Hugging Face S0, batch 32"].value == 5
    assert found["best masked S0 / Hugging Face S0, batch 32"].value == 9


def test_one_phrase_is_a_ratio_of_times() -> None:
    found = ratios(result("huggingface", 10), result("onnx-fp32", 60))
    ratio = found["one phrase, one thread: time of Hugging Face S0 / best exact-L16 S0"]
    assert ratio.value == pytest.approx(6)
    assert ratio.rows == ("huggingface", "onnx-fp32")


def test_sizes_are_megabytes_and_shares_of_the_teacher() -> None:
    found = ratios(result("teacher-fp32", 4, bytes=1_415_000_000), result("pruned-onnx-int8", 99, bytes=25_000_000))
    assert found["on disk: pruned-onnx-int8"].value == 25
    assert found["on disk: pruned-onnx-int8"].unit == "MB"
    assert found["on disk: teacher fp32 / pruned-onnx-int8"].value == pytest.approx(56.6)
    assert found["resident memory: pruned-onnx-int8"].value == 50


def test_what_was_not_measured_is_in_no_ratio() -> None:
    missing = result("huggingface", reason="no transformers")
    assert not any("Hugging Face" in name for name in ratios(missing, result("onnx-fp32", 50)))
    assert ratios() == {}
