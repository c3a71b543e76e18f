"""What goes on inside a model while it hears a recording: gates, gradients, posteriors."""
