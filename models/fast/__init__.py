"""Forms of the networks for inference on a CPU."""
