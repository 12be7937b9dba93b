"""Command line in, frozen dataclasses out."""
