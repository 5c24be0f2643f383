"""What a person talks to: the chat in the terminal."""
