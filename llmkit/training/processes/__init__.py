"""Processes: launch, strategies, signals and Slurm."""
