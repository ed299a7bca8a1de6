"""Models that come with the package, by name."""

from pathlib import Path

# Names of folders in `FOLDER`. A folder of the user's that is called so is given as ./NAME.
SHIPPED = ("micro", "micro-student", "micro-student-xs")
FOLDER = Path(__file__).parents[1] / "weights"


def shipped_folder(name: str) -> Path | None:
    """The folder of a model that comes with the package; None if it is another name."""
    return FOLDER / name if name in SHIPPED else None
