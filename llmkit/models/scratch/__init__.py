"""Models trained from scratch: named sizes, configs and word vectors."""
