"""The command line: a thin function per command; heavy imports stand inside the functions."""

from litetext.cli import (  # noqa: F401 - importing a file adds its commands
    app_command,
    audit_command,
    device_commands,
    distill_command,
    encoder_commands,
    evaluate_commands,
    evaluate_video,
    micro_commands,
    segment_command,
    track_command,
)
from litetext.cli._app import app, main, run

__all__ = ["app", "main", "run"]
