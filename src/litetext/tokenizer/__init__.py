"""From text to token ids: CLIP's byte-pair encoding as SAM3 uses it, and padded batches."""
