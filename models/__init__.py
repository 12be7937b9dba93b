"""Networks, the model that puts them together, losses and trainers; tensors in, tensors out."""
