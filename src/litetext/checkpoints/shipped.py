"""Models that come with the package, by name."""

from importlib.resources import files
from pathlib import Path

# The package and the folder in it. A folder of the user's that is called so is given as ./NAME.
SHIPPED = {
    "micro": ("litetext.micro", "weights"),
    "micro-student": ("litetext.micro", "student"),
    "micro-student-xs": ("litetext.micro", "student_xs"),
}


def shipped_folder(name: str) -> Path | None:
    """The folder of a model that comes with the package; None if it is another name."""
    if name not in SHIPPED:
        return None
    package, folder = SHIPPED[name]
    return Path(str(files(package).joinpath(folder)))
