"""Inner training: what one worker does."""
