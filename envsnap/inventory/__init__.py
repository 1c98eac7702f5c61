"""What is in a base image, read from the bytes of its layers alone: nothing of it is run."""
