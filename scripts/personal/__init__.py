"""A personal model: what a user's clips and photos become before training, and the training."""
