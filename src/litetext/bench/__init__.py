"""The benchmark: every way to run the same text encoder, side by side in one run, each in a fresh process."""
