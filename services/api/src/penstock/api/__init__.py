"""The HTTP door: documents, questions, jobs."""
