"""Use: a saved model's answers."""
