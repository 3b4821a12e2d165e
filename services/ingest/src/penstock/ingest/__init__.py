"""Takes documents in, parses them and cuts them into chunks."""
