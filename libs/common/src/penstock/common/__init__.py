"""Contracts and plumbing that every Penstock process shares."""
