"""The run folder: what a run leaves behind, and what proves where it came from."""
