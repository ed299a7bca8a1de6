"""Scripts in runs/, commands in docs and help: shell that parses, options that exist, recipes that are read."""

import importlib.util
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from litetext.cli import app  # importing it adds the commands
from litetext.cli._app import _USAGE_ERROR

RUNS = Path(__file__).parents[1] / "runs"
SCRIPTS = sorted(RUNS.glob("*.sh"))
PAGES = [RUNS.parent / "README.md", *sorted((RUNS.parent / "docs").rglob("*.md"))]
SHOWN = re.compile(r"^ *(?:[^`]*\| )?(litetext [a-z]+ .*)$", re.MULTILINE)  # alone on a line of a page, or after a pipe
INLINE = re.compile(r"`(litetext [a-z]+ [^`]*)`")  # often in part, so that only the options are looked at
SEPARATORS = re.compile(r"[|;&<>]+|\d?>&?\d?")
PROGRAM = re.compile(r'(^|\s)(?:litetext|"\$LITETEXT")\s')
APPENDED = re.compile(r"\+=\((--[a-z][a-z-]*)")

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def all_commands() -> dict[tuple[str, ...], Any]:
    """Each command and group by its words."""
    found: dict[tuple[str, ...], Any] = {}

    def walk(command: Any, words: tuple[str, ...]) -> None:
        found[words] = command
        for name, child in getattr(command, "commands", {}).items():
            walk(child, (*words, name))

    walk(typer.main.get_command(app), ())
    return found


def options_of(command: Any) -> set[str]:
    names = [name for one in command.params for name in (*one.opts, *one.secondary_opts)]
    return {name for name in names if name.startswith("-")} | {"--help"}


COMMANDS = all_commands()
OPTIONS = {words: options_of(command) for words, command in COMMANDS.items()}
EXAMPLES = {words: command.epilog for words, command in COMMANDS.items() if not hasattr(command, "commands")}


def calls(script: str) -> list[tuple[tuple[str, ...], list[str]]]:
    """Each `litetext` command of a script, with what is given to it."""
    found = []
    for line in script.replace("\\\n", " ").split("\n"):
        if line.lstrip().startswith("#") or not PROGRAM.search(line):
            continue
        words = shlex.split(PROGRAM.sub(r"\1litetext ", line.replace("$(", " ")), comments=True)
        while "litetext" in words:
            words = words[words.index("litetext") + 1 :]
            end = next((place for place, word in enumerate(words) if SEPARATORS.fullmatch(word)), len(words))
            command: tuple[str, ...] = ()
            for word in words[:end]:
                if (*command, word) not in COMMANDS:
                    break
                command = (*command, word)
            found.append((command, words[len(command) : end]))
            words = words[end:]  # a word of a command may be litetext too
    return found


def unknown(script: str) -> list[str]:
    """What of a script no command of ours knows."""
    everything = set().union(*OPTIONS.values())
    faults = [name for name in APPENDED.findall(script) if name not in everything]
    for command, words in calls(script):
        said = " ".join(("litetext", *command))
        if hasattr(COMMANDS[command], "commands"):
            faults.append(f"{said} {words[:1]}")
            continue
        options = [word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)]
        faults += [f"{said} {name}" for name in options if name not in OPTIONS[command]]
    return faults


def refused(script: str) -> list[str]:
    """What of a script's commands is unknown, or a usage error: a missing argument, a word that is no choice."""
    faults = unknown(script)
    for command, words in [] if faults else calls(script):
        try:
            COMMANDS[command].make_context("litetext", list(words))
        except _USAGE_ERROR as error:
            faults.append(f"{' '.join(command)}: {error}")
    return faults


@needs_bash
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_it_parses_and_stops_at_the_first_failure(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = script.read_text(encoding="utf-8").split("\n")
    assert "set -euo pipefail" in lines or 'source "$(dirname "$0")/micro_common.sh"' in lines


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_command_and_option_exists(script: Path) -> None:
    assert unknown(script.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_documented_commands_parse(page: Path) -> None:
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    assert refused("\n".join(SHOWN.findall(text))) == []
    assert unknown("\n".join(INLINE.findall(text))) == []


@pytest.mark.parametrize("command", EXAMPLES, ids=" ".join)
def test_examples_of_the_help_parse(command: tuple[str, ...]) -> None:
    assert command in [words for words, _ in calls(EXAMPLES[command])]
    assert refused(EXAMPLES[command]) == []


def test_commands_are_found() -> None:
    found = [" ".join(command) for command, _ in calls((RUNS / "paper_s0.sh").read_text(encoding="utf-8"))]
    gold = ["evaluate gold"] * 2
    assert found == ["audit", "embed", "distill", *gold, "evaluate retention", "inspect", "convert"]


def test_what_does_not_exist_is_found() -> None:
    script = (
        "# litetext nonsense --in-a-comment\n"
        'keep a.json litetext audit "${prompts[@]}" -o $OUT --lengths=8 \\\n  --nonsens --json | head --lines 3\n'
        'held+=(--hold-up "$file")\n'
        "x=$(litetext evaluate gold --gt a --preds b) && litetext embedd x -o y\n"
        "litetext evaluate --json\n"
        'test -s x || "$LITETEXT" inspect a --colour > x\n'
    )
    assert unknown(script) == [
        "--hold-up",
        "litetext audit --nonsens",
        "litetext evaluate gold --preds",
        "litetext ['embedd']",
        "litetext evaluate ['--json']",
        "litetext inspect --colour",
    ]
    assert len(refused("litetext segment -p dog\nlitetext track a -p b --every often\nlitetext export micro -o x")) == 2


def test_each_is_listed_and_each_recipe_is_read() -> None:
    from litetext.distillation.recipe import read_recipe

    listed = (RUNS / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in RUNS.iterdir() if path.suffix in {".sh", ".py"} and path.name not in listed] == []
    for path in RUNS.glob("*.toml"):
        read_recipe(path)


@needs_bash
@pytest.mark.parametrize("rehearsal", ["", "1"])
def test_a_dry_run_prints_and_writes_nothing(tmp_path: Path, rehearsal: str) -> None:
    for subset, annotator in (("metaclip", "a"), ("metaclip", "b"), ("sa1b", "a")):
        (tmp_path / f"gold_{subset}_merged_{annotator}_release_test.json").touch()
    before = sorted(tmp_path.iterdir())
    done = subprocess.run(
        ["bash", str(RUNS / "paper_s0.sh"), "--dry-run"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "GOLD": ".", "PROMPTS": "a.txt b/*.json", "REHEARSAL": rehearsal},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(tmp_path.iterdir()) == before
    for word in ("audit", "embed", "distill", "evaluate gold", "inspect", "convert"):
        assert f" litetext {word} " in done.stderr
    if not rehearsal:
        assert " litetext embed a.txt b/*.json -o " in done.stderr
        assert done.stderr.count("--hold-out") == 2
        assert done.stderr.count("litetext evaluate retention") == 2
        assert "_merged_a_release_test.json ./gold_metaclip_merged_b_release_test.json" in done.stderr


def random_teacher() -> ModuleType:
    spec = importlib.util.spec_from_file_location("random_teacher", RUNS / "random_teacher.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.torch
def test_stand_ins_are_what_the_commands_read(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from litetext.evaluation.gold import ANNOTATORS, SUBSETS, find_subsets
    from litetext.evaluation.predict import plan_predictions
    from litetext.prompts.corpus import PromptCorpus
    from litetext.prompts.readers import read_prompts

    stand_ins = random_teacher()
    stand_ins.write_gold(tmp_path / "gold", 6, 0)
    sets = find_subsets(tmp_path / "gold", tmp_path / "predictions")
    assert list(sets) == list(SUBSETS)
    for one in sets.values():
        assert len(one.truths) == ANNOTATORS
        plan = plan_predictions(one.truths[0], [tmp_path / "gold"], one.predictions, {})
        assert len(plan.pictures) == 1
    stand_ins.write_prompts(tmp_path / "prompts.txt", 100, 0)
    assert len(PromptCorpus.build(read_prompts([str(tmp_path / "prompts.txt")]))) == 100
