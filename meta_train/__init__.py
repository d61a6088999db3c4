"""How a learned optimizer is meta-trained."""
