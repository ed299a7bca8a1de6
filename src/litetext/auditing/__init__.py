"""Anatomy: what a set of prompts uses of a text encoder."""
