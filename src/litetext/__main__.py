"""``python -m litetext`` is the command line."""

from litetext.cli import main

main()
