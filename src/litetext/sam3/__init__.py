"""SAM3 with any text encoder in it: load a host, swap its encoder, segment images by phrases."""
