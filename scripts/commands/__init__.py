"""One module for each command, with ``main(argv) -> exit status``; imported only when the command is given."""
