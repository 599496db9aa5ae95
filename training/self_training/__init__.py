"""From pictures whose class is known to labels with boxes, by what a detector finds of that class."""
