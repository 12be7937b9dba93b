"""Errors, logging, files, ffmpeg, checkpoints: what every room of the house uses."""
