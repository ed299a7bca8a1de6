"""The page of LiteText as a Hugging Face Space: `python app.py` serves it at port 7860."""

import os
import sys

from litetext.cli import run

# Which model and text encoders; a larger model needs a Space with the memory for it, and litetext[sam3].
MODEL = os.environ.get("LITETEXT_MODEL", "micro")
ENCODERS = [one for one in os.environ.get("LITETEXT_TEXT_ENCODERS", "").split(",") if one]

if __name__ == "__main__":
    named = [word for one in ENCODERS for word in ("--text-encoder", one)]
    place = ["--host", "0.0.0.0", "--port", os.environ.get("PORT", "7860")]  # noqa: S104 - a Space is for everybody
    sys.exit(run(["app", "--model", MODEL, *named, *place]))
