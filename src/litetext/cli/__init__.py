"""The command line: a thin function per command; heavy imports stand inside the functions."""

from litetext.cli import (  # noqa: F401 - importing a command adds it
    audit,
    bank,
    bench,
    demo,
    distill,
    embed,
    encoders,
    evaluate,
    export,
    fold,
    lowrank,
    micro,
    prune,
    quantize,
    retention,
    segment,
)
from litetext.cli.app import main, run

__all__ = ["main", "run"]
