"""Labels: spelling, order and meaning of class names, numbers and sentiments."""
