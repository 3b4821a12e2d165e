"""The HTTP calls, one module for each thing that they are about."""
