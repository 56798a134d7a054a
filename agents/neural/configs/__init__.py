"""Settings of the neural agents, each under its agent's module name; none imports torch, so that help is quick."""
