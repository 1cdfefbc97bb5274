"""Settings classes to command-line flags, exceptions to messages and exit codes."""
