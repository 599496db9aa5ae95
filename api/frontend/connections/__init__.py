"""Connections of clients: how many, how large a head may be, how long each step of a request may take."""
