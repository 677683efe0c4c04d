"""Where an anchor keeps what must survive it."""
