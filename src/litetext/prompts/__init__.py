"""Prompts: the formats that they come in, their cleaning, and corpora with counts."""
