"""The real worker as a process of its own, on real servers, while things break."""
