"""From a teacher to a student: a cache of the teacher's features, and the training on it."""
