"""Synthetic talking heads with ground truth: people, voices, motion, pictures, clips."""
