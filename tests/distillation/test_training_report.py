"""The curve of a training: its legends hide no line, its axes say what they are, its letters are large enough."""

from pathlib import Path

import matplotlib.figure
import pytest
from PIL import Image

from litetext.distillation.training_report import write_curve


@pytest.mark.parametrize("least", [0.01, 0.0])
def test_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: float) -> None:
    drawn = []
    save = matplotlib.figure.Figure.savefig
    monkeypatch.setattr(
        matplotlib.figure.Figure,
        "savefig",
        lambda self, *given, **named: (drawn.append(self), save(self, *given, **named)),
    )
    rows = [
        {"epoch": epoch, "loss": 2.0 / epoch, "val_loss": least or 1 - 0.125 * epoch}
        | dict.fromkeys(("cosine", "end_cosine", "retrieval", "order"), 1 - 1 / (1 + epoch))
        for epoch in range(1, 9)
    ]
    write_curve(rows, tmp_path)
    (figure,) = drawn
    losses, shares = figure.axes
    assert ("log" in losses.get_ylabel()) == (losses.get_yscale() == "log") == (least > 0)
    assert "percent" in shares.get_ylabel()
    for axes in figure.axes:
        assert axes.get_legend().get_window_extent().y0 >= axes.get_window_extent().y1 - 1
        labels = [label.get_text() for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()]
        assert labels
        assert not any("10^" in label or "mathdefault" in label for label in labels)
        sizes = [
            text.get_size() for text in (*axes.get_legend().get_texts(), *axes.get_xticklabels(), axes.yaxis.label)
        ]
        width, _ = figure.get_size_inches() * 72
        assert min(sizes) * 358 / width >= 9  # pixels on a screen of 390
    with Image.open(tmp_path / "curve.png") as image:
        assert image.width >= 2 * 358  # sharp where a pixel of the page is two of the screen
    assert (tmp_path / "curve.csv").read_text().count("\n") == 9
