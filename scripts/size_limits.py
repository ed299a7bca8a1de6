"""How large the package is, folder by folder; exit status 1 where it is larger than its limits.

A stranger has to be able to hold the package in the head: less code is a feature, and this counts it.
"""

import ast
import sys
from collections import Counter
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "litetext"
# 20,000 lines, 150 files and 170 classes were the limit before video: reading and writing clips, two ways of tracking,
# resuming, VEval's evaluator, clips of the micro world and comparisons on them take 4,900 lines. The whole segmenter
# without PyTorch takes 2,800: four graphs written node by node, their runtime and bundle, exact pixels, its benchmark.
# The first hour takes 1,700 (lists, contact sheet, YOLO; tables and COCO; notebooks; legible pages), calibrated
# scores and the classes of prompts 650.
# The page in the browser takes 1,220: four tabs, a server with limits, and loading what it compares.
# A Ray cluster takes 1,700: five classes for it, jobs of parts that resume, images in Parquet, and the commands that
# take --ray.
# Meta's own checkpoints as folders of transformers take 630, edges of masks 130, resuming `segment --ray` 40.
LIMITS = {"lines": 33_340, "files": 182, "classes": 226}
FILES_IN_A_FOLDER = 14
LINES_OF_A_FUNCTION = 60  # commands of the command line excepted: their options are their parameters


def main() -> int:
    """Print the table and what is beyond a limit."""
    files = sorted(SOURCE.rglob("*.py"))
    trees = {file: ast.parse(file.read_text("utf-8")) for file in files}
    lines = {file: len(file.read_text("utf-8").splitlines()) for file in files}
    classes = {file: sum(isinstance(node, ast.ClassDef) for node in ast.walk(tree)) for file, tree in trees.items()}
    folders = sorted({file.parent for file in files})
    print(f"{'folder':<20}{'files':>7}{'lines':>8}{'classes':>9}")
    for folder in folders:
        own = [file for file in files if file.parent == folder]
        name = folder.relative_to(SOURCE).as_posix()
        print(f"{name:<20}{len(own):>7}{sum(map(lines.get, own)):>8}{sum(map(classes.get, own)):>9}")  # type: ignore[arg-type]
    total = {"lines": sum(lines.values()), "files": len(files), "classes": sum(classes.values())}
    print(f"{'all':<20}{total['files']:>7}{total['lines']:>8}{total['classes']:>9}")
    beyond = [f"{total[name]:,} {name} (limit {limit:,})" for name, limit in LIMITS.items() if total[name] > limit]
    counts = Counter(file.parent for file in files)
    beyond += [
        f"{count} files in {folder.name} (limit {FILES_IN_A_FOLDER})"
        for folder, count in counts.items()
        if count > FILES_IN_A_FOLDER
    ]
    names = Counter(file.name for file in files if file.name != "__init__.py")
    beyond += [f"{count} files are called {name}" for name, count in names.items() if count > 1]
    for file, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and file.parent.name != "cli":
                size = (node.end_lineno or 0) - node.lineno + 1
                if size > LINES_OF_A_FUNCTION:
                    beyond.append(f"{file.relative_to(SOURCE)}: {node.name} has {size} lines")
    for line in beyond:
        print(f"beyond a limit: {line}", file=sys.stderr)
    return int(bool(beyond))


if __name__ == "__main__":
    sys.exit(main())
