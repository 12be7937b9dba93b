"""Command-line tools around test.py and train.py."""
