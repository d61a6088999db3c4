"""How an optimizer is judged."""
