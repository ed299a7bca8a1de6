"""The official evaluator of the PyPI package `sam3`, loaded by its path: its package imports more than it needs."""

import contextlib
import importlib
import importlib.util
import io
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from litetext.evaluation.hota import HOTA_SCORES, TETA_SCORES
from litetext.evaluation.veval import VEvalReport

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


def load_official_veval(
    *, pools: bool = False
) -> Callable[[Path, Path], tuple[dict[str, float], dict[tuple[int, int], dict[str, float]]]] | None:
    """The official VEval scores of a set and of its pairs, by their own names; None where the package is missing.

    ``pools`` lets it start its two pools of eight processes, which takes longer than the work of a small set.
    """
    package = importlib.util.find_spec("sam3")
    if package is None or package.submodule_search_locations is None:
        return None
    root = types.ModuleType("sam3")  # the package builds models when it is imported, so a stub stands for it
    root.__path__ = list(package.submodule_search_locations)
    before = sys.modules.get("sam3")
    sys.modules["sam3"] = root
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            found = importlib.import_module("sam3.eval.saco_veval_evaluators")
            front = importlib.import_module("sam3.eval.saco_veval_eval")
    except ImportError:
        return None
    finally:
        del sys.modules["sam3"]
        if before is not None:
            sys.modules["sam3"] = before
    if not pools:
        for name in ("hota_eval_toolkit.trackeval.eval", "teta_eval_toolkit.eval"):
            sys.modules[f"sam3.eval.{name}"].Pool = _NoPool  # type: ignore[attr-defined]
    found.np = _OldNumpy(np)
    # It rounds TETA to five digits otherwise.
    found.metrics.TETA._summary_row = lambda self, result: [
        repr(100 * float(np.mean(result[name]))) for name in self.summary_fields
    ]

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


class _NoPool(contextlib.nullcontext[Any]):
    """A pool that works in this process."""

    def __enter__(self) -> Any:
        return self

    def map(self, work: Callable[[Any], Any], items: list[Any]) -> list[Any]:
        return list(map(work, items))


class _OldNumpy:
    """NumPy whose `where` of one argument gives numbers for single hits: `int` takes arrays of one number no longer."""

    def __init__(self, module: types.ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def where(self, *arguments: Any) -> Any:
        found = self._module.where(*arguments)
        return tuple(places.item() for places in found) if len(arguments) == 1 else found


def official_names(report: VEvalReport) -> dict[str, float]:
    """The scores of our report under the official names; TETA to 100, as officially."""
    named: dict[str, float] = {}
    for kind, scores in (("mask", report.masks), ("bbox", report.boxes)):
        named[f"video_{kind}_mAP_50_95"] = scores["ap"]["map"]
        for suffix, ours, level in (("_50_95", "", ""), ("_50", "50", "@0.5"), ("_75", "75", "@0.75")):
            named[f"video_{kind}_phrase_ap{suffix}"] = scores["ap"][f"phrase_ap{ours}"]
            named[f"video_{kind}_demo_cgf1_micro{suffix}"] = scores["cgf1"]["raw"][f"cgf1{level}"]
            named[f"video_{kind}_demo_positive_micro_f1{suffix}"] = scores["cgf1"]["raw"][f"pmf1{level}"]
            named[f"video_{kind}_demo_ilmcc{suffix}"] = scores["cgf1"]["il_mcc"]
        named |= {f"video_{kind}_all_phrase_{name}": scores["hota"][name.lower()] for name in HOTA_SCORES}
    parts = {name: name[:-1] + "_a" if name.endswith("A") else f"{name[:-2]}_{name[-2:]}" for name in TETA_SCORES[1:]}
    for name, theirs in {"TETA": "teta", **parts}.items():
        named[f"video_mask_{theirs.lower()}"] = 100 * report.masks["teta"][name.lower()]
    return named


def official_pair(pair: Mapping[str, Any]) -> dict[str, float]:
    """The scores of a pair of our report under the official names."""
    named: dict[str, float] = {}
    for kind, scores in (("mask", pair["masks"]), ("bbox", pair["boxes"])):
        for suffix, level in (("_50_95", ""), ("_50", "@0.5"), ("_75", "@0.75")):
            named |= {f"{kind}_{name}{suffix}": scores[name.lower() + level] for name in ("TP", "FP", "FN", "F1")}
        named |= {f"{kind}_{name}": scores[name.lower()] for name in HOTA_SCORES if name.lower() in scores}
    return named
