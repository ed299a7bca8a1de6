"""Print an experiment's results as a Markdown table: mean and standard deviation over the seeds of each setting."""

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COLUMNS = {
    "cgF1": "student.cgf1",
    "cgF1 kept, %": "retention.cgf1",
    "IL_MCC": "student.il_mcc",
    "pmF1": "student.pmf1",
    "agreement": "agreement",
    "parameters": "parameters.student",
    "cgF1 as said": "order.normal.cgf1",
    "cgF1 shuffled": "order.shuffled.cgf1",
    "lost": "order.cgf1_lost",
    "cgF1, all pairs": "cgf1",
}


def dig(value: Any, path: str) -> float | None:
    """A number below nested keys; None where there is none."""
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return float(value) if isinstance(value, int | float) else None


def rows(folder: Path) -> Iterator[tuple[str, dict[str, list[float]]]]:
    """Each setting with its figures, in the order of the settings."""
    found: dict[str, dict[str, list[float]]] = {}
    for file in sorted(folder.glob("*.json")):
        setting = file.name.removesuffix(".json").rsplit("-", 1)[0]
        report = json.loads(file.read_text(encoding="utf-8"))
        for title, path in COLUMNS.items():
            number = dig(report, path)
            if number is not None:
                found.setdefault(setting, {}).setdefault(title, []).append(number)

    def order(setting: str) -> tuple[float, str]:
        try:
            return float(setting), setting
        except ValueError:
            return 0.0, setting

    for setting in sorted(found, key=order):
        yield setting, found[setting]


def main() -> None:
    """Print the table of a folder."""
    settings = list(rows(Path(sys.argv[1])))
    titles = [title for title in COLUMNS if any(title in figures for _, figures in settings)]
    print("| setting | seeds | " + " | ".join(titles) + " |")
    print("|---" * (len(titles) + 2) + "|")
    for setting, figures in settings:
        cells = []
        for title in titles:
            numbers = figures.get(title, [])
            spread = f" ± {statistics.stdev(numbers):.3g}" if len(numbers) > 1 and statistics.stdev(numbers) else ""
            form = ",.0f" if title == "parameters" else ".4g"
            cells.append(f"{statistics.mean(numbers):{form}}{spread}" if numbers else "")
        print(f"| {setting} | {max(map(len, figures.values()))} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
