"""Bytes to values and back: IP, sealed datagrams, control frames, segmentation. Slow, obvious, exact."""
