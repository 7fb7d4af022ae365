"""How the checkpoint that ships with the project was made: its text, its training, its numbers."""
