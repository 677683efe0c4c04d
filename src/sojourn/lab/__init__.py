"""A small internet in network namespaces, with scenarios that play on it."""
