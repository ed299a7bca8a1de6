"""The embedded micro SAM3: a drawn world whose truth is known."""
