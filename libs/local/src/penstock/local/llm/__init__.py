"""`penstock llm`: a small model on this machine that writes the answers (extra `local-llm`)."""
