"""Cleaning of a corpus: functions of one document, the table of steps that calls them, and a duplicate index."""
