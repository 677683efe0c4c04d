"""Adapters to this kernel: they translate and never decide. An OSError stops here."""
