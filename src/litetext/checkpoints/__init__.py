"""Files of encoders: recognized by their keys, read strictly, converted, written."""
