"""Training of classifiers of whole pictures."""
