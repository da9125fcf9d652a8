"""What to do: the recipe's sections, its loader, and the recipes that ship with llmkit."""
