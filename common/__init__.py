"""What all commands share: settings, flags, names, the disk and the machine."""
