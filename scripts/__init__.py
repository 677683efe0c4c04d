"""Programs that serve the making of Sojourn, not its use."""
