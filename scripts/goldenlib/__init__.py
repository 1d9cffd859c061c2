"""What scripts/golden.py is made of: one module per family of golden files, and what they share."""
