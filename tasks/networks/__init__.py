"""What families are made of: layers, attention, draws and objectives."""
