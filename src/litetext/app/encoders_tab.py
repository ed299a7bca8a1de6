"""Encoders: how near phrases are to each other for each text encoder, whether word order counts, sizes and speed."""

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from litetext.app.workbench import (
    SIZE_COLUMNS,
    Reader,
    Workbench,
    messages,
    one_a_line,
    safe_html,
    template,
)
from litetext.auditing.order import measure_order
from litetext.errors import OptionError, printable
from litetext.features.compare import Fidelity, compare
from litetext.features.encode import pooled_features
from litetext.sam3.drawing import ink_on

ROUNDS = 15  # of which the median is the time of a phrase
SPEED_COLUMNS = (*SIZE_COLUMNS, "one phrase", "phrases a second")
ORDER_COLUMNS = ("text encoder", "phrases with another order", "cosine to their other orders")
_LOW, _HIGH = np.array([247, 250, 255]), np.array([23, 78, 166])  # colors of the least and the largest cosine


def cosines(reader: Reader, phrases: Sequence[str]) -> npt.NDArray[np.float64]:
    """Cosines [N, N] of the mean features of phrases."""
    features = pooled_features(reader.segmenter.encoder, phrases).astype(np.float64)
    features /= np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    found: npt.NDArray[np.float64] = (features @ features.T).clip(-1, 1)
    return found


def compare_encoders(bench: Workbench, text: str) -> dict[str, Any]:
    """What the page says of each text encoder on phrases, one a line; plain values.

    ``encoders`` has for each its ``cosines`` [N, N], the ``nearest`` other phrase of each phrase, ``order`` as
    `OrderStats` has it, and the speed; ``fidelity`` compares the two, where there are two.
    """
    phrases = one_a_line(text)
    if len(phrases) < 2:
        raise OptionError("a phrase alone", hint="give two or more, one a line")
    described = []
    for reader in bench.readers:
        matrix = cosines(reader, phrases)
        others = np.where(np.eye(len(phrases), dtype=bool), -np.inf, matrix)
        one, several = (_seconds(reader, texts) for texts in (phrases[:1], phrases))
        described.append(
            {
                "name": reader.name,
                "cosines": matrix.tolist(),
                "nearest": [phrases[place] for place in others.argmax(axis=1)],
                "order": measure_order(reader.segmenter.encoder, phrases).to_json(),
                "milliseconds": 1000 * one,
                "phrases_per_second": len(phrases) / several,
            }
        )
    fidelity: Fidelity | None = None
    if len(bench.readers) == 2:
        fidelity = compare(bench.readers[0].segmenter.encoder, bench.readers[1].segmenter.encoder, phrases)
    return {"phrases": phrases, "encoders": described, "fidelity": fidelity and fidelity.to_json()}


def render(bench: Workbench, found: dict[str, Any]) -> str:
    """The HTML of it."""
    least = min(min(map(min, one["cosines"])) for one in found["encoders"])
    maps = [
        (
            one["name"],
            [[_cell(value, least) for value in row] for row in one["cosines"]],
            [printable(phrase) for phrase in one["nearest"]],
        )
        for one in found["encoders"]
    ]
    speeds = [
        [*reader.sizes(), f"{one['milliseconds']:.2f} ms", f"{one['phrases_per_second']:,.0f}"]
        for reader, one in zip(bench.readers, found["encoders"], strict=True)
    ]
    orders = []
    for one in found["encoders"]:
        cosine = one["order"]["cosine"]
        orders.append([one["name"], str(one["order"]["sampled"]), "–" if cosine is None else f"{cosine:.4f}"])
    fidelity = None if found["fidelity"] is None else Fidelity(**found["fidelity"]).line()
    html = template("encoders.html").render(
        phrases=[printable(phrase) for phrase in found["phrases"]],
        maps=maps,
        speeds=speeds,
        speed_columns=SPEED_COLUMNS,
        orders=orders,
        order_columns=ORDER_COLUMNS,
        fidelity=fidelity,
    )
    return safe_html(html)


def _cell(value: float, least: float) -> tuple[str, str, str]:
    """A cosine in words, its color, and a color that can be read on it."""
    share = (value - least) / max(1 - least, 1e-9)
    red, green, blue = (round(part) for part in (_LOW + share * (_HIGH - _LOW)).tolist())
    return f"{value:.2f}", f"rgb({red} {green} {blue})", "rgb({} {} {})".format(*ink_on((red, green, blue)))


def _seconds(reader: Reader, texts: Sequence[str], clock: Callable[[], float] = perf_counter) -> float:
    """The median time that texts take."""
    times = []
    for _ in range(ROUNDS):
        began = clock()
        reader.segmenter.encoder.encode(texts)
        times.append(clock() - began)
    return max(median(times), 1e-9)


def add_encoders(bench: Workbench, guard: Any) -> None:  # noqa: ARG001 - as the other tabs
    """Put the tab on the page that is being built."""
    import gradio as gr

    first = "red car\na red car on the left\nblue car\nwhite dog\ndog\na cat and a dog\na dog and a cat"
    text = gr.Textbox(first, label="Phrases to compare, one a line", lines=8, max_lines=8)
    start = gr.Button("Compare", variant="primary")
    view, answer, api = gr.HTML(elem_id="compared"), gr.JSON(visible=False), gr.Button(visible=False)

    def run(text: str) -> str:
        with messages():
            return render(bench, compare_encoders(bench, text))

    def api_compare(phrases: str) -> Any:
        """Compare the text encoders on phrases (one a line): cosines, nearest phrases, word order, speed."""
        with messages():
            return compare_encoders(bench, phrases)

    model: Any = {"concurrency_id": "model", "concurrency_limit": 1}
    start.click(run, text, view, **model, api_visibility="private")
    api.click(api_compare, text, answer, api_name="compare", **model)
