"""Two nodes, one of them lost in the middle: the same answers as of one process. `nodes.py` does it with more rows."""

from pathlib import Path

import pytest

from tests.scale import nodes

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.mark.torch
def test_embed_loses_a_node(tmp_path: Path) -> None:
    found = nodes.compare_embed(tmp_path, 8000)
    assert (found["computed_parts"], found["rows"], found["failures"]) == (found["parts"], 8000, [])


def test_audit_loses_a_node(tmp_path: Path) -> None:
    found = nodes.compare_audit(tmp_path, 100_000)
    assert (found["computed_parts"], found["failures"]) == (found["parts"], [])
