"""The training of the micro SAM3: `python -m recipes.micro --help`."""
