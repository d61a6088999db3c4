"""What a run leaves: artifacts, and how their runs are begun and made again."""
