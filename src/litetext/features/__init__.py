"""Features of phrases: encoded once, checked once, compared and stored in one way."""
