"""The process that owns a device: from a task to a part of a reply."""
