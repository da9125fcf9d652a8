"""Recipes: loading and checking, and the catalog of shipped recipes; their schema is in llmkit/schema.py."""
