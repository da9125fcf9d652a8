"""Reports for people: score tables, the dry-run estimate, and the checks of `llmkit doctor`."""
