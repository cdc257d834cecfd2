"""Nothing that was put on a queue is lost: claims, the transport, and the worker on top of them, on a real server."""
