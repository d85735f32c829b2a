"""A chain on which OpenGradient's contracts stand, by their doubles: for demonstrations and tests."""
