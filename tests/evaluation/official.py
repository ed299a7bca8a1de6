"""The official evaluator of the PyPI package `sam3`, loaded by its path: its package imports more than it needs."""

import contextlib
import importlib
import importlib.util
import io
import sys
import tempfile
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

VEvalScores = tuple[dict[str, float], dict[tuple[int, int], dict[str, float]]]  # of the set, and of its pairs
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


def load_official_veval() -> (
    Callable[[Path, Path], tuple[dict[str, float], dict[tuple[int, int], dict[str, float]]]] | None
):
    """The official VEval scores of a set and of its pairs, by their own names; None where the package is missing."""
    package = importlib.util.find_spec("sam3")
    if package is None or package.submodule_search_locations is None:
        return None
    root = types.ModuleType("sam3")  # the package builds models when it is imported, so a stub stands for it
    root.__path__ = list(package.submodule_search_locations)
    before = sys.modules.get("sam3")
    sys.modules["sam3"] = root
    try:
        found = importlib.import_module("sam3.eval.saco_veval_evaluators")
        front = importlib.import_module("sam3.eval.saco_veval_eval")
    except ImportError:
        return None
    finally:
        del sys.modules["sam3"]
        if before is not None:
            sys.modules["sam3"] = before
    found.np = _OldNumpy(np)

    def evaluate(truth: Path, predictions: Path) -> VEvalScores:
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            np.errstate(all="ignore"),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            result = front.VEvalEvaluator(str(truth), f"{folder}/out.json").run_eval(str(predictions))
        pairs = {(pair.pop("video_id"), pair.pop("category_id")): pair for pair in result["video_np_results"]}
        return result["dataset_results"], pairs

    return evaluate


class _OldNumpy:
    """NumPy whose `where` of one argument gives numbers for single hits: `int` takes arrays of one number no longer."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def where(self, *arguments: Any) -> Any:
        found = self._module.where(*arguments)
        return tuple(places.item() for places in found) if len(arguments) == 1 else found
