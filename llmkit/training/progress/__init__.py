"""Progress: log events, throughput and trackers."""
