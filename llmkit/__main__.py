"""Runs the command line as `python -m llmkit`, for launchers that start modules."""

from llmkit.cli import main

if __name__ == "__main__":
    main()
