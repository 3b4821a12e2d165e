"""The penstock command, a module per group of subcommands."""
