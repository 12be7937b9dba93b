"""Training the probe and measuring models on synthetic people."""
