"""Measures of generated against real video: arrays in, numbers out.

All functions take frames as (H, W, 3) uint8 BGR, as OpenCV reads them, and number frames from 0 at 25 fps; frame i
lies at i / 25 s of the sound. Which frame of one video belongs to which of another is the caller's business.
"""
