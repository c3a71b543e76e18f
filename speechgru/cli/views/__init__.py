"""What `listen` shows: the live panel, event lines and explanations."""
