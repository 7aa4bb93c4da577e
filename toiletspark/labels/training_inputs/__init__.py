"""training_inputs."""
