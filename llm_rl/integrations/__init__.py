"""Tasks and training in other libraries: TRL, verl, verifiers."""
