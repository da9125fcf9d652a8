"""Training: runs a recipe from input files to a sealed run folder, on the Hugging Face Trainer."""
