"""LiteText: measure what the prompts use, then give the segmenter a text encoder of that size.

The public names stand in ``__init__.pyi``, each with its module; they are imported when they are first used, so that
``import litetext`` costs nothing.
"""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
_MODULES = {name: module for module, name in re.findall(r"^from (\S+) import (\w+) as", _TABLE, re.MULTILINE)}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("litetext")
    elif name == "__all__":
        value = sorted(_MODULES)
    elif name in _MODULES:
        value = getattr(import_module(_MODULES[name]), name)
    else:
        raise AttributeError(f"module 'litetext' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return [*sorted(_MODULES), "__version__"]
