"""The table of a run and its picture."""

from pathlib import Path

import pytest
from PIL import Image

from litetext.errors import OptionError
from litetext.micro.curve import COLUMNS, Curve


def test_rows_come_back_and_later_ones_are_dropped(tmp_path: Path) -> None:
    curve = Curve(tmp_path, 0)
    curve.add({"step": 10, "minutes": 0.5, "loss": 3.25, "nouns_right": 0.25})
    curve.add({"step": 20, "minutes": 1, "loss": 2, "cgf1": 12.5, "il_mcc": 0.4, "pmf1": 31})
    assert (tmp_path / "curve.csv").read_text("utf-8").splitlines()[0] == ",".join(COLUMNS)
    assert Curve(tmp_path, 20).rows == curve.rows
    resumed = Curve(tmp_path, 10)
    assert [row["step"] for row in resumed.rows] == [10]
    resumed.add({"step": 15, "loss": 1.0})
    assert [row["step"] for row in Curve(tmp_path, 99).rows] == [10, 15]
    with Image.open(tmp_path / "curve.png") as image:
        assert image.size[0] > 600


def test_something_else_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "curve.csv").write_text("step,loss\n1,many\n", encoding="utf-8")
    with pytest.raises(OptionError, match="not a validation curve"):
        Curve(tmp_path, 0)


def test_an_unknown_column_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fieldnames"):
        Curve(tmp_path, 0).add({"step": 1, "colour": 2})
    assert not (tmp_path / "curve.csv").exists()
