"""What `llmkit doctor` looks at, each part in a file of its own; `examine` gives every finding."""
