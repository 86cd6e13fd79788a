"""The command line. Each command parses its flags, calls a function of another room and prints the result."""
