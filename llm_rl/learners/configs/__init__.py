"""Settings of the learners, each under its learner's module name; none imports torch, so that help is quick."""
