"""The Python client and the penstock command."""
