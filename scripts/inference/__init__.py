"""What test.py does with its rows."""
