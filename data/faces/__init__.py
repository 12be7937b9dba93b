"""Faces: landmarks, tracking, alignment to the VoxCeleb2 template, pasting back."""
