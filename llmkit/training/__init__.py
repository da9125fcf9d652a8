"""Learning: one run from recipe to sealed folder, on the Hugging Face Trainer."""
