"""Machines wired to adapters, and nothing else."""
