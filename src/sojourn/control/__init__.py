"""What decides: which network is best, from what was measured, and why; configuration."""
