"""Data: sources are read verbatim into rows of strings; invalid rows are reported with file, line and fix."""
