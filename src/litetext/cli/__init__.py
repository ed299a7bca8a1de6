"""The command line: a thin function per command; heavy imports stand inside the functions."""

from litetext.cli import audit, demo, embed, encoders, evaluate, micro, segment  # noqa: F401 - importing a command adds it
from litetext.cli.app import main, run

__all__ = ["main", "run"]
