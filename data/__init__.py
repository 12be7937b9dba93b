"""From files to tensors: metadata, audio, frames, alignment, datasets."""
