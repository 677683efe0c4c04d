"""The drop-in."""
