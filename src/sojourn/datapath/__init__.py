"""What moves packets by the table, behind one interface (base.py)."""
