"""The index: writes it, searches it."""
