"""Videos: a clip and phrases in, tracked masks out."""
