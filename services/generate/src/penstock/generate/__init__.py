"""Plans questions and writes cited answers."""
