"""The embedded micro SAM3: a synthetic dataset with exact ground truth."""
