"""How the micro tracker is trained."""
