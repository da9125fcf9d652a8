"""Something to look at: tables of scores."""
