"""From a request to the bytes of the pictures it carries."""
