"""The engine of scripts/personalize.py: a model of one person from a short clip or a photo."""
