"""The official evaluator of the PyPI package `sam3`, loaded by its path: its package imports more than it needs."""

import contextlib
import importlib.util
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

NAMES = {
    "cgF1": "cgf1",
    "positive_micro_F1": "pmf1",
    "positive_micro_precision": "pm_precision",
    "positive_macro_F1": "positive_macro_f1",
    "F1": "f1",
    "IL_MCC": "il_mcc",
    "IL_F1": "il_f1",
    "IL_FPR": "il_fpr",
    "IL_precision": "il_precision",
    "IL_recall": "il_recall",
}


def load_official() -> Callable[[list[Path], Path], dict[str, float]] | None:
    """The official scores by our names (``cgf1``, ``cgf1@0.5``, ...); None where the package is missing."""
    package = importlib.util.find_spec("sam3")
    if package is None or package.origin is None:
        return None
    file = Path(package.origin).parent / "eval" / "cgf1_eval.py"
    if not file.is_file():
        return None
    spec = importlib.util.spec_from_file_location("official_cgf1", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError:
        return None

    def evaluate(truths: list[Path], predictions: Path) -> dict[str, float]:
        # It prints its table, and divides by zero where no pair has both sides.
        with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
            found = module.CGF1Evaluator([str(path) for path in truths]).evaluate(str(predictions))
        return {_rename(name.removeprefix("cgF1_eval_segm_")): value for name, value in found.items()}

    return evaluate


def _rename(name: str) -> str:
    metric, at, threshold = name.partition("@")
    return NAMES.get(metric, metric) + at + threshold
