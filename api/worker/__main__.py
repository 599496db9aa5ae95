"""``python -m api.worker --fd N``: started by the front, never by hand."""

import sys


def run() -> int:
    """Return the worker's exit status: 1, and tell the front why, where its modules cannot even be
    imported."""
    try:
        from api.worker.process import main
    except Exception as error:  # torch without its libraries, a package shadowed by another of its name
        import socket

        from api.protocol import wire
        from api.protocol.messages import Failed

        message = f"the worker's modules cannot be imported: {type(error).__name__}: {error}"
        with socket.socket(fileno=int(sys.argv[-1])) as connection:
            connection.sendall(b"".join(wire.packed(Failed(message))))
        return 1
    return main()


if __name__ == "__main__":
    sys.exit(run())
