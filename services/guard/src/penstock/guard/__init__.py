"""The guardrails: what may pass, what is changed, what is held."""
