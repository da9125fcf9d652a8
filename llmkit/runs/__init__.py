"""Run folders: manifest, checkpoints, locks, and the processes of a run."""
