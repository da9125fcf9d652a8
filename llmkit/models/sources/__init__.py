"""Model sources: references, files and the Hub."""
