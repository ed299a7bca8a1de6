"""The files of examples/cluster: valid by their schemas, and with commands that the command line knows."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from jsonschema import Draft7Validator

from litetext.cli import run

FOLDER = Path(__file__).parents[2] / "examples" / "cluster"
SHIPPED = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"


def faults(name: str, schema: Path, **changes: Any) -> list[str]:
    document = yaml.safe_load((FOLDER / name).read_text("utf-8")) | changes
    return [error.message for error in Draft7Validator(json.loads(schema.read_text("utf-8"))).iter_errors(document)]


@pytest.mark.parametrize(
    ("name", "schema"), [("cluster.yaml", SHIPPED), ("rayjob.yaml", FOLDER / "rayjob.schema.json")]
)
def test_files_are_valid(name: str, schema: Path) -> None:
    assert faults(name, schema) == []
    assert faults(name, schema, unknown=1)  # the schema can tell


def test_the_cluster_has_its_node_types() -> None:
    document = yaml.safe_load((FOLDER / "cluster.yaml").read_text("utf-8"))
    assert document["head_node_type"] in document["available_node_types"]


def test_the_job_is_a_command(capsys: pytest.CaptureFixture[str]) -> None:
    document = yaml.safe_load((FOLDER / "rayjob.yaml").read_text("utf-8"))
    program, *arguments = shlex.split(document["spec"]["entrypoint"])
    assert program == "litetext"
    assert run(arguments) == 1  # its files are not here; with an option that there is not, the status is 2
    assert "/shared/" in capsys.readouterr().err
